#include "cpu/norm/norm.h"

namespace cudamoe::cpu {

void register_norm(Backend& table) {
  table.layer_norm_forward = layer_norm_forward;
  table.layer_norm_backward_workspace = layer_norm_backward_workspace;
  table.layer_norm_backward = layer_norm_backward;
  table.rms_norm_forward = rms_norm_forward;
  table.rms_norm_backward_workspace = rms_norm_backward_workspace;
  table.rms_norm_backward = rms_norm_backward;
}

}  // namespace cudamoe::cpu
