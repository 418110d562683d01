// Activations and their derivatives, by the numbers of cudamoe.h.
//
// Errors in units of 2^-24 of the result follow from common/math.cuh: sigmoid 4, SiLU 5, tanh 2, Phi 4 near 0 and x^2 / 2 + 4 in the
// lower tail, where rounding x / sqrt(2) counts. NaN gives NaN.
#pragma once

#include "common/activation.h"
#include "common/kernel.cuh"

namespace cudamoe::kernels {

CUDAMOE_DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }
// The standard normal distribution.
CUDAMOE_DEVICE float normal_cdf(float x) { return 0.5f * erfc(-0.707106781f * x); }
CUDAMOE_DEVICE float normal_density(float x) { return 0.398942280f * exp(-0.5f * x * x); }

CUDAMOE_DEVICE float activate(Activation activation, float x, float slope) {
  switch (activation) {
    case Activation::kRelu:
      return x < 0 ? 0.0f : x;
    case Activation::kLeakyRelu:
      return x < 0 ? slope * x : x;
    case Activation::kGelu:
      return x * normal_cdf(x);
    case Activation::kSilu:
      return x * sigmoid(x);
    case Activation::kSigmoid:
      return sigmoid(x);
    case Activation::kTanh:
      return tanh(x);
    default:
      return x;
  }
}

// From the activation's output, or from its input for GELU and SiLU. At 0 ReLU and LeakyReLU take the side below.
CUDAMOE_DEVICE float activation_derivative(Activation activation, float below, float slope) {
  switch (activation) {
    case Activation::kRelu:
      return below <= 0 ? 0.0f : 1.0f;
    case Activation::kLeakyRelu:
      return below <= 0 ? slope : 1.0f;
    case Activation::kGelu:
      return fma(below, normal_density(below), normal_cdf(below));
    case Activation::kSilu: {
      const float s = sigmoid(below);
      return s * fma(below, 1.0f - s, 1.0f);
    }
    case Activation::kSigmoid:
      return below * (1.0f - below);
    case Activation::kTanh:
      return fma(-below, below, 1.0f);
    default:
      return 1.0f;
  }
}

// The same of several values, with one branch for all.
template <int N>
CUDAMOE_DEVICE void activate_each(Activation activation, Vector<float, N>& x, float slope) {
  const auto each = [&](auto which) {
    CUDAMOE_UNROLL
    for (int i = 0; i < N; ++i) x[i] = activate(decltype(which)::value, x[i], slope);
  };
  switch (activation) {
    case Activation::kNone:
      return;
    case Activation::kRelu:
      return each(std::integral_constant<Activation, Activation::kRelu>{});
    case Activation::kLeakyRelu:
      return each(std::integral_constant<Activation, Activation::kLeakyRelu>{});
    default:
      CUDAMOE_UNROLL
      for (int i = 0; i < N; ++i) x[i] = activate(activation, x[i], slope);
  }
}
// x times the derivative at `below`.
template <int N>
CUDAMOE_DEVICE void multiply_derivative_each(Activation activation, Vector<float, N>& x, const Vector<float, N>& below, float slope) {
  if (activation == Activation::kRelu || activation == Activation::kLeakyRelu) {
    const float low = activation == Activation::kRelu ? 0.0f : slope;
    CUDAMOE_UNROLL
    for (int i = 0; i < N; ++i) x[i] *= below[i] <= 0 ? low : 1.0f;
    return;
  }
  CUDAMOE_UNROLL
  for (int i = 0; i < N; ++i) x[i] *= activation_derivative(activation, below[i], slope);
}

}  // namespace cudamoe::kernels
