// A row in the registers of a part of a warp: kLanes lanes hold kQuads runs of four columns each; run v of lane l begins at column
// 4 (v kLanes + l). Wider rows take a block of kWideThreads threads.
#pragma once

#include "common/kernel.cuh"
#include "common/quad.cuh"
#include "norm/norm.h"

namespace cudamoe::kernels {

inline constexpr int kWideThreads = 256;

// The sum over each kLanes neighbouring lanes, in all of them, by a butterfly.
template <int kLanes>
CUDAMOE_DEVICE float sum_of_lanes(float value) {
  CUDAMOE_UNROLL
  for (int bits = kLanes / 2; bits > 0; bits /= 2) value += shuffle_xor(kFullWarp, value, bits);
  return value;
}

// Calls use.template operator()<kLanes, kQuads>() for the fewest that hold a row, or <0, 0> where a warp's registers do not.
template <class Use>
cudaError_t for_row_shape(int64_t width, Use&& use) {
  if (width <= 32) return use.template operator()<8, 1>();
  if (width <= 64) return use.template operator()<16, 1>();
  if (width <= 128) return use.template operator()<32, 1>();
  if (width <= 256) return use.template operator()<32, 2>();
  if (width <= 512) return use.template operator()<32, 4>();
  if (width <= 1024) return use.template operator()<32, 8>();
  return use.template operator()<0, 0>();
}

}  // namespace cudamoe::kernels
