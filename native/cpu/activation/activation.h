// What the files of the activation family share.
#pragma once

#include "cpu/device.h"

namespace cudamoe::cpu {

cudamoe_status gated_product_forward(void* stream, const cudamoe_gated_product_forward_args& args);
cudamoe_status gated_product_backward(void* stream, const cudamoe_gated_product_backward_args& args);

}  // namespace cudamoe::cpu
