// The fused gate: logits, noise, softmax or sigmoid, top-k, weights and statistics of all gates in one pass over x.
//
// Floor: x read once, 4 rows k_in bytes, and the outputs written once; 2 rows k_in columns flops. From some 12 columns on a core's
// multiply-adds take longer than its share of the memory bandwidth.
// Tiling: blocks of rows fixed by the shape, cut into tiles of kTileOfRows rows. A tile's logits (logits-inl.h) are turned into scores
// while they lie in the L1 cache, kLanes rows at a time with one row a lane: a softmax over experts is then a sum of vectors, and a round
// of top-k a chain of compares.
// Order of the sums: logits as in gemm; softmax by ascending expert; statistics by lanes, then f64 over the rows of a block
// ascending, then over blocks ascending.
#include <algorithm>

#include "cpu/gating/gate_plan.h"
#include "cpu/gating/gating.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/gating/gate_forward.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/common/lanes-inl.h"
#include "cpu/gating/logits-inl.h"
#include "cpu/gating/noise-inl.h"
#include "cpu/gating/scores-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

// The sum of the first `rows` lanes.
HWY_INLINE double sum_of_rows(VecF32 v, int64_t rows) {
  const F32 d;
  return static_cast<double>(hn::GetLane(hn::SumOfLanes(d, hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(rows)), v))));
}

// Up to kLanes rows of the dense softmax gates first .. first + gates - 1. Several gates at once, since one waits for its sum and the
// division by it.
void dense_softmax_rows(const cudamoe_gate_forward_args& args, const GateScratch& scratch, const GateStatistics& statistics, int64_t first,
                        int64_t gates, int64_t row, int64_t rows, const float* logits) {
  const F32 d;
  const int64_t experts = args.experts, columns = gate_columns(args), some = gates * experts;
  float *inverses = scratch.spare, *p = scratch.probabilities;
  rows_to_lanes(logits + first * experts, columns, rows, some, scratch.logits);
  for (int64_t g = 0; g < gates; ++g) {
    const SoftmaxResult result = softmax_terms<false>(scratch.logits + g * experts * kLanes, experts, p + g * experts * kLanes);
    hn::Store(hn::Div(hn::Set(d, 1.0f), result.sum), d, inverses + g * kLanes);
    if (args.z_sums == nullptr) continue;
    const VecF32 z = log_sum(result);
    statistics.z[first + g] += sum_of_rows(hn::Mul(z, z), rows);
  }
  for (int64_t g = 0; g < gates; ++g) scale_lanes(p + g * experts * kLanes, experts, hn::Load(d, inverses + g * kLanes));
  lanes_to_rows(p, rows, some, args.probabilities + row * columns + first * experts, columns);
  if (args.probability_sums == nullptr) return;
  double* sums = statistics.probabilities + first * experts;
  for (int64_t e = 0; e < some; ++e) sums[e] += sum_of_rows(hn::Load(d, p + e * kLanes), rows);
}

// Up to kLanes rows of one gate that is not a dense softmax.
class GateRows {
 public:
  GateRows(const cudamoe_gate_forward_args& args, const GateScratch& scratch, const GateStatistics& statistics, int64_t gate)
      : args_(args), scratch_(scratch), statistics_(statistics), gate_(gate), experts_(args.experts) {}

  // The rows row .. row + rows - 1 of the batch, whose logits [rows, columns] are given.
  void run(int64_t row, int64_t rows, const float* logits) {
    row_ = row;
    rows_ = rows;
    const int64_t columns = gate_columns(args_);
    const int64_t first = gate_ * experts_ * (args_.score_mode == CUDAMOE_SCORE_NOISY ? 2 : 1);
    rows_to_lanes(logits + first, columns, rows, experts_, scratch_.logits);
    scores_ = scratch_.logits;
    if (args_.score_mode == CUDAMOE_SCORE_NOISY && args_.step >= 0) add_noise(logits + first + experts_, columns);
    if (args_.top_k == 0) {
      dense_sigmoid();
    } else {
      sparse();
    }
  }

 private:
  void add_noise(const float* noise_logits, int64_t columns) {
    const F32 d;
    rows_to_lanes(noise_logits, columns, rows_, experts_, scratch_.noise_logits);
    gate_noise(args_.seed, step_of_noise(args_), args_.row_offset + row_, gate_, experts_, scratch_.noise);
    for (int64_t e = 0; e < experts_; ++e) {
      const VecF32 deviation = softplus(hn::Load(d, scratch_.noise_logits + e * kLanes));
      const VecF32 score = hn::MulAdd(hn::Load(d, scratch_.noise + e * kLanes), deviation, hn::Load(d, scratch_.logits + e * kLanes));
      hn::Store(score, d, scratch_.noise_logits + e * kLanes);
    }
    scores_ = scratch_.noise_logits;
  }

