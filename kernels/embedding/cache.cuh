// Where a row of a table with a cache lies.
//
// Row r may lie in one of the kCacheWays places of set r % sets; their tags are one sector of 32 bytes, which is all that finding it reads.
#pragma once

#include "common/kernel.cuh"
#include "embedding/embedding.h"

namespace cudamoe::kernels {

inline constexpr int32_t kNotCached = -1;

// The place of a row in a cache, or kNotCached. Without sets there is no cache.
CUDAMOE_DEVICE int32_t place_of_row(const uint32_t* tags, int32_t sets, int32_t row) {
  if (sets == 0) return kNotCached;
  const int32_t first = row % sets * kCacheWays;
  const auto wanted = static_cast<uint32_t>(row) + 1;
  const Vector<uint32_t, 4> low = load<4>(tags + first), high = load<4>(tags + first + 4);
  int32_t place = kNotCached;
  CUDAMOE_UNROLL
  for (int way = 0; way < kCacheWays; ++way) {
    if ((way < 4 ? low[way % 4] : high[way % 4]) == wanted) place = first + way;
  }
  return place;
}

}  // namespace cudamoe::kernels
