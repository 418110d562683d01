#include "cpu/combine/combine.h"

namespace cudamoe::cpu {

void register_combine(Backend& table) {
  table.combine_forward = combine_forward;
  table.combine_backward_workspace = combine_backward_workspace;
  table.combine_backward = combine_backward;
}

}  // namespace cudamoe::cpu
