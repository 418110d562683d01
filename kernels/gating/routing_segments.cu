// Routing of more than 256 experts, after two passes have sorted the pairs by expert: rows of each expert, where they begin, offsets under
// the capacity, and the results.
//
// Floor: pairs and experts read three times, 12 bytes a pair written. Tiling: a block of 256 threads per 1024 places; one block of 1024
// threads for the sums over experts. Shared memory: 256 bytes. Integers only; the counts are by atomics, whose order is not seen.
#include "common/block_scan.cuh"
#include "gating/routing.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kPlaces = 4 * kRoutingThreads, kScanThreads = 1024;

CUDAMOE_KERNEL(kRoutingThreads, 6)
rows_kernel(const CUDAMOE_GRID_CONSTANT Routing routing, const CUDAMOE_GRID_CONSTANT RoutingSegments segments) {
  for (int i = thread_x(); i < kPlaces; i += kRoutingThreads) {
    const int64_t place = int64_t{block_x()} * kPlaces + i;
    const int32_t pair = place < routing.pairs ? segments.sorted[place] : -1;
    const int expert = pair < 0 ? -1 : routing.chosen[pair];
    const uint32_t same = lanes_of_bin(expert);
    if (same != 0 && (same & ((1u << lane_id()) - 1)) == 0) atomic_add(segments.rows + expert, static_cast<uint32_t>(count_ones(same)));
  }
}

CUDAMOE_KERNEL(kScanThreads, 1)
offsets_kernel(const CUDAMOE_GRID_CONSTANT Routing routing, const CUDAMOE_GRID_CONSTANT RoutingSegments segments) {
  uint32_t before = 0, kept_before = 0;
  if (thread_x() == 0) routing.offsets[0] = 0;
  for (int first = 0; first < routing.experts; first += kScanThreads) {
    const int expert = first + thread_x();
    const uint32_t rows = expert < routing.experts ? segments.rows[expert] : 0u;
    const bool caps = routing.capacity > 0 && routing.capacity < static_cast<int64_t>(rows);
    const uint32_t kept = caps ? static_cast<uint32_t>(routing.capacity) : rows;
    uint32_t total = 0, kept_total = 0;
    const uint32_t begin = before + block_exclusive_sum<kScanThreads>(rows, &total);
    const uint32_t offset = kept_before + block_exclusive_sum<kScanThreads>(kept, &kept_total);
    if (expert < routing.experts) {
      segments.first[expert] = begin;
      routing.offsets[expert + 1] = offset + kept;
      if (routing.dropped != nullptr) routing.dropped[expert] = rows - kept;
    }
    before += total;
    kept_before += kept_total;
  }
}

CUDAMOE_KERNEL(kRoutingThreads, 6)
results_kernel(const CUDAMOE_GRID_CONSTANT Routing routing, const CUDAMOE_GRID_CONSTANT RoutingSegments segments) {
  const int64_t routed = routing.offsets[routing.experts];
  for (int i = thread_x(); i < kPlaces; i += kRoutingThreads) {
    const int64_t place = int64_t{block_x()} * kPlaces + i;
    if (place >= routing.pairs) return;
    if (place >= routed) routing.pair_of_slot[place] = routing.sample_of_slot[place] = -1;
    const int32_t pair = segments.sorted[place];
    if (pair < 0) continue;
    const int expert = routing.chosen[pair];
    const int64_t slot = routing.offsets[expert] + (place - segments.first[expert]);
    const bool keeps = slot < routing.offsets[expert + 1];
    routing.slot_of_pair[pair] = keeps ? static_cast<int32_t>(slot) : -1;
    if (!keeps) continue;
    routing.pair_of_slot[slot] = pair;
    routing.sample_of_slot[slot] = static_cast<int32_t>(static_cast<uint32_t>(pair) / static_cast<uint32_t>(routing.choices));
  }
}

}  // namespace

cudaError_t routing_segments(const Routing& routing, const RoutingSegments& segments, cudaStream_t stream) {
  const int blocks = routing.pairs == 0 ? 1 : static_cast<int>(ceil_divide(routing.pairs, int64_t{kPlaces}));
  const LaunchShape rows{.name = "routing_rows", .grid = {blocks}, .block = {kRoutingThreads}, .stream = stream};
  const LaunchShape offsets{.name = "routing_offsets", .grid = {1}, .block = {kScanThreads}, .stream = stream};
  const LaunchShape results{.name = "routing_results", .grid = {blocks}, .block = {kRoutingThreads}, .stream = stream};
  cudaError_t error = launch(rows, rows_kernel, routing, segments);
  if (error == cudaSuccess) error = launch(offsets, offsets_kernel, routing, segments);
  if (error == cudaSuccess) error = launch(results, results_kernel, routing, segments);
  return error;
}

}  // namespace cudamoe::kernels
