#include "cpu/activation/activation.h"

namespace cudamoe::cpu {

void register_activation(Backend& table) {
  table.gated_product_forward = gated_product_forward;
  table.gated_product_backward = gated_product_backward;
}

}  // namespace cudamoe::cpu
