// Activations and their derivatives on vectors of f32, without branches.
//
// Largest error against double arithmetic, in units of 2^-24 of the result, over all f32 inputs whose result (for SiLU and GELU: whose
// sigmoid, whose Phi) is a normal number, pinned by native/tests/gemm/activation_test.cpp; in parentheses the levels without a fused
// multiply-add:
//   exp 3 (3), sigmoid 4 (4), tanh 4 (4), Phi 8 (200), SiLU 5 (5), GELU 9 (201).
// NaN gives NaN. exp overflows to infinity and underflows through the subnormal numbers to 0.
//
// Include it after <hwy/highway.h> in a file that is compiled once for each target (hwy/foreach_target.h).
#if defined(CUDAMOE_CPU_COMMON_ACTIVATION_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CUDAMOE_CPU_COMMON_ACTIVATION_INL_H
#undef CUDAMOE_CPU_COMMON_ACTIVATION_INL_H
#else
#define CUDAMOE_CPU_COMMON_ACTIVATION_INL_H
#endif

#include <hwy/highway.h>

#include <type_traits>

#include "cpu/common/vector-inl.h"
#include "cudamoe.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

// 2^n for integral -127 < n < 128.
HWY_INLINE VecF32 power_of_two(F32 d, VecF32 n) {
  const hn::RebindToSigned<F32> di;
  return hn::BitCast(d, hn::ShiftLeft<23>(hn::ConvertTo(di, n) + hn::Set(di, 127)));
}

// x = n ln 2 + r with integral n and |r| <= ln 2 / 2; answers e^r - 1 and n. |x| < 2^15, so that n * (upper part of ln 2) is exact.
struct ReducedExp {
  VecF32 expm1_r, n;
};

// e^r - 1 for |r| <= ln 2 / 2: (e^r - 1 - r) / r^2 by a polynomial near the best one, relative error of e^r 1e-8.
HWY_INLINE VecF32 expm1_near_zero(F32 d, VecF32 r) {
  VecF32 q = hn::Set(d, 0.00139337336f);
  q = hn::MulAdd(q, r, hn::Set(d, 0.00836323574f));
  q = hn::MulAdd(q, r, hn::Set(d, 0.041666463f));
  q = hn::MulAdd(q, r, hn::Set(d, 0.166665763f));
  q = hn::MulAdd(q, r, hn::Set(d, 0.5f));
  return hn::MulAdd(q, r * r, r);
}

HWY_INLINE ReducedExp reduce_exp(F32 d, VecF32 x) {
  const VecF32 n = hn::Round(x * hn::Set(d, 1.44269504f));
  VecF32 r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  return {expm1_near_zero(d, r), n};
}

HWY_INLINE VecF32 exp(F32 d, VecF32 x) {
  // Min and Max answer their second operand when one is NaN (x86) or NaN (others).
  const ReducedExp e = reduce_exp(d, hn::Max(hn::Set(d, -104.0f), hn::Min(hn::Set(d, 89.0f), x)));
  const VecF32 half = hn::Floor(e.n * hn::Set(d, 0.5f));  // in two steps: 2^n alone may be out of range
  const VecF32 value = e.expm1_r + hn::Set(d, 1.0f);
  return value * power_of_two(d, half) * power_of_two(d, e.n - half);
}

HWY_INLINE VecF32 sigmoid(F32 d, VecF32 x) {
  const VecF32 one = hn::Set(d, 1.0f);
  return one / (one + exp(d, hn::Neg(x)));
}

// (e^2|x| - 1) / (e^2|x| + 1) with the sign of x.
HWY_INLINE VecF32 tanh(F32 d, VecF32 x) {
  const VecF32 one = hn::Set(d, 1.0f);
  const VecF32 twice = hn::Abs(x) + hn::Abs(x);
  const ReducedExp e = reduce_exp(d, hn::Min(hn::Set(d, 20.0f), twice));
  const VecF32 scale = power_of_two(d, e.n);
  const VecF32 expm1 = hn::MulAdd(scale, e.expm1_r, scale - one);
  return hn::CopySign(expm1 / (expm1 + hn::Set(d, 2.0f)), x);
}

