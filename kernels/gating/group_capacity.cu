// A capacity within groups of neighbouring pairs. Each pair counts the pairs of its group before it that have its expert.
//
// Floor: 8 bytes a pair read and 8 written. Tiling: a thread a pair, so that the pairs of a group are read from the caches; the grid
// strides. No shared memory. Integers only; the counts are by atomics, whose order is not seen.
#include "common/atomic.cuh"
#include "common/kernel.cuh"
#include "gating/gating.h"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 1 << 16;

CUDAMOE_KERNEL(kThreads, 6) group_capacity_kernel(const CUDAMOE_GRID_CONSTANT GroupCapacity limit) {
  for (int64_t pair = int64_t{block_x()} * kThreads + thread_x(); pair < limit.pairs; pair += int64_t{grid_size_x()} * kThreads) {
    const int32_t expert = limit.chosen[pair];
    const bool counts = expert >= 0 && expert < limit.experts && limit.slot_of_pair[pair] >= 0;
    int64_t before = 0;
    for (int64_t other = pair - pair % limit.of_group; counts && other < pair && before < limit.capacity; ++other) {
      if (limit.chosen[other] == expert) ++before;
    }
    const bool drops = counts && before >= limit.capacity;
    if (drops) limit.slot_of_pair[pair] = -1;
    if (limit.dropped_pairs != nullptr) limit.dropped_pairs[pair] = drops ? static_cast<int32_t>(pair) : -1;
    if (drops && limit.dropped != nullptr) atomic_add(reinterpret_cast<uint64_t*>(limit.dropped + expert), uint64_t{1});
  }
}

}  // namespace

cudaError_t group_capacity(const GroupCapacity& limit, cudaStream_t stream) {
  const int64_t blocks = ceil_divide(limit.pairs, int64_t{kThreads});
  const LaunchShape shape{.name = "group_capacity",
                          .grid = {static_cast<int>(blocks < kMostBlocks ? blocks : kMostBlocks)},
                          .block = {kThreads},
                          .stream = stream};
  return launch(shape, group_capacity_kernel, limit);
}

}  // namespace cudamoe::kernels
