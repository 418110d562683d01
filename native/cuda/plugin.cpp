// The door of the plug-in, and where its messages go: to the library that opened it, which the caller asks for them.
#include "core/backend.h"
#include "core/error.h"

namespace cudamoe {
namespace {

Host host{};

}  // namespace

void store_message(const char* text) noexcept { host.store_message(text); }

namespace cuda {
const Backend& backend();
}

}  // namespace cudamoe

#if defined(_WIN32)
#define CUDAMOE_PLUGIN_API extern "C" __declspec(dllexport)
#else
#define CUDAMOE_PLUGIN_API extern "C" __attribute__((visibility("default")))
#endif

CUDAMOE_PLUGIN_API const cudamoe::Backend* cudamoe_backend_entry(const cudamoe::Host* host) {
  if (host->version != cudamoe::kBackendVersion) return nullptr;
  cudamoe::host = *host;
  return &cudamoe::cuda::backend();
}
