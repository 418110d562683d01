// Ranges by NVTX, in a domain of their own.
#include <nvtx3/nvToolsExt.h>

#include "cuda/platform.h"

namespace cudamoe::cuda {
namespace {

nvtxDomainHandle_t profiler_domain() {
  static const nvtxDomainHandle_t domain = nvtxDomainCreateA("CudaMoE");
  return domain;
}

}  // namespace

void range_begin(const char* name) {
  nvtxEventAttributes_t attributes{};
  attributes.version = NVTX_VERSION;
  attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  attributes.messageType = NVTX_MESSAGE_TYPE_ASCII;
  attributes.message.ascii = name;
  nvtxDomainRangePushEx(profiler_domain(), &attributes);
}

void range_end() { nvtxDomainRangePop(profiler_domain()); }

}  // namespace cudamoe::cuda
