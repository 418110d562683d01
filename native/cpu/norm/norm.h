// What the files of the norm family share.
#pragma once

#include "cpu/device.h"

namespace cudamoe::cpu {

cudamoe_status layer_norm_forward(void* stream, const cudamoe_layer_norm_forward_args& args);
int64_t layer_norm_backward_workspace(void* stream, const cudamoe_layer_norm_backward_args& args);
cudamoe_status layer_norm_backward(void* stream, const cudamoe_layer_norm_backward_args& args);
cudamoe_status rms_norm_forward(void* stream, const cudamoe_rms_norm_forward_args& args);
int64_t rms_norm_backward_workspace(void* stream, const cudamoe_rms_norm_backward_args& args);
cudamoe_status rms_norm_backward(void* stream, const cudamoe_rms_norm_backward_args& args);

}  // namespace cudamoe::cpu
