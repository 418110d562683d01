// No profiler looks at the executor.
#include "cuda/platform.h"

namespace cudamoe::cuda {

void range_begin(const char*) {}

void range_end() {}

}  // namespace cudamoe::cuda
