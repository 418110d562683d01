// Warp operations. Each names the lanes that take part; all of them must call it, with the same mask. The executor reports a lane that
// is not in its own mask, lanes that meet with different masks or in different operations, and a value taken from a lane outside.
#pragma once

#include "common/index.cuh"
#include "common/target.cuh"

namespace cudamoe::kernels {

#if defined(__CUDACC__)

CUDAMOE_DEVICE void sync_warp(uint32_t mask = kFullWarp) { __syncwarp(mask); }

// The value of lane `source` of each group of `width` lanes, of the lane `distance` below or above, of the lane with the bits of `bits`
// flipped. Where there is no such lane in the group, the caller's own value.
template <class T>
CUDAMOE_DEVICE T shuffle(uint32_t mask, T value, int source, int width = kWarp) {
  return __shfl_sync(mask, value, source, width);
}
template <class T>
CUDAMOE_DEVICE T shuffle_up(uint32_t mask, T value, int distance, int width = kWarp) {
  return __shfl_up_sync(mask, value, static_cast<unsigned>(distance), width);
}
template <class T>
CUDAMOE_DEVICE T shuffle_down(uint32_t mask, T value, int distance, int width = kWarp) {
  return __shfl_down_sync(mask, value, static_cast<unsigned>(distance), width);
}
template <class T>
CUDAMOE_DEVICE T shuffle_xor(uint32_t mask, T value, int bits, int width = kWarp) {
  return __shfl_xor_sync(mask, value, bits, width);
}

CUDAMOE_DEVICE uint32_t ballot(uint32_t mask, bool value) { return __ballot_sync(mask, value); }
CUDAMOE_DEVICE bool any_lane(uint32_t mask, bool value) { return __any_sync(mask, value) != 0; }
CUDAMOE_DEVICE bool all_lanes(uint32_t mask, bool value) { return __all_sync(mask, value) != 0; }
// Lanes of the mask that hold the caller's value.
CUDAMOE_DEVICE uint32_t match_any(uint32_t mask, uint32_t value) { return __match_any_sync(mask, value); }
CUDAMOE_DEVICE uint32_t reduce_add(uint32_t mask, uint32_t value) { return __reduce_add_sync(mask, value); }
CUDAMOE_DEVICE uint32_t reduce_min(uint32_t mask, uint32_t value) { return __reduce_min_sync(mask, value); }
CUDAMOE_DEVICE uint32_t reduce_max(uint32_t mask, uint32_t value) { return __reduce_max_sync(mask, value); }

#else

CUDAMOE_DEVICE void sync_warp(uint32_t mask = kFullWarp CUDAMOE_SITE) { simt::meet(mask, simt::WarpOperation::kSync, nullptr, 0, site); }

namespace detail {

// The value that lane `source` brought, or the caller's own when `inside` is false.
template <class T>
T shuffled(uint32_t mask, T value, int source, bool inside, simt::Site site) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
  const simt::Exchange lanes = simt::meet(mask, simt::WarpOperation::kShuffle, &value, sizeof(T), site);
  if (!inside) return value;
  if (!lanes.has(source))
    simt::report(simt::Finding::kInactiveLane, site, "a shuffle reads lane %d; the lanes are %#010x", source, lanes.present());
  return lanes.from<T>(source);
}

}  // namespace detail

template <class T>
T shuffle(uint32_t mask, T value, int source, int width = kWarp CUDAMOE_SITE) {
  const int lane = simt::lane_of_current();
  return detail::shuffled(mask, value, lane / width * width + (source & (width - 1)), true, site);
}
template <class T>
T shuffle_up(uint32_t mask, T value, int distance, int width = kWarp CUDAMOE_SITE) {
  const int lane = simt::lane_of_current();
  return detail::shuffled(mask, value, lane - distance, lane % width >= distance, site);
}
template <class T>
T shuffle_down(uint32_t mask, T value, int distance, int width = kWarp CUDAMOE_SITE) {
  const int lane = simt::lane_of_current();
  return detail::shuffled(mask, value, lane + distance, lane % width + distance < width, site);
}
template <class T>
T shuffle_xor(uint32_t mask, T value, int bits, int width = kWarp CUDAMOE_SITE) {
  const int lane = simt::lane_of_current();
  const int source = lane ^ bits;
  // A lane of a later group of lanes is out of reach, one of an earlier group is not.
  return detail::shuffled(mask, value, source, source < (lane / width + 1) * width, site);
}

