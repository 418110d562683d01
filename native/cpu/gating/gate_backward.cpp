// The gradient of a fused gate on its logits, with those of the balance and the z loss.
//
// With v the gradient on the weights (sparse) or probabilities (dense), p the softmax or sigmoid over all experts, w the weights of
// the chosen, c the chosen experts, s the scores (logits, with noise):
//   dense softmax          ds = p (v - <p, v>)
//   dense sigmoid          ds = sigmoid'(s) u,   u = v, or (v - <q, v>) / sum p for q = p / sum p
//   softmax over chosen    ds[c] = w (v - <w, v>)                              TOPK_SOFTMAX, NOISY, renormalised SOFTMAX_TOPK
//   softmax, then top-k    as dense softmax, with v scattered to the chosen
//   sigmoid                ds[c] = sigmoid'(s[c]) u, u as above over the chosen
//   balance loss           adds the constant balance_coefficient experts counts[e] / (rows^2 top_k) to the gradient on p[e]
//   noise                  dclean = ds, dnoise = ds n sigmoid(noise logit), n the forward's normal number
//   z loss                 adds 2 z_coefficient / rows * logsumexp(clean) * softmax(clean) to dclean
// Logits that are NaN get 0 in a sparse gate.
//
// Floor: what was stored read once, dlogits written once. Tiling: blocks of kTileOfRows rows, kLanes rows at a time, one row a lane.
// Order of the sums: ascending experts and choices; no sum crosses rows.
#include <algorithm>
#include <memory>

#include "cpu/common/first_offender.h"
#include "cpu/gating/gate_plan.h"
#include "cpu/gating/gating.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/gating/gate_backward.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/common/lanes-inl.h"
#include "cpu/gating/noise-inl.h"
#include "cpu/gating/scores-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

// Up to kLanes rows of one gate.
class GateGradientRows {
 public:
  GateGradientRows(const cudamoe_gate_backward_args& args, const GradientScratch& scratch, int64_t gate)
      : args_(args),
        scratch_(scratch),
        gate_(gate),
        experts_(args.experts),
        noisy_(args.score_mode == CUDAMOE_SCORE_NOISY && args.step >= 0) {
    const double pairs = static_cast<double>(args.rows) * static_cast<double>(args.rows) * static_cast<double>(std::max(args.top_k, 1));
    balance_ = static_cast<double>(args.balance_coefficient) * static_cast<double>(args.experts) / pairs;
  }

  // The rows row .. row + rows - 1 of the batch. Returns the first pair with a chosen expert out of range, or -1.
  int64_t run(int64_t row, int64_t rows) {
    row_ = row;
    rows_ = rows;
    bad_ = -1;
    const int64_t columns = gate_columns(args_), first = gate_ * columns / args_.gates;
    if (args_.logits != nullptr) {
      const float* logits = args_.logits + row * columns + first;
      rows_to_lanes(logits, columns, rows, experts_, scratch_.logits);
      if (noisy_) rows_to_lanes(logits + experts_, columns, rows, experts_, scratch_.noise_logits);
    }
    if (noisy_) gate_noise(args_.seed, step_of_noise(args_), args_.row_offset + row, gate_, experts_, scratch_.noise);
    if (args_.top_k > 0) {
      load_chosen();
      sparse();
      clear_nan_logits();
    } else if (args_.score_mode == CUDAMOE_SCORE_SIGMOID) {
      dense_sigmoid();
    } else {
      load_pairs(args_.probabilities, scratch_.probabilities);
      load_pairs(args_.dprobabilities, scratch_.upper);
      set_zero(scratch_.gradient);
      add_softmax_gradient();
    }
    float* out = args_.dlogits + row * args_.dlogits_row_stride + first;
    if (args_.score_mode == CUDAMOE_SCORE_NOISY) {
      noise_gradient();
      lanes_to_rows(scratch_.noise, rows, experts_, out + experts_, args_.dlogits_row_stride);
    }
    if (args_.z_coefficient != 0) args_.top_k > 0 ? add_z_gradient<true>() : add_z_gradient<false>();
    if (args_.z_coefficient != 0 && args_.top_k > 0) clear_nan_logits();
    lanes_to_rows(scratch_.gradient, rows, experts_, out, args_.dlogits_row_stride);
    return bad_;
  }

 private:
  // In place of a chosen expert that is out of range, and in the lanes without a row.
  static constexpr int32_t kNone = -1;

