// Routing, third step of a pass: each pair goes to its place, bin by bin, in the order it came in. The place of a pair in its bin is the
// sum of those before it: in other blocks (routing_count.cu), in the warps before, in the rounds before, in the lanes before. The last
// pass of up to 256 experts writes the results: expert e keeps its first `capacity` pairs, and slots are numbered over what is kept.
//
// Floor: 4 to 8 bytes a pair read, 4 written at random places; the last pass 12 bytes a pair written.
// Tiling: as routing_count.cu. Shared memory: 10 KiB (a count for each warp and bin). Integers only, and no atomics: a stable sort.
#include "common/block_scan.cuh"
#include "gating/routing.cuh"

namespace cudamoe::kernels {
namespace {

CUDAMOE_KERNEL(kRoutingThreads, 3)
place_kernel(const CUDAMOE_GRID_CONSTANT Routing routing, const CUDAMOE_GRID_CONSTANT RoutingPass pass) {
  CUDAMOE_SHARED(uint32_t, of_warp, [kRoutingWarps][kRoutingBins]);  // counts, then the first place of each warp
  CUDAMOE_SHARED(uint32_t, limit, [kRoutingBins]);                   // the place behind the last that is kept
  const int t = thread_x(), warp = warp_id();
  const bool last = pass.to == nullptr;

  CUDAMOE_UNROLL
  for (int w = 0; w < kRoutingWarps; ++w) of_warp[w][t] = 0;
  sync_block();
  int32_t pairs[kRoutingRounds];
  uint32_t ranks[kRoutingRounds];  // among the warp's pairs of the bin
  int bins[kRoutingRounds];
  load_bins(routing, pass, pairs, bins);
  CUDAMOE_UNROLL
  for (int round = 0; round < kRoutingRounds; ++round) {
    const uint32_t same = lanes_of_bin(bins[round]), before = same & ((1u << lane_id()) - 1);
    uint32_t earlier = 0;
    if (same != 0) earlier = of_warp[warp][bins[round]];
    sync_warp();
    if (same != 0 && before == 0) of_warp[warp][bins[round]] = earlier + static_cast<uint32_t>(count_ones(same));
    sync_warp();
    ranks[round] = earlier + static_cast<uint32_t>(count_ones(before));
  }
  sync_block();

  // Bin t: where it begins, and where each warp's part of it does.
  const uint32_t total = t < pass.bins ? routing.totals[t] : 0u;
  const bool caps = last && routing.capacity > 0 && routing.capacity < static_cast<int64_t>(total);
  const uint32_t kept = caps ? static_cast<uint32_t>(routing.capacity) : total;
  uint32_t routed = 0;
  const uint32_t begin = block_exclusive_sum<kRoutingThreads>(kept, &routed);
  limit[t] = begin + kept;
  uint32_t next = begin + (t < pass.bins ? routing.counts[t * routing.blocks() + block_x()] : 0u);
  CUDAMOE_UNROLL
  for (int w = 0; w < kRoutingWarps; ++w) {
    const uint32_t count = of_warp[w][t];
    of_warp[w][t] = next;
    next += count;
  }
  if (last && block_x() == 0 && t < routing.experts) {
    if (t == 0) routing.offsets[0] = 0;
    routing.offsets[t + 1] = begin + kept;
    if (routing.dropped != nullptr) routing.dropped[t] = total - kept;
  }
  sync_block();

  CUDAMOE_UNROLL
  for (int round = 0; round < kRoutingRounds; ++round) {
    const int64_t here = routing_place_of(round);
    const int32_t pair = pairs[round];
    int64_t place = -1;
    if (bins[round] >= 0) {
      const uint32_t at = of_warp[warp][bins[round]] + ranks[round], behind = limit[bins[round]];
      if (at < behind) place = at;
    }
    if (last) {
      if (pair >= 0) routing.slot_of_pair[pair] = static_cast<int32_t>(place);
      if (place >= 0) {
        routing.pair_of_slot[place] = pair;
        routing.sample_of_slot[place] = static_cast<int32_t>(static_cast<uint32_t>(pair) / static_cast<uint32_t>(routing.choices));
      }
      if (here >= routed && here < routing.pairs) routing.pair_of_slot[here] = routing.sample_of_slot[here] = -1;
    } else {
      if (place >= 0) pass.to[place] = pair;
      if (here >= routed && here < routing.pairs) pass.to[here] = -1;
      if (place < 0 && pair >= 0) routing.slot_of_pair[pair] = -1;
    }
  }
}

}  // namespace

cudaError_t routing_place(const Routing& routing, const RoutingPass& pass, cudaStream_t stream) {
  return launch({.name = "routing_place", .grid = {static_cast<int>(routing.blocks())}, .block = {kRoutingThreads}, .stream = stream},
                place_kernel, routing, pass);
}

}  // namespace cudamoe::kernels