  void dense_sigmoid() {
    const F32 d;
    float* p = scratch_.probabilities;
    sigmoids<false>();
    if (args_.z_sums != nullptr) add_z(softmax_terms<false>(scratch_.logits, experts_, scratch_.spare));
    if (args_.renormalise != 0) {
      VecF32 sum = hn::Zero(d);
      for (int64_t e = 0; e < experts_; ++e) sum = hn::Add(sum, hn::Load(d, p + e * kLanes));
      normalise(p, experts_, sum);
    }
    finish_probabilities();
  }

  void sparse() {
    const F32 d;
    const bool sigmoid_scores = args_.score_mode == CUDAMOE_SCORE_SIGMOID, over_chosen = softmax_over_chosen(args_);
    const bool wants_probabilities = args_.probabilities != nullptr || args_.probability_sums != nullptr;
    bool has_z = false;
    if (sigmoid_scores) {
      sigmoids<true>();
    } else if (wants_probabilities || !over_chosen) {
      const SoftmaxResult result = softmax_terms<true>(scores_, experts_, scratch_.probabilities);
      scale_lanes(scratch_.probabilities, experts_, hn::Div(hn::Set(d, 1.0f), result.sum));
      if (args_.z_sums != nullptr && scores_ == scratch_.logits) {
        add_z(result);
        has_z = true;
      }
    }
    if (args_.z_sums != nullptr && !has_z) add_z(softmax_terms<true>(scratch_.logits, experts_, scratch_.spare));
    choose_experts();
    if (over_chosen) {
      const SoftmaxResult result = softmax_terms<true>(scratch_.chosen_scores, args_.top_k, scratch_.weights);
      scale_lanes(scratch_.weights, args_.top_k, hn::Div(hn::Set(d, 1.0f), result.sum));
    } else {
      VecF32 sum = hn::Zero(d);
      for (int64_t j = 0; j < args_.top_k; ++j) {
        const VecF32 weight = pick(scratch_.probabilities, hn::Load(I32(), scratch_.chosen + j * kLanes));
        hn::Store(weight, d, scratch_.weights + j * kLanes);
        sum = hn::Add(sum, weight);
      }
      if (args_.renormalise != 0) normalise(scratch_.weights, args_.top_k, sum);
    }
    store_chosen();
    if (wants_probabilities) finish_probabilities();
  }

  template <bool kSparse>
  void sigmoids() {
    const F32 d;
    for (int64_t e = 0; e < experts_; ++e) {
      hn::Store(sigmoid_of<kSparse>(hn::Load(d, scratch_.logits + e * kLanes)), d, scratch_.probabilities + e * kLanes);
    }
  }

  // Divides by the sum; values that sum to 0 become equal.
  void normalise(float* values, int64_t count, VecF32 sum) {
    const F32 d;
    const auto none = hn::Eq(sum, hn::Zero(d));
    const VecF32 equal = hn::Set(d, 1.0f / static_cast<float>(count));
    for (int64_t i = 0; i < count; ++i) {
      const VecF32 value = hn::Div(hn::Load(d, values + i * kLanes), sum);
      hn::Store(hn::IfThenElse(none, equal, value), d, values + i * kLanes);
    }
  }

  // Writes the scores that experts are chosen by to the candidates; returns whether all are finite.
  bool make_candidates() {
    const F32 d;
    const bool sigmoid_scores = args_.score_mode == CUDAMOE_SCORE_SIGMOID;
    const float* bias = args_.selection_bias == nullptr ? nullptr : args_.selection_bias + gate_ * experts_;
    VecF32 check = hn::Zero(d);
    for (int64_t e = 0; e < experts_; ++e) {
      const VecF32 logit = hn::Load(d, scores_ + e * kLanes);
      VecF32 score = logit;
      if (sigmoid_scores) {
        score = hn::Load(d, scratch_.probabilities + e * kLanes);
        if (bias != nullptr) score = hn::Add(score, hn::Set(d, bias[e]));
        score = hn::IfThenElse(hn::IsNaN(logit), logit, score);  // its sigmoid was set to 0, but it must rank last
      }
      hn::Store(score, d, scratch_.candidates + e * kLanes);
      check = add_unless_finite(check, score);
    }
    return all_were_finite(check);
  }

  void choose_experts() {
    const F32 d;
    if (HWY_LIKELY(make_candidates())) {
      choose(d, scratch_.candidates, -std::numeric_limits<float>::infinity(), experts_, args_.top_k, scratch_.chosen,
             scratch_.chosen_scores);
      return;
    }
    for (int64_t e = 0; e < experts_; ++e) {
      hn::Store(key_of(hn::Load(d, scratch_.candidates + e * kLanes)), I32(), scratch_.keys + e * kLanes);
    }
    choose(I32(), scratch_.keys, kNoKey, experts_, args_.top_k, scratch_.chosen, scratch_.chosen_keys);
    for (int64_t j = 0; j < args_.top_k; ++j) {
      hn::Store(score_of(hn::Load(I32(), scratch_.chosen_keys + j * kLanes)), d, scratch_.chosen_scores + j * kLanes);
    }
  }

