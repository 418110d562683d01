// What the passes of the routing have in common: which pairs a block has, and their bins.
#pragma once

#include "common/kernel.cuh"
#include "gating/gating.h"

namespace cudamoe::kernels {

inline constexpr int kRoutingThreads = 256, kRoutingWarps = kRoutingThreads / kWarp;
inline constexpr int kRoutingRounds = static_cast<int>(kRoutingTile) / kRoutingThreads;  // places of a thread

// Unsigned integers, ascending where the weights descend: NaN after all others, -0 equal to +0.
CUDAMOE_DEVICE uint32_t descending_key(float weight) {
  if (is_nan(weight)) return ~0u;
  const uint32_t bits = bits_of(weight + 0.0f);
  return (bits >> 31) != 0 ? bits : ~(bits | 0x80000000u);
}

// The pair at a place of the pass's order, -1 where there is none.
CUDAMOE_DEVICE int32_t pair_at(const Routing& routing, const RoutingPass& pass, int64_t place) {
  if (place >= routing.pairs) return -1;
  if (pass.from != nullptr) return pass.from[place];
  const auto at = static_cast<uint32_t>(place);
  if (routing.order != RoutingOrder::kChoiceMajor) return static_cast<int32_t>(at);
  const auto samples = static_cast<uint32_t>(routing.samples), choice = at / samples;
  return static_cast<int32_t>((at - choice * samples) * static_cast<uint32_t>(routing.choices) + choice);
}

// The bin of a pair, -1 for none.
CUDAMOE_DEVICE int bin_of(const Routing& routing, const RoutingPass& pass, int32_t pair) {
  if (pair < 0) return -1;
  if (pass.key == RoutingKey::kWeight) return static_cast<int>(descending_key(routing.weights[pair]) >> pass.shift & 0xFFu);
  const int32_t expert = routing.chosen[pair];
  return expert < 0 || expert >= routing.experts ? -1 : expert >> pass.shift & 0xFF;
}

// Place `round` of this thread: a warp has neighbouring places, 32 a round.
CUDAMOE_DEVICE int64_t routing_place_of(int round) {
  return block_x() * kRoutingTile + (warp_id() * kRoutingRounds + round) * kWarp + lane_id();
}

// The pairs and bins of this thread's places: all loads are under way before the first is waited for.
CUDAMOE_DEVICE void load_bins(const Routing& routing, const RoutingPass& pass, int32_t (&pairs)[kRoutingRounds],
                              int (&bins)[kRoutingRounds]) {
  CUDAMOE_UNROLL
  for (int round = 0; round < kRoutingRounds; ++round) pairs[round] = pair_at(routing, pass, routing_place_of(round));
  CUDAMOE_UNROLL
  for (int round = 0; round < kRoutingRounds; ++round) bins[round] = bin_of(routing, pass, pairs[round]);
}

// The lanes of the warp with the caller's bin; none for bin -1.
CUDAMOE_DEVICE uint32_t lanes_of_bin(int bin) {
  const uint32_t same = match_any(kFullWarp, static_cast<uint32_t>(bin));
  return bin < 0 ? 0u : same;
}

}  // namespace cudamoe::kernels
