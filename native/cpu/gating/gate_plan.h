// How the rows of a fused gate are cut, and its work space: a scratch for each worker and the statistics of each block.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/gating/gating.h"
#include "cpu/gemm/layout.h"

namespace cudamoe::cpu {

inline constexpr int64_t kTileOfRows = 64;

// Of one block of rows.
struct GateStatistics {
  double* probabilities;  // [gates, experts]
  int64_t* counts;        // [gates, experts]
  double* z;              // [gates]

  void clear(const cudamoe_gate_forward_args& args) const {
    const int64_t pairs = int64_t{args.gates} * args.experts;
    std::fill_n(probabilities, pairs, 0.0);
    std::fill_n(counts, pairs, int64_t{0});
    std::fill_n(z, args.gates, 0.0);
  }
};

// Dense softmax gates are handled several at once, up to this many experts.
inline constexpr int64_t kExpertsAtOnce = 64;

// Of one worker; arrays by lanes have kMostLanes elements an expert (for at least kExpertsAtOnce) or choice.
struct GateScratch {
  int64_t* ordered_from;  // the first vector of the columns whose weights are in `ordered`, -1 for none
  float* ordered;         // weights of a register tile's columns in its order
  float* tile;            // logits of kTileOfRows rows when the caller does not want them
  float* logits;          // by lanes, experts
  float* noise_logits;    // by lanes, experts; then logits with noise
  float* noise;           // by lanes, experts rounded up to 4
  float* probabilities;   // by lanes, experts
  float* spare;           // by lanes, experts
  float* candidates;      // by lanes, experts: scores of those that are not chosen yet
  int32_t* keys;          // by lanes, experts
  int32_t* chosen;        // by lanes, top_k
  int32_t* chosen_keys;   // by lanes, top_k
  float* chosen_scores;   // by lanes, top_k
  float* weights;         // by lanes, top_k
};

class GatePlan {
 public:
  GatePlan(const cudamoe_gate_forward_args& args, int threads)
      : gates_(args.gates), experts_(args.experts), top_k_(args.top_k), depth_(args.k_in), threads_(threads) {
    // Blocks are bounded in number, so that their statistics stay small beside the rows.
    constexpr int64_t kMostBlocks = 256, kFewestBlocks = 16, kMostStatistics = int64_t{1} << 19;
    columns_ = gate_columns(args);
    const int64_t most = std::clamp(kMostStatistics / (gates_ * experts_), kFewestBlocks, kMostBlocks);
    const int64_t tiles = divide_up(args.rows, kTileOfRows);
    block_rows_ = std::max<int64_t>(divide_up(tiles, most), 1) * kTileOfRows;
    blocks_ = divide_up(args.rows, block_rows_);
  }

  int64_t block_rows() const { return block_rows_; }
  int64_t blocks() const { return blocks_; }
  int64_t bytes() const { return threads_ * scratch_bytes() + blocks_ * statistics_bytes(); }

  GateScratch scratch(void* workspace, int worker) const {
    GateScratch s{};
    Cursor cursor{reinterpret_cast<uintptr_t>(workspace) + static_cast<uintptr_t>(worker * scratch_bytes())};
    lay_out(s, cursor);
    return s;
  }

  GateStatistics statistics(void* workspace, int64_t block) const {
    auto* p = reinterpret_cast<double*>(static_cast<char*>(workspace) + threads_ * scratch_bytes() + block * statistics_bytes());
    const int64_t pairs = gates_ * experts_;
    return {p, reinterpret_cast<int64_t*>(p + pairs), p + 2 * pairs};
  }

 private:
  struct Cursor {
    uintptr_t at;
    template <class T>
    void take(T*& pointer, int64_t count) {
      pointer = reinterpret_cast<T*>(at);
      at += static_cast<uintptr_t>(round_up(count * static_cast<int64_t>(sizeof(T)), 64));
    }
  };

  void lay_out(GateScratch& s, Cursor& cursor) const {
    const int64_t by_lanes = std::max(round_up(experts_, 4), kExpertsAtOnce) * kMostLanes, chosen = top_k_ * kMostLanes;
    cursor.take(s.ordered_from, 1);
    cursor.take(s.ordered, round_up(depth_, 2) * kMostTileColumns);
    cursor.take(s.tile, kTileOfRows * columns_);
    for (float** p : {&s.logits, &s.noise_logits, &s.noise, &s.probabilities, &s.spare, &s.candidates}) cursor.take(*p, by_lanes);
    cursor.take(s.keys, by_lanes);
    for (int32_t** p : {&s.chosen, &s.chosen_keys}) cursor.take(*p, chosen);
    for (float** p : {&s.chosen_scores, &s.weights}) cursor.take(*p, chosen);
  }

  int64_t scratch_bytes() const {
    GateScratch s{};
    Cursor cursor{0};
    lay_out(s, cursor);
    return static_cast<int64_t>(cursor.at);
  }

  int64_t statistics_bytes() const { return round_up((2 * gates_ * experts_ + gates_) * 8, 64); }

  int64_t gates_, experts_, top_k_, depth_, threads_;
  int64_t columns_ = 0, block_rows_ = 0, blocks_ = 0;
};

// Of one worker of the backward, by lanes.
struct GradientScratch {
  static constexpr int64_t kAlignment = 64 / sizeof(float);

  float *logits, *noise_logits, *noise, *probabilities, *upper, *gradient, *spare;  // experts
  float *weights, *dweights;                                                        // top_k
  int32_t* chosen;                                                                  // top_k

  static constexpr int64_t floats(int64_t experts) { return kMostLanes * (7 * by_lanes(experts) + 3 * CUDAMOE_MAX_TOPK); }

  static float* aligned(float* memory) {
    const auto at = reinterpret_cast<uintptr_t>(memory);
    return memory + (64 - at % 64) % 64 / sizeof(float);
  }

  GradientScratch(float* memory, int64_t experts) {
    for (float** p : {&logits, &noise_logits, &noise, &probabilities, &upper, &gradient, &spare}) {
      *p = memory;
      memory += kMostLanes * by_lanes(experts);
    }
    weights = memory;
    dweights = weights + kMostLanes * CUDAMOE_MAX_TOPK;
    chosen = reinterpret_cast<int32_t*>(dweights + kMostLanes * CUDAMOE_MAX_TOPK);
  }

 private:
  // The noise is made for four experts at a time; `spare` holds choices too.
  static constexpr int64_t by_lanes(int64_t experts) { return (experts + 3) / 4 * 4; }
};

}  // namespace cudamoe::cpu
