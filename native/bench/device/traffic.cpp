#include "device/traffic.h"

#include <dlfcn.h>

#include <stdexcept>

#include "cudamoe.h"

namespace cudamoe::bench {
namespace {

using Take = void (*)(int64_t (&)[6]);

Take find_take() {
  for (int32_t i = 0; i < cudamoe_backend_count(); ++i) {
    cudamoe_backend_info info{};
    info.struct_size = sizeof info;
    if (cudamoe_backend_get_info(i, &info) != CUDAMOE_OK || info.library[0] == '\0') continue;
    void* library = dlopen(info.library, RTLD_NOW | RTLD_NOLOAD);
    if (library == nullptr) continue;
    if (void* function = dlsym(library, "cudamoe_simt_take_traffic")) return reinterpret_cast<Take>(function);
  }
  throw std::runtime_error("no plug-in counts what it moves: build the target cudamoe_traffic");
}

}  // namespace

CountedTraffic take_traffic() {
  static const Take take = find_take();
  int64_t numbers[6] = {};
  take(numbers);
  return {numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]};
}

}  // namespace cudamoe::bench
