#include "cpu/loss/loss.h"

namespace cudamoe::cpu {

void register_loss(Backend& table) {
  table.loss_workspace = loss_workspace;
  table.loss = loss;
  table.joint_logits_forward = joint_logits_forward;
  table.joint_logits_backward = joint_logits_backward;
}

}  // namespace cudamoe::cpu
