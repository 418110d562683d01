// Running sums of integers over the lanes of a warp, and by one warp over an array.
#pragma once

#include "common/index.cuh"
#include "common/warp.cuh"

namespace cudamoe::kernels {

// The sum of the values of the lanes up to the caller, its own included. All lanes call it.
CUDAMOE_DEVICE uint32_t warp_inclusive_sum(uint32_t value) {
  CUDAMOE_UNROLL
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const uint32_t below = shuffle_up(kFullWarp, value, distance);
    if (lane_id() >= distance) value += below;
  }
  return value;
}

// Puts in the place of each of `count` values the sum of those before it, and answers the sum of all. All lanes call it. kReads: values
// that a lane reads before it waits for one.
template <int kReads = 1>
CUDAMOE_DEVICE uint32_t warp_exclusive_sums(uint32_t* values, int64_t count) {
  uint32_t before = 0;
  for (int64_t first = lane_id(); first - lane_id() < count; first += kReads * kWarp) {
    uint32_t own[kReads];
    CUDAMOE_UNROLL
    for (int i = 0; i < kReads; ++i) own[i] = first + i * kWarp < count ? values[first + i * kWarp] : 0u;
    CUDAMOE_UNROLL
    for (int i = 0; i < kReads; ++i) {
      const uint32_t up_to_this = warp_inclusive_sum(own[i]);
      if (first + i * kWarp < count) values[first + i * kWarp] = before + up_to_this - own[i];
      before += shuffle(kFullWarp, up_to_this, kWarp - 1);
    }
  }
  return before;
}

}  // namespace cudamoe::kernels
