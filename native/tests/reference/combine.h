// Gate-weighted sums of expert outputs and their gradients, in plain double arithmetic on contiguous arrays.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "cudamoe.h"

namespace cudamoe::test::reference {

struct CombineShape {
  int64_t rows, tasks, choices, width;
};

// The row of `expert` that (b, t, e) reads, or -1: b * choices + e when slots is empty (dense), else the slot of the pair.
inline int64_t expert_row(const CombineShape& s, const std::vector<int32_t>& slots, int64_t b, int64_t t, int64_t e) {
  return slots.empty() ? b * s.choices + e : slots[(b * s.tasks + t) * s.choices + e];
}

// y [rows, tasks, width] from gates [rows, tasks, choices], residual [tasks, choices] or empty, expert [any, width].
inline std::vector<double> combine(const CombineShape& s, const std::vector<double>& gates, const std::vector<double>& residual,
                                   const std::vector<double>& expert, const std::vector<int32_t>& slots) {
  std::vector<double> y(s.rows * s.tasks * s.width, 0.0);
  for (int64_t b = 0; b < s.rows; ++b) {
    for (int64_t t = 0; t < s.tasks; ++t) {
      for (int64_t e = 0; e < s.choices; ++e) {
        const int64_t row = expert_row(s, slots, b, t, e);
        if (row < 0) continue;
        const double weight = gates[(b * s.tasks + t) * s.choices + e] + (residual.empty() ? 0.0 : residual[t * s.choices + e]);
        for (int64_t j = 0; j < s.width; ++j) y[(b * s.tasks + t) * s.width + j] += weight * expert[row * s.width + j];
      }
    }
  }
  return y;
}

struct CombineGradient {
  std::vector<double> dexpert, dgates, dresidual;
};

inline double activate(int32_t activation, double slope, double x) {
  switch (activation) {
    case CUDAMOE_ACTIVATION_RELU:
      return x > 0 ? x : 0;
    case CUDAMOE_ACTIVATION_LEAKY_RELU:
      return x > 0 ? x : slope * x;
    case CUDAMOE_ACTIVATION_GELU:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case CUDAMOE_ACTIVATION_SILU:
      return x / (1 + std::exp(-x));
    case CUDAMOE_ACTIVATION_SIGMOID:
      return 1 / (1 + std::exp(-x));
    case CUDAMOE_ACTIVATION_TANH:
      return std::tanh(x);
    default:
      return x;
  }
}

// From the pre-activation, by the formula of each.
inline double activate_derivative(int32_t activation, double slope, double x) {
  const double s = 1 / (1 + std::exp(-x));
  switch (activation) {
    case CUDAMOE_ACTIVATION_RELU:
      return x > 0 ? 1 : 0;
    case CUDAMOE_ACTIVATION_LEAKY_RELU:
      return x > 0 ? 1 : slope;
    case CUDAMOE_ACTIVATION_GELU:
      return 0.5 * std::erfc(-x / std::sqrt(2.0)) + x * std::exp(-0.5 * x * x) / std::sqrt(2 * std::acos(-1.0));
    case CUDAMOE_ACTIVATION_SILU:
      return s * (1 + x * (1 - s));
    case CUDAMOE_ACTIVATION_SIGMOID:
      return s * (1 - s);
    case CUDAMOE_ACTIVATION_TANH:
      return 1 - std::tanh(x) * std::tanh(x);
    default:
      return 1;
  }
}

// `factor` [any, width] is the activation's derivative at each expert element; dy [rows, tasks, width]; scale [tasks], where
// zero leaves the task out.
inline CombineGradient combine_gradient(const CombineShape& s, const std::vector<double>& gates, const std::vector<double>& residual,
                                        const std::vector<double>& expert, const std::vector<double>& factor,
                                        const std::vector<int32_t>& slots, const std::vector<double>& dy,
                                        const std::vector<double>& scale) {
  CombineGradient g;
  g.dexpert.assign(expert.size(), 0.0);
  g.dgates.assign(s.rows * s.tasks * s.choices, 0.0);
  g.dresidual.assign(s.tasks * s.choices, 0.0);
  for (int64_t b = 0; b < s.rows; ++b) {
    for (int64_t t = 0; t < s.tasks; ++t) {
      for (int64_t e = 0; e < s.choices; ++e) {
        const int64_t row = expert_row(s, slots, b, t, e), gate = (b * s.tasks + t) * s.choices + e;
        if (row < 0 || scale[t] == 0) continue;
        const double weight = gates[gate] + (residual.empty() ? 0.0 : residual[t * s.choices + e]);
        for (int64_t j = 0; j < s.width; ++j) {
          const double upper = scale[t] * dy[(b * s.tasks + t) * s.width + j];
          g.dexpert[row * s.width + j] += weight * upper * factor[row * s.width + j];
          g.dgates[gate] += upper * expert[row * s.width + j];
        }
        g.dresidual[t * s.choices + e] += g.dgates[gate];
      }
    }
  }
  return g;
}

}  // namespace cudamoe::test::reference
