#include "cpu/device.h"
#include "cpu/expert/expert.h"

namespace cudamoe::cpu {

void register_expert(Backend& table) {
  table.expert_forward = expert_forward;
  table.expert_forward_workspace = expert_forward_workspace;
  table.expert_mix = expert_mix;
  table.expert_mix_workspace = expert_mix_workspace;
}

}  // namespace cudamoe::cpu
