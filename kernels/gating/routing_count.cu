// Routing, first and second step of a pass: counts[bin][block] = pairs of the block in the bin; then, for each bin, the sum over the blocks
// before each, and totals[bin].
//
// Floor: 4 to 8 bytes a pair (chosen or weights, and the pairs where they were sorted before). Tiling: a block of 256 threads per 1024
// places, a warp per 128 of them; lanes with the same bin are found by a match, and one of them adds their number. Then a warp per bin.
// Shared memory: 1 KiB. Integers only: the results do not depend on the order of the threads.
#include "common/warp_scan.cuh"
#include "gating/routing.cuh"

namespace cudamoe::kernels {
namespace {

CUDAMOE_KERNEL(kRoutingThreads, 4)
count_kernel(const CUDAMOE_GRID_CONSTANT Routing routing, const CUDAMOE_GRID_CONSTANT RoutingPass pass) {
  CUDAMOE_SHARED(uint32_t, counts, [kRoutingBins]);
  static_assert(kRoutingThreads == kRoutingBins);
  counts[thread_x()] = 0;
  sync_block();
  int32_t pairs[kRoutingRounds];
  int bins[kRoutingRounds];
  load_bins(routing, pass, pairs, bins);
  CUDAMOE_UNROLL
  for (int round = 0; round < kRoutingRounds; ++round) {
    const uint32_t same = lanes_of_bin(bins[round]);
    if (same != 0 && (same & ((1u << lane_id()) - 1)) == 0) atomic_add(&counts[bins[round]], static_cast<uint32_t>(count_ones(same)));
    if (bins[round] < 0 && pairs[round] >= 0 && pass.reports != 0) note_offender(routing.offender, pairs[round]);
  }
  sync_block();
  if (thread_x() < pass.bins) routing.counts[thread_x() * routing.blocks() + block_x()] = counts[thread_x()];
  if (thread_x() == 0 && pass.reports != 0) {
    report_offender(routing.offender, routing.report, static_cast<uint32_t>(grid_size_x()), [&](int64_t pair) {
      return DeviceReport{ReportCode::kRoutingChosen, 0, {pair, routing.chosen[pair], routing.experts}, {}};
    });
  }
}

CUDAMOE_KERNEL(kRoutingThreads, 4) rank_kernel(const CUDAMOE_GRID_CONSTANT Routing routing, int bins) {
  const int bin = block_x() * kRoutingWarps + warp_id();
  if (bin >= bins) return;
  const uint32_t total = warp_exclusive_sums(routing.counts + bin * routing.blocks(), routing.blocks());
  if (lane_id() == 0) routing.totals[bin] = total;
}

}  // namespace

cudaError_t routing_count(const Routing& routing, const RoutingPass& pass, cudaStream_t stream) {
  return launch({.name = "routing_count", .grid = {static_cast<int>(routing.blocks())}, .block = {kRoutingThreads}, .stream = stream},
                count_kernel, routing, pass);
}

cudaError_t routing_rank(const Routing& routing, const RoutingPass& pass, cudaStream_t stream) {
  return launch({.name = "routing_rank", .grid = {ceil_divide(pass.bins, kRoutingWarps)}, .block = {kRoutingThreads}, .stream = stream},
                rank_kernel, routing, pass.bins);
}

}  // namespace cudamoe::kernels