  VecF32 at(const float* values, int64_t i) const { return hn::Load(F32(), values + i * kLanes); }
  void put(VecF32 v, float* values, int64_t i) const { hn::Store(v, F32(), values + i * kLanes); }

  void set_zero(float* values) const {
    for (int64_t e = 0; e < experts_; ++e) put(hn::Zero(F32()), values, e);
  }

  // From an array [rows, gates, experts].
  void load_pairs(const float* values, float* lanes) const {
    const int64_t stride = args_.gates * experts_;
    rows_to_lanes(values + row_ * stride + gate_ * experts_, stride, rows_, experts_, lanes);
  }

  // Choices and their weights and gradients. A choice that is out of range gets gradient 0 and expert kNone.
  void load_chosen() {
    const int64_t k = args_.top_k, stride = args_.gates * k, first = row_ * stride + gate_ * k;
    rows_to_lanes(args_.weights + first, stride, rows_, k, scratch_.weights);
    rows_to_lanes(args_.dweights + first, stride, rows_, k, scratch_.dweights);
    if (rows_ == kLanes && load_whole_chosen(first, stride)) return;
    for (int64_t j = 0; j < k; ++j) {
      for (int64_t r = 0; r < kLanes; ++r) {
        int32_t expert = kNone;
        if (r < rows_) {
          const int64_t pair = first + r * stride + j;
          expert = args_.chosen[pair];
          if (expert < 0 || expert >= experts_) {
            if (bad_ < 0 || pair < bad_) bad_ = pair;
            expert = kNone;
            scratch_.dweights[j * kLanes + r] = scratch_.weights[j * kLanes + r] = 0;
          }
        }
        scratch_.chosen[j * kLanes + r] = expert;
      }
    }
  }

  // The choices of kLanes rows, unless one of them is out of range.
  bool load_whole_chosen(int64_t first, int64_t stride) const {
    const I32 d;
    VecI32 least = hn::Zero(d), most = hn::Zero(d);
    for (int64_t j = 0; j < args_.top_k; ++j) {
      const VecI32 experts = column_of_rows(d, args_.chosen + first + j, stride);
      least = hn::Min(least, experts);
      most = hn::Max(most, experts);
      hn::Store(experts, d, scratch_.chosen + j * kLanes);
    }
    return hn::AllTrue(d, hn::And(hn::Eq(least, hn::Zero(d)), hn::Lt(most, hn::Set(d, static_cast<int32_t>(experts_)))));
  }

  // values[chosen] += added, choice by choice.
  void scatter_add(const float* added, float* values) const {
    // So many experts are sooner compared with the choices than written one lane at a time.
    constexpr int64_t kFewExperts = 16;
    if (experts_ <= kFewExperts) {
      const F32 d;
      const I32 di;
      for (int64_t e = 0; e < experts_; ++e) {
        VecF32 value = at(values, e);
        const VecI32 expert = hn::Set(di, static_cast<int32_t>(e));
        for (int64_t j = 0; j < args_.top_k; ++j) {
          const auto chosen = hn::RebindMask(d, hn::Eq(hn::Load(di, scratch_.chosen + j * kLanes), expert));
          value = hn::Add(value, hn::IfThenElseZero(chosen, at(added, j)));
        }
        put(value, values, e);
      }
      return;
    }
    for (int64_t j = 0; j < args_.top_k; ++j) {
      for (int64_t r = 0; r < kLanes; ++r) {
        const int32_t expert = scratch_.chosen[j * kLanes + r];
        if (expert != kNone) values[expert * kLanes + r] += added[j * kLanes + r];
      }
    }
  }

  // Of clean logits that are NaN or have a NaN deviation.
  void clear_nan_logits() const {
    for (int64_t e = 0; e < experts_; ++e) {
      auto unknown = hn::IsNaN(at(scratch_.logits, e));
      if (noisy_) unknown = hn::Or(unknown, hn::IsNaN(at(scratch_.noise_logits, e)));
      put(hn::IfThenZeroElse(unknown, at(scratch_.gradient, e)), scratch_.gradient, e);
    }
  }

