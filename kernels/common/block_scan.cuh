// The running sum over the threads of a block, of integers.
#pragma once

#include "common/index.cuh"
#include "common/shared.cuh"
#include "common/sync.cuh"
#include "common/warp_scan.cuh"

namespace cudamoe::kernels {

// The sum of the values of the threads before the caller; `total` becomes that of all. All kThreads threads of the block (whole warps)
// call it.
template <int kThreads>
CUDAMOE_DEVICE uint32_t block_exclusive_sum(uint32_t value, uint32_t* total) {
  static_assert(kThreads % kWarp == 0);
  constexpr int kWarps = kThreads / kWarp;
  CUDAMOE_SHARED(uint32_t, sums, [kWarps]);
  const uint32_t inclusive = warp_inclusive_sum(value);
  if (lane_id() == kWarp - 1) sums[warp_id()] = inclusive;
  sync_block();
  uint32_t before = 0, all = 0;
  for (int w = 0; w < kWarps; ++w) {
    const uint32_t sum = sums[w];
    if (w < warp_id()) before += sum;
    all += sum;
  }
  sync_block();  // before the next call writes
  *total = all;
  return before + inclusive - value;
}

}  // namespace cudamoe::kernels