  void store_chosen() {
    const int64_t k = args_.top_k, stride = args_.gates * k, first = row_ * stride + gate_ * k;
    for (int64_t j = 0; j < k; ++j) {
      int32_t* chosen = args_.chosen + first + j;
      float* weights = args_.weights + first + j;
      for (int64_t r = 0; r < rows_; ++r) {
        chosen[r * stride] = scratch_.chosen[j * kLanes + r];
        weights[r * stride] = scratch_.weights[j * kLanes + r];
      }
    }
    if (args_.expert_counts == nullptr) return;
    int64_t* counts = statistics_.counts + gate_ * experts_;
    for (int64_t j = 0; j < k; ++j) {
      for (int64_t r = 0; r < rows_; ++r) ++counts[scratch_.chosen[j * kLanes + r]];
    }
  }

  void finish_probabilities() {
    const float* p = scratch_.probabilities;
    if (args_.probabilities != nullptr) {
      const int64_t stride = args_.gates * experts_;
      lanes_to_rows(p, rows_, experts_, args_.probabilities + row_ * stride + gate_ * experts_, stride);
    }
    if (args_.probability_sums == nullptr) return;
    double* sums = statistics_.probabilities + gate_ * experts_;
    for (int64_t e = 0; e < experts_; ++e) sums[e] += sum_of_rows(hn::Load(F32(), p + e * kLanes), rows_);
  }

  void add_z(const SoftmaxResult& result) {
    const VecF32 z = log_sum(result);
    statistics_.z[gate_] += sum_of_rows(hn::Mul(z, z), rows_);
  }

  const cudamoe_gate_forward_args& args_;
  const GateScratch& scratch_;
  const GateStatistics& statistics_;
  int64_t gate_, experts_;
  int64_t row_ = 0, rows_ = 0;
  const float* scores_ = nullptr;  // logits, with noise if there is any
};

void gate_block(const cudamoe_gate_forward_args& args, int64_t first, int64_t rows, const GateScratch& scratch,
                const GateStatistics& statistics) {
  const int64_t columns = gate_columns(args), end = first + rows;
  const bool dense_softmax = args.top_k == 0 && args.score_mode == CUDAMOE_SCORE_SOFTMAX_TOPK;
  const int64_t at_once = std::max<int64_t>(kExpertsAtOnce / args.experts, 1);
  statistics.clear(args);
  for (int64_t row = first; row < end; row += kTileOfRows) {
    const int64_t count = std::min(kTileOfRows, end - row);
    float* logits = args.logits == nullptr ? scratch.tile : args.logits + row * columns;
    gate_logits(args, row, count, logits, scratch);
    if (dense_softmax) {
      for (int64_t r = 0; r < count; r += kLanes) {
        for (int64_t gate = 0; gate < args.gates; gate += at_once) {
          dense_softmax_rows(args, scratch, statistics, gate, std::min(at_once, args.gates - gate), row + r,
                             std::min<int64_t>(kLanes, count - r), logits + r * columns);
        }
      }
      continue;
    }
    for (int64_t gate = 0; gate < args.gates; ++gate) {
      GateRows part(args, scratch, statistics, gate);
      for (int64_t r = 0; r < count; r += kLanes) part.run(row + r, std::min<int64_t>(kLanes, count - r), logits + r * columns);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace cudamoe::cpu {

HWY_EXPORT(gate_block);

int64_t gate_forward_workspace(void* stream, const cudamoe_gate_forward_args& args) {
  return GatePlan(args, stream_of(stream).device().threads()).bytes();
}

cudamoe_status gate_forward(void* handle, const cudamoe_gate_forward_args& args) {
  Device& device = stream_of(handle).device();
  const GatePlan plan(args, device.threads());
  constexpr double kNanosecondsAnElement = 0.1, kNanosecondsAScore = 3;
  const double cost = static_cast<double>(args.rows) * (kNanosecondsAnElement * static_cast<double>(args.k_in) +
                                                        static_cast<double>(gate_columns(args)) * kNanosecondsAScore);
  for (int worker = 0; worker < device.threads(); ++worker) *plan.scratch(args.workspace, worker).ordered_from = -1;
  device.for_tiles(plan.blocks(), cost, [&](int64_t block, int worker) {
    const int64_t first = block * plan.block_rows();
    HWY_DYNAMIC_DISPATCH(gate_block)
    (args, first, std::min(plan.block_rows(), args.rows - first), plan.scratch(args.workspace, worker),
     plan.statistics(args.workspace, block));
  });
  const int64_t pairs = int64_t{args.gates} * args.experts;
  const auto total = [&](auto* out, int64_t count, auto&& of_block) {
    if (out == nullptr) return;
    for (int64_t i = 0; i < count; ++i) {
      out[i] = 0;
      for (int64_t block = 0; block < plan.blocks(); ++block) out[i] += of_block(plan.statistics(args.workspace, block))[i];
    }
  };
  total(args.expert_counts, pairs, [](const GateStatistics& s) { return s.counts; });
  total(args.probability_sums, pairs, [](const GateStatistics& s) { return s.probabilities; });
  total(args.z_sums, args.gates, [](const GateStatistics& s) { return s.z; });
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu

#endif  // HWY_ONCE
