// Many sums over a warp at once: 31 shuffles for 32 of them, where one after the other they take 160.
#pragma once

#include "common/warp.cuh"

namespace cudamoe::kernels {

namespace detail {

// Folds the half of the values that the lane gives away into its partner's, down to kLeft values; recursive, so that every index is a
// constant and the values stay in registers.
template <int kHalf, int kLeft, int kCount, class T>
CUDAMOE_DEVICE void fold_sums(T (&values)[kCount], int lane) {
  constexpr int kBits = kHalf / kLeft;
  const bool upper = (lane & kBits) != 0;
  CUDAMOE_UNROLL
  for (int k = 0; k < kHalf; ++k) {
    const T kept = upper ? values[k + kHalf] : values[k], given = upper ? values[k] : values[k + kHalf];
    values[k] = kept + shuffle_xor(kFullWarp, given, kBits);
  }
  if constexpr (kHalf > kLeft) fold_sums<kHalf / 2, kLeft>(values, lane);
}

}  // namespace detail

// values[k] of all lanes are summed for each k < kCount, 32 times a power of two. Lane l gets the sums of the values
// l * kCount / 32 + k in values[k], k < kCount / 32. The tree, and so the bits, are those of warp_sum.
template <int kCount, class T>
CUDAMOE_DEVICE void warp_sums(T (&values)[kCount]) {
  static_assert(kCount % kWarp == 0 && (kCount & (kCount - 1)) == 0);
  detail::fold_sums<kCount / 2, kCount / kWarp>(values, lane_id());
}

// The same over each kLanes neighbouring lanes, for any power of two of values: of the kLanes, lane l gets the sums of the values
// l % kHolders * kLeft + k in values[k], k < kLeft, where kHolders is the smaller of kCount and kLanes and kLeft = kCount / kHolders.
template <int kLanes, int kCount, class T>
CUDAMOE_DEVICE void lane_sums(T (&values)[kCount]) {
  static_assert(kLanes <= kWarp && (kLanes & (kLanes - 1)) == 0 && (kCount & (kCount - 1)) == 0);
  constexpr int kHolders = kCount < kLanes ? kCount : kLanes;
  if constexpr (kHolders > 1) detail::fold_sums<kCount / 2, kCount / kHolders>(values, lane_id());
  CUDAMOE_UNROLL
  for (int bits = kHolders; bits < kLanes; bits *= 2) values[0] += shuffle_xor(kFullWarp, values[0], bits);
}

}  // namespace cudamoe::kernels
