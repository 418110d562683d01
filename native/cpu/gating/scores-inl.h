// Softmax, sigmoid and top-k with one row a lane: every array is [experts][kLanes].
//
// Special values. Infinite logits count as the largest finite ones. A NaN logit ranks below everything; in a sparse gate it counts
// as minus infinity in the softmax and as sigmoid 0, so its weight is 0 and the other experts' weights are as if it were absent.
// Only when all logits that a softmax runs over are NaN or minus infinity do they share equally. In a dense gate a NaN is handed on: all
// probabilities of that softmax are NaN.
#if defined(CUDAMOE_CPU_GATING_SCORES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CUDAMOE_CPU_GATING_SCORES_INL_H
#undef CUDAMOE_CPU_GATING_SCORES_INL_H
#else
#define CUDAMOE_CPU_GATING_SCORES_INL_H
#endif

#include <hwy/highway.h>

#include <limits>

#include "cpu/common/activation-inl.h"
#include "cpu/gating/gating.h"
#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

using I32 = hn::RebindToSigned<F32>;
using VecI32 = hn::Vec<I32>;

// Infinities become the largest finite numbers; a NaN becomes the lowest when kSparse and stays one otherwise.
template <bool kSparse>
HWY_INLINE VecF32 sanitise(VecF32 x) {
  const F32 d;
  const VecF32 most = hn::Set(d, std::numeric_limits<float>::max()), least = hn::Neg(most);
  const VecF32 clamped = hn::Max(hn::Min(x, most), least);
  return hn::IfThenElse(hn::IsNaN(x), kSparse ? least : x, clamped);
}

// log(1 + e^x)
HWY_INLINE VecF32 softplus(VecF32 x) {
  const F32 d;
  const VecF32 value = hn::Add(hn::Max(x, hn::Zero(d)), hn::Log1p(d, exp(d, hn::Neg(hn::Abs(x)))));
  return hn::IfThenElse(hn::IsNaN(x), x, value);
}

// e^x for x <= 0, and 0 where that is below e^-87 (near the smallest normal number). NaN gives NaN.
HWY_INLINE VecF32 exp_of_nonpositive(VecF32 x) {
  const F32 d;
  const hn::RebindToUnsigned<F32> du;
  const VecF32 least = hn::Set(d, -87.0f), bounded = hn::Max(least, x);  // answers the second operand when that is NaN
  // This addend rounds to an integer n, and leaves n + 127, the exponent of 2^n, in the lowest bits of the sum.
  const VecF32 rounder = hn::Set(d, 0x1.8p23f + 127);
  const VecF32 rounded = hn::MulAdd(bounded, hn::Set(d, 1.44269504f), rounder), n = hn::Sub(rounded, rounder);
  const VecF32 r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), hn::NegMulAdd(n, hn::Set(d, 0.693359375f), bounded));
  const VecF32 power = hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(du, rounded)));
  return hn::IfThenZeroElse(hn::Lt(x, least), hn::Mul(hn::Add(expm1_near_zero(d, r), hn::Set(d, 1.0f)), power));
}

struct SoftmaxResult {
  VecF32 largest;  // of the sanitised logits
  VecF32 sum;      // of exp(logit - largest)
};

// Sums up to 0 over finite numbers, and to NaN over any others.
HWY_INLINE VecF32 add_unless_finite(VecF32 sum, VecF32 x) { return hn::MulAdd(x, hn::Zero(F32()), sum); }
HWY_INLINE bool all_were_finite(VecF32 sum) { return hn::AllTrue(F32(), hn::Eq(sum, hn::Zero(F32()))); }

// exponentials = exp(prepare(logits) - largest); the sum is taken in ascending order of the experts.
template <class Prepare>
HWY_INLINE SoftmaxResult softmax_terms_below(VecF32 largest, const float* HWY_RESTRICT logits, int64_t experts,
                                             float* HWY_RESTRICT exponentials, Prepare&& prepare) {
  const F32 d;
  VecF32 sum = hn::Zero(d);
  for (int64_t e = 0; e < experts; ++e) {
    const VecF32 term = exp_of_nonpositive(hn::Sub(prepare(hn::Load(d, logits + e * kLanes)), largest));
    hn::Store(term, d, exponentials + e * kLanes);
    sum = hn::Add(sum, term);
  }
  return {largest, sum};
}

