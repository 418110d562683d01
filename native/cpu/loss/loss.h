// What the files of the loss family share.
#pragma once

#include "cpu/device.h"

namespace cudamoe::cpu {

// What one block of rows of one task adds up to.
struct LossPartial {
  double loss;      // weighted
  double weight;    // of the valid rows
  int64_t bad_row;  // first row whose label or weight breaks its rule, or -1
};

int64_t loss_workspace(void* stream, const cudamoe_loss_args& args);
cudamoe_status loss(void* stream, const cudamoe_loss_args& args);
cudamoe_status joint_logits_forward(void* stream, const cudamoe_joint_logits_forward_args& args);
cudamoe_status joint_logits_backward(void* stream, const cudamoe_joint_logits_backward_args& args);

}  // namespace cudamoe::cpu