namespace detail {

template <class Fold>
uint32_t folded(uint32_t mask, simt::WarpOperation operation, uint32_t value, uint32_t start, simt::Site site, Fold&& fold) {
  const simt::Exchange lanes = simt::meet(mask, operation, &value, sizeof value, site);
  uint32_t result = start;
  for (int lane = 0; lane < kWarp; ++lane) {
    if (lanes.has(lane)) result = fold(result, lanes.from<uint32_t>(lane), lane);
  }
  return result;
}

}  // namespace detail

CUDAMOE_DEVICE uint32_t ballot(uint32_t mask, bool value CUDAMOE_SITE) {
  return detail::folded(mask, simt::WarpOperation::kVote, value, 0, site,
                        [](uint32_t sum, uint32_t v, int lane) { return sum | v << lane; });
}
CUDAMOE_DEVICE bool any_lane(uint32_t mask, bool value CUDAMOE_SITE) { return ballot(mask, value CUDAMOE_PASS_SITE) != 0; }
CUDAMOE_DEVICE bool all_lanes(uint32_t mask, bool value CUDAMOE_SITE) { return ballot(mask, !value CUDAMOE_PASS_SITE) == 0; }
CUDAMOE_DEVICE uint32_t match_any(uint32_t mask, uint32_t value CUDAMOE_SITE) {
  return detail::folded(mask, simt::WarpOperation::kMatch, value, 0, site,
                        [value](uint32_t sum, uint32_t v, int lane) { return sum | (v == value ? 1u << lane : 0u); });
}
CUDAMOE_DEVICE uint32_t reduce_add(uint32_t mask, uint32_t value CUDAMOE_SITE) {
  return detail::folded(mask, simt::WarpOperation::kReduce, value, 0, site, [](uint32_t sum, uint32_t v, int) { return sum + v; });
}
CUDAMOE_DEVICE uint32_t reduce_min(uint32_t mask, uint32_t value CUDAMOE_SITE) {
  return detail::folded(mask, simt::WarpOperation::kReduce, value, ~0u, site,
                        [](uint32_t low, uint32_t v, int) { return v < low ? v : low; });
}
CUDAMOE_DEVICE uint32_t reduce_max(uint32_t mask, uint32_t value CUDAMOE_SITE) {
  return detail::folded(mask, simt::WarpOperation::kReduce, value, 0, site,
                        [](uint32_t high, uint32_t v, int) { return v > high ? v : high; });
}

#endif

// The sum, the largest, the smallest of all lanes' values in every lane, by a butterfly: the same tree, and so the same bits, in all of
// them.
template <class T>
CUDAMOE_DEVICE T warp_sum(T value CUDAMOE_SITE) {
  CUDAMOE_UNROLL
  for (int bits = kWarp / 2; bits > 0; bits /= 2) value += shuffle_xor(kFullWarp, value, bits, kWarp CUDAMOE_PASS_SITE);
  return value;
}
template <class T>
CUDAMOE_DEVICE T warp_max(T value CUDAMOE_SITE) {
  CUDAMOE_UNROLL
  for (int bits = kWarp / 2; bits > 0; bits /= 2) {
    const T other = shuffle_xor(kFullWarp, value, bits, kWarp CUDAMOE_PASS_SITE);
    value = value < other ? other : value;
  }
  return value;
}

template <class T>
CUDAMOE_DEVICE T warp_min(T value CUDAMOE_SITE) {
  CUDAMOE_UNROLL
  for (int bits = kWarp / 2; bits > 0; bits /= 2) {
    const T other = shuffle_xor(kFullWarp, value, bits, kWarp CUDAMOE_PASS_SITE);
    value = other < value ? other : value;
  }
  return value;
}

}  // namespace cudamoe::kernels
