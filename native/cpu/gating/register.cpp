#include "cpu/gating/gating.h"

namespace cudamoe::cpu {

void register_gating(Backend& table) {
  table.gate_forward = gate_forward;
  table.gate_forward_workspace = gate_forward_workspace;
  table.gate_backward = gate_backward;
  table.routing = routing;
  table.routing_workspace = routing_workspace;
  table.group_capacity = group_capacity;
}

}  // namespace cudamoe::cpu
