// Reductions over a block in a fixed tree: in each warp by a butterfly, then the warps in ascending order. The same bits every time.
#pragma once

#include "common/index.cuh"
#include "common/shared.cuh"
#include "common/sync.cuh"
#include "common/warp.cuh"

namespace cudamoe::kernels {

// All kThreads threads of the block (whole warps) call it; thread 0 gets the sum, the others a part of it.
template <int kThreads, class T>
CUDAMOE_DEVICE T block_sum(T value) {
  static_assert(kThreads % kWarp == 0);
  CUDAMOE_SHARED(T, partial, [kThreads / kWarp]);
  value = warp_sum(value);
  if (lane_id() == 0) partial[warp_id()] = value;
  sync_block();
  if (thread_rank() == 0) {
    for (int w = 1; w < kThreads / kWarp; ++w) value += partial[w];
  }
  sync_block();  // before the next call writes
  return value;
}

// The same for the smallest value.
template <int kThreads, class T>
CUDAMOE_DEVICE T block_min(T value) {
  static_assert(kThreads % kWarp == 0);
  CUDAMOE_SHARED(T, partial, [kThreads / kWarp]);
  value = warp_min(value);
  if (lane_id() == 0) partial[warp_id()] = value;
  sync_block();
  if (thread_rank() == 0) {
    for (int w = 1; w < kThreads / kWarp; ++w) {
      const T other = partial[w];
      value = other < value ? other : value;
    }
  }
  sync_block();
  return value;
}

}  // namespace cudamoe::kernels