  void sparse() {
    const bool over_chosen = softmax_over_chosen(args_), sigmoids = args_.score_mode == CUDAMOE_SCORE_SIGMOID;
    const bool balanced = args_.balance_coefficient != 0;
    const int64_t k = args_.top_k;
    set_zero(scratch_.gradient);
    if (sigmoids) {
      if (args_.renormalise != 0) renormalised_gradient();
    } else if (over_chosen) {
      VecF32 dot = hn::Zero(F32());
      for (int64_t j = 0; j < k; ++j) dot = hn::MulAdd(at(scratch_.weights, j), at(scratch_.dweights, j), dot);
      for (int64_t j = 0; j < k; ++j) put(hn::Mul(at(scratch_.weights, j), hn::Sub(at(scratch_.dweights, j), dot)), scratch_.spare, j);
      scatter_add(scratch_.spare, scratch_.gradient);
      if (!balanced) return;
    }
    for (int64_t e = 0; e < experts_; ++e) {
      const double constant = balanced ? balance_ * static_cast<double>(args_.expert_counts[gate_ * experts_ + e]) : 0.0;
      put(hn::Set(F32(), static_cast<float>(constant)), scratch_.upper, e);
    }
    if (!over_chosen) scatter_add(scratch_.dweights, scratch_.upper);
    if (sigmoids) {
      for (int64_t e = 0; e < experts_; ++e)
        put(hn::Mul(at(scratch_.upper, e), sigmoid_derivative(at(scratch_.logits, e))), scratch_.gradient, e);
      return;
    }
    load_or_compute_softmax();
    add_softmax_gradient();
  }

  // dweights becomes the gradient on the chosen sigmoids p, of weights p / sum p.
  void renormalised_gradient() const {
    const F32 d;
    VecF32 sum = hn::Zero(d), dot = hn::Zero(d);
    for (int64_t j = 0; j < args_.top_k; ++j) {
      const VecI32 expert = hn::Load(I32(), scratch_.chosen + j * kLanes);
      const VecF32 logit = pick(scratch_.logits, hn::Max(expert, hn::Zero(I32())));
      const auto present = hn::RebindMask(d, hn::Ne(expert, hn::Set(I32(), kNone)));
      sum = hn::Add(sum, hn::IfThenElseZero(present, sigmoid_of<true>(logit)));
      dot = hn::MulAdd(at(scratch_.weights, j), at(scratch_.dweights, j), dot);
    }
    const auto none = hn::Eq(sum, hn::Zero(d));
    for (int64_t j = 0; j < args_.top_k; ++j) {
      put(hn::IfThenZeroElse(none, hn::Div(hn::Sub(at(scratch_.dweights, j), dot), sum)), scratch_.dweights, j);
    }
  }

  void load_or_compute_softmax() const {
    if (args_.probabilities != nullptr) {
      load_pairs(args_.probabilities, scratch_.probabilities);
      return;
    }
    const float* scores = scratch_.logits;
    if (noisy_) {
      for (int64_t e = 0; e < experts_; ++e) {
        put(hn::MulAdd(at(scratch_.noise, e), softplus(at(scratch_.noise_logits, e)), at(scratch_.logits, e)), scratch_.spare, e);
      }
      scores = scratch_.spare;
    }
    const SoftmaxResult result = softmax_terms<true>(scores, experts_, scratch_.probabilities);
    scale_lanes(scratch_.probabilities, experts_, hn::Div(hn::Set(F32(), 1.0f), result.sum));
  }

  // gradient += p (upper - <p, upper>)
  void add_softmax_gradient() const {
    VecF32 dot = hn::Zero(F32());
    for (int64_t e = 0; e < experts_; ++e) dot = hn::MulAdd(at(scratch_.probabilities, e), at(scratch_.upper, e), dot);
    for (int64_t e = 0; e < experts_; ++e) {
      put(hn::MulAdd(at(scratch_.probabilities, e), hn::Sub(at(scratch_.upper, e), dot), at(scratch_.gradient, e)), scratch_.gradient, e);
    }
  }

