// The entries of the expert family in the cpu backend's table.
#pragma once

#include "cudamoe.h"

namespace cudamoe::cpu {

int64_t expert_forward_workspace(void* stream, const cudamoe_expert_forward_args& args);
cudamoe_status expert_forward(void* stream, const cudamoe_expert_forward_args& args);
int64_t expert_mix_workspace(void* stream, const cudamoe_expert_mix_args& args);
cudamoe_status expert_mix(void* stream, const cudamoe_expert_mix_args& args);

}  // namespace cudamoe::cpu
