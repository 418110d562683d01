// What samples of a kernel's results showed beside the same sums in double precision; see native/cuda/trials/trials.h.
#pragma once

#include <cstdint>

namespace cudamoe::kernels {

struct SampleCounts {
  uint32_t samples;      // compared
  uint32_t informative;  // of them those whose sum has a term that is not zero
  uint32_t wrong;
};

}  // namespace cudamoe::kernels
