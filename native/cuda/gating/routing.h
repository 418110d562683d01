// The routing operation, for other families that sort by it.
#pragma once

#include "cuda/device.h"

namespace cudamoe::cuda {

int64_t routing_workspace(void* stream, const cudamoe_routing_args& args);
cudamoe_status routing(void* stream, const cudamoe_routing_args& args);

}  // namespace cudamoe::cuda
