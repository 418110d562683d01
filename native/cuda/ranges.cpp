// Every operation as a range of its name in profilers, so that a timeline shows which call launched a kernel.
#include "cuda/device.h"
#include "cuda/platform.h"

namespace cudamoe::cuda {
namespace {

class Range {
 public:
  explicit Range(const char* name) { range_begin(name); }
  ~Range() { range_end(); }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
};

template <class Args>
using Operation = cudamoe_status (*)(void* stream, const Args& args);

}  // namespace

void name_ranges(Backend& table) {
#define CUDAMOE_RANGE(name)                                              \
  {                                                                      \
    static Operation<cudamoe_##name##_args> run = nullptr;               \
    run = table.name;                                                    \
    if (run != nullptr) {                                                \
      table.name = [](void* stream, const cudamoe_##name##_args& args) { \
        const Range range("cudamoe_" #name);                             \
        return run(stream, args);                                        \
      };                                                                 \
    }                                                                    \
  }
  CUDAMOE_OPERATIONS(CUDAMOE_RANGE)
#undef CUDAMOE_RANGE
}

}  // namespace cudamoe::cuda