// exponentials = exp(sanitised logits - largest).
template <bool kSparse>
HWY_INLINE SoftmaxResult softmax_terms(const float* HWY_RESTRICT logits, int64_t experts, float* HWY_RESTRICT exponentials) {
  const F32 d;
  VecF32 largest = hn::Load(d, logits), check = add_unless_finite(hn::Zero(d), largest);
  for (int64_t e = 1; e < experts; ++e) {
    const VecF32 x = hn::Load(d, logits + e * kLanes);
    largest = hn::Max(largest, x);
    check = add_unless_finite(check, x);
  }
  if (HWY_LIKELY(all_were_finite(check))) {
    return softmax_terms_below(largest, logits, experts, exponentials, [](VecF32 x) HWY_ATTR { return x; });
  }
  largest = sanitise<true>(hn::Load(d, logits));
  for (int64_t e = 1; e < experts; ++e) largest = hn::Max(largest, sanitise<true>(hn::Load(d, logits + e * kLanes)));
  return softmax_terms_below(largest, logits, experts, exponentials, [](VecF32 x) HWY_ATTR { return sanitise<kSparse>(x); });
}

HWY_INLINE void scale_lanes(float* HWY_RESTRICT values, int64_t experts, VecF32 factor) {
  const F32 d;
  for (int64_t e = 0; e < experts; ++e) hn::Store(hn::Mul(hn::Load(d, values + e * kLanes), factor), d, values + e * kLanes);
}

// log sum exp of the logits that the terms were taken of.
HWY_INLINE VecF32 log_sum(const SoftmaxResult& result) { return hn::Add(result.largest, hn::Log(F32(), result.sum)); }

template <bool kSparse>
HWY_INLINE VecF32 sigmoid_of(VecF32 x) {
  const F32 d;
  const VecF32 value = sigmoid(d, x);
  return kSparse ? hn::IfThenZeroElse(hn::IsNaN(x), value) : value;
}

// sigmoid'(x), exact for large |x| too; 0 for NaN.
HWY_INLINE VecF32 sigmoid_derivative(VecF32 x) {
  const F32 d;
  const VecF32 e = exp(d, hn::Neg(hn::Abs(x))), base = hn::Add(hn::Set(d, 1.0f), e);
  return hn::IfThenZeroElse(hn::IsNaN(x), hn::Div(e, hn::Mul(base, base)));
}

// Integers in the order of the scores: NaN lowest but kNoKey, -0 equal to +0.
inline constexpr int32_t kNoKey = std::numeric_limits<int32_t>::min();
HWY_INLINE VecI32 key_of(VecF32 score) {
  const F32 d;
  const I32 di;
  const VecI32 bits = hn::BitCast(di, hn::Add(score, hn::Zero(d)));
  const VecI32 key = hn::Xor(bits, hn::And(hn::BroadcastSignBit(bits), hn::Set(di, 0x7FFFFFFF)));
  return hn::IfThenElse(hn::RebindMask(di, hn::IsNaN(score)), hn::Set(di, kNoKey + 1), key);
}
HWY_INLINE VecF32 score_of(VecI32 key) {
  const VecI32 bits = hn::Xor(key, hn::And(hn::BroadcastSignBit(key), hn::Set(I32(), 0x7FFFFFFF)));
  return hn::BitCast(F32(), bits);
}

// chosen [top_k][kLanes]: the experts of the largest keys in descending order, lower index first among equals; and their keys. A chosen
// expert's key becomes `none`, which is below all others, so the experts are distinct whatever the keys are.
template <class D, class T>
HWY_INLINE void choose(D d, T* HWY_RESTRICT keys, T none, int64_t experts, int64_t top_k, int32_t* HWY_RESTRICT chosen,
                       T* HWY_RESTRICT chosen_keys) {
  const I32 di;
  const hn::Vec<D> lowest = hn::Set(d, none);
  const VecI32 one = hn::Set(di, 1);
  VecI32 last = hn::Set(di, -1);
  for (int64_t j = 0; j < top_k; ++j) {
    hn::Vec<D> best_key = lowest;
    VecI32 best = hn::Zero(di), index = hn::Zero(di);
    for (int64_t e = 0; e < experts; ++e) {
      hn::Vec<D> key = hn::Load(d, keys + e * kLanes);
      if (j > 0) {
        key = hn::IfThenElse(hn::RebindMask(d, hn::Eq(index, last)), lowest, key);
        hn::Store(key, d, keys + e * kLanes);
      }
      best = hn::IfThenElse(hn::RebindMask(di, hn::Gt(key, best_key)), index, best);
      best_key = hn::Max(best_key, key);
      index = hn::Add(index, one);
    }
    hn::Store(best, di, chosen + j * kLanes);
    hn::Store(best_key, d, chosen_keys + j * kLanes);
    last = best;
  }
}

// values[chosen[lane]][lane]
HWY_INLINE VecF32 pick(const float* values, VecI32 chosen) {
  const I32 d;
  const VecI32 at = hn::Add(hn::Mul(chosen, hn::Set(d, kLanes)), hn::Iota(d, 0));
  return hn::GatherIndex(F32(), values, at);
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // CUDAMOE_CPU_GATING_SCORES_INL_H