// The standard normal distribution: Phi(x), and phi(x) = exp(-x^2 / 2) / sqrt(2 pi).
struct Normal {
  VecF32 cdf, density;
};
HWY_INLINE Normal normal(F32 d, VecF32 x) {
  const VecF32 one = hn::Set(d, 1.0f);
  const VecF32 t = hn::Min(hn::Set(d, 15.0f), hn::Abs(x));
  // exp(-t^2 / 2), with the rounding error of t^2 put back in.
  const VecF32 square = t * t;
  const VecF32 rest = hn::MulSub(t, t, square);
  const VecF32 raw = exp(d, square * hn::Set(d, -0.5f));
  const VecF32 gauss = hn::NegMulAdd(raw, rest * hn::Set(d, 0.5f), raw);
  // Phi(-t) = gauss * v * p(1 - 2 v) with v = 4 / (t + 4): the Mills ratio is smooth in v, p is its Chebyshev fit (relative error 4e-8).
  const VecF32 v = hn::Set(d, 4.0f) / (t + hn::Set(d, 4.0f));
  const VecF32 u = hn::NegMulAdd(hn::Set(d, 2.0f), v, one);
  VecF32 p = hn::Set(d, -3.93301452e-05f);
  p = hn::MulAdd(p, u, hn::Set(d, 3.23314198e-05f));
  p = hn::MulAdd(p, u, hn::Set(d, 0.00039094672f));
  p = hn::MulAdd(p, u, hn::Set(d, -0.000869041949f));
  p = hn::MulAdd(p, u, hn::Set(d, -0.00187805784f));
  p = hn::MulAdd(p, u, hn::Set(d, 0.0150988242f));
  p = hn::MulAdd(p, u, hn::Set(d, -0.0466316789f));
  p = hn::MulAdd(p, u, hn::Set(d, 0.0967843905f));
  p = hn::MulAdd(p, u, hn::Set(d, -0.151974097f));
  p = hn::MulAdd(p, u, hn::Set(d, 0.188821286f));
  const VecF32 tail = gauss * v * p;
  return {hn::IfThenElse(x < hn::Zero(d), tail, one - tail), gauss * hn::Set(d, 0.398942280f)};
}

// activation(x); kActivation is one of CUDAMOE_ACTIVATION_*.
template <int32_t kActivation>
HWY_INLINE VecF32 activate(F32 d, VecF32 x, [[maybe_unused]] float slope) {
  if constexpr (kActivation == CUDAMOE_ACTIVATION_RELU) return hn::IfThenZeroElse(x < hn::Zero(d), x);
  if constexpr (kActivation == CUDAMOE_ACTIVATION_LEAKY_RELU) return hn::IfThenElse(x < hn::Zero(d), hn::Set(d, slope) * x, x);
  if constexpr (kActivation == CUDAMOE_ACTIVATION_GELU) return x * normal(d, x).cdf;
  if constexpr (kActivation == CUDAMOE_ACTIVATION_SILU) return x * sigmoid(d, x);
  if constexpr (kActivation == CUDAMOE_ACTIVATION_SIGMOID) return sigmoid(d, x);
  if constexpr (kActivation == CUDAMOE_ACTIVATION_TANH) return tanh(d, x);
  return x;
}

// activation'(.) from the activation's output, or from its input for GELU and SiLU. At 0 ReLU and LeakyReLU take the side below.
template <int32_t kActivation>
HWY_INLINE VecF32 activation_derivative(F32 d, VecF32 below, [[maybe_unused]] float slope) {
  const VecF32 one = hn::Set(d, 1.0f);
  if constexpr (kActivation == CUDAMOE_ACTIVATION_RELU) return hn::IfThenZeroElse(below <= hn::Zero(d), one);
  if constexpr (kActivation == CUDAMOE_ACTIVATION_LEAKY_RELU) return hn::IfThenElse(below <= hn::Zero(d), hn::Set(d, slope), one);
  if constexpr (kActivation == CUDAMOE_ACTIVATION_GELU) {
    const Normal value = normal(d, below);
    return hn::MulAdd(below, value.density, value.cdf);
  }
  if constexpr (kActivation == CUDAMOE_ACTIVATION_SILU) {
    const VecF32 s = sigmoid(d, below);
    return s * hn::MulAdd(below, one - s, one);
  }
  if constexpr (kActivation == CUDAMOE_ACTIVATION_SIGMOID) return below * (one - below);
  if constexpr (kActivation == CUDAMOE_ACTIVATION_TANH) return hn::NegMulAdd(below, below, one);
  return one;
}

// Calls body with std::integral_constant<int32_t, activation>.
template <class Body>
HWY_INLINE void with_activation(int32_t activation, Body&& body) {
  switch (activation) {
    case CUDAMOE_ACTIVATION_RELU:
      return body(std::integral_constant<int32_t, CUDAMOE_ACTIVATION_RELU>());
    case CUDAMOE_ACTIVATION_LEAKY_RELU:
      return body(std::integral_constant<int32_t, CUDAMOE_ACTIVATION_LEAKY_RELU>());
    case CUDAMOE_ACTIVATION_GELU:
      return body(std::integral_constant<int32_t, CUDAMOE_ACTIVATION_GELU>());
    case CUDAMOE_ACTIVATION_SILU:
      return body(std::integral_constant<int32_t, CUDAMOE_ACTIVATION_SILU>());
    case CUDAMOE_ACTIVATION_SIGMOID:
      return body(std::integral_constant<int32_t, CUDAMOE_ACTIVATION_SIGMOID>());
    case CUDAMOE_ACTIVATION_TANH:
      return body(std::integral_constant<int32_t, CUDAMOE_ACTIVATION_TANH>());
    default:
      return body(std::integral_constant<int32_t, CUDAMOE_ACTIVATION_NONE>());
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#endif