  void dense_sigmoid() const {
    const F32 d;
    load_pairs(args_.dprobabilities, scratch_.upper);
    if (args_.renormalise != 0) {
      load_pairs(args_.probabilities, scratch_.probabilities);
      VecF32 sum = hn::Zero(d), dot = hn::Zero(d);
      for (int64_t e = 0; e < experts_; ++e) {
        sum = hn::Add(sum, sigmoid_of<false>(at(scratch_.logits, e)));
        dot = hn::MulAdd(at(scratch_.probabilities, e), at(scratch_.upper, e), dot);
      }
      const auto none = hn::Eq(sum, hn::Zero(d));
      for (int64_t e = 0; e < experts_; ++e)
        put(hn::IfThenZeroElse(none, hn::Div(hn::Sub(at(scratch_.upper, e), dot), sum)), scratch_.upper, e);
    }
    for (int64_t e = 0; e < experts_; ++e) {
      const VecF32 x = at(scratch_.logits, e), value = hn::Mul(at(scratch_.upper, e), sigmoid_derivative(x));
      put(hn::IfThenElse(hn::IsNaN(x), x, value), scratch_.gradient, e);
    }
  }

  // The gradient on the noise logits takes the place of the noise.
  void noise_gradient() const {
    const F32 d;
    for (int64_t e = 0; e < experts_; ++e) {
      VecF32 value = hn::Zero(d);
      if (noisy_) {
        const VecF32 gradient = at(scratch_.gradient, e);
        value = hn::Mul(hn::Mul(gradient, at(scratch_.noise, e)), sigmoid_of<true>(at(scratch_.noise_logits, e)));
        value = hn::IfThenZeroElse(hn::Eq(gradient, hn::Zero(d)), value);
      }
      put(value, scratch_.noise, e);
    }
  }

  template <bool kSparse>
  void add_z_gradient() const {
    const F32 d;
    const SoftmaxResult result = softmax_terms<kSparse>(scratch_.logits, experts_, scratch_.spare);
    const auto scale = static_cast<float>(2 * static_cast<double>(args_.z_coefficient) / static_cast<double>(args_.rows));
    const VecF32 factor = hn::Mul(hn::Set(d, scale), hn::Div(log_sum(result), result.sum));
    for (int64_t e = 0; e < experts_; ++e) put(hn::MulAdd(factor, at(scratch_.spare, e), at(scratch_.gradient, e)), scratch_.gradient, e);
  }

  const cudamoe_gate_backward_args& args_;
  const GradientScratch& scratch_;
  int64_t gate_, experts_;
  bool noisy_;
  double balance_;  // the balance loss's gradient on a probability, for each count of its expert
  int64_t row_ = 0, rows_ = 0, bad_ = -1;
};

int64_t gate_gradient_block(const cudamoe_gate_backward_args& args, int64_t first, int64_t rows, const GradientScratch& scratch) {
  FirstOffender offender;
  for (int64_t gate = 0; gate < args.gates; ++gate) {
    GateGradientRows part(args, scratch, gate);
    for (int64_t r = 0; r < rows; r += kLanes) offender.note(part.run(first + r, std::min<int64_t>(kLanes, rows - r)));
  }
  return offender.index();
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace cudamoe::cpu {

HWY_EXPORT(gate_gradient_block);

cudamoe_status gate_backward(void* handle, const cudamoe_gate_backward_args& args) {
  Stream& stream = stream_of(handle);
  Device& device = stream.device();
  const int64_t blocks = divide_up(args.rows, kTileOfRows);
  // The ABI gives this operation no work space: a usual number of experts fits on the stack, more take memory for the call.
  constexpr int64_t kStackExperts = 64;
  const int64_t floats = GradientScratch::floats(args.experts);
  std::unique_ptr<float[]> heap;
  if (args.experts > kStackExperts)
    heap = std::make_unique<float[]>(static_cast<size_t>(device.threads() * floats + GradientScratch::kAlignment));
  constexpr double kNanosecondsAScore = 3;
  FirstOffender offender;
  device.for_tiles(blocks, kNanosecondsAScore * static_cast<double>(args.rows * gate_columns(args)), [&](int64_t block, int worker) {
    alignas(64) float stack[GradientScratch::floats(kStackExperts)];
    float* memory = heap == nullptr ? stack : GradientScratch::aligned(heap.get()) + worker * floats;
    const int64_t first = block * kTileOfRows;
    const GradientScratch scratch(memory, args.experts);
    offender.note(HWY_DYNAMIC_DISPATCH(gate_gradient_block)(args, first, std::min(kTileOfRows, args.rows - first), scratch));
  });
  if (const int64_t pair = offender.index(); pair >= 0) {
    stream.report("cudamoe_gate_backward: chosen[%lld] is %d; it must be at least 0 and below experts (%d); such choices have no gradient",
                  static_cast<long long>(pair), args.chosen[pair], args.experts);
  }
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu

#endif  // HWY_ONCE
