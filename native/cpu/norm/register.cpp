#include "cpu/norm/norm.h"

namespace cudamoe::cpu {

void register_norm(Backend& table) {
  table.layer_norm_forward = layer_norm_forward;
  table.layer_norm_backward_workspace = layer_norm_backward_workspace;
  table.layer_norm_backward = layer_norm_backward;
}

}  // namespace cudamoe::cpu
