// Normalisation by the root of the mean square and its gradients in plain double arithmetic on contiguous arrays.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace cudamoe::test::reference {

struct RmsNorm {
  std::vector<double> y, reciprocal;
};

inline RmsNorm rms_norm(const std::vector<double>& x, const std::vector<double>& gamma, int64_t rows, int64_t width, double epsilon) {
  RmsNorm result;
  for (int64_t b = 0; b < rows; ++b) {
    double squares = 0;
    for (int64_t j = 0; j < width; ++j) squares += x[b * width + j] * x[b * width + j];
    const double reciprocal = 1 / std::sqrt(squares / static_cast<double>(width) + epsilon);
    for (int64_t j = 0; j < width; ++j) result.y.push_back(x[b * width + j] * reciprocal * (gamma.empty() ? 1.0 : gamma[j]));
    result.reciprocal.push_back(reciprocal);
  }
  return result;
}

struct RmsNormGradient {
  std::vector<double> dx, dgamma;
};

inline RmsNormGradient rms_norm_gradient(const std::vector<double>& x, const std::vector<double>& gamma, const RmsNorm& forward,
                                         const std::vector<double>& dy, int64_t rows, int64_t width) {
  RmsNormGradient result;
  result.dgamma.assign(width, 0.0);
  for (int64_t b = 0; b < rows; ++b) {
    const double r = forward.reciprocal[b];
    double product = 0;
    for (int64_t j = 0; j < width; ++j) {
      const double upper = dy[b * width + j];
      product += upper * (gamma.empty() ? 1.0 : gamma[j]) * x[b * width + j];
      result.dgamma[j] += upper * x[b * width + j] * r;
    }
    for (int64_t j = 0; j < width; ++j) {
      const double g = dy[b * width + j] * (gamma.empty() ? 1.0 : gamma[j]);
      result.dx.push_back(r * g - x[b * width + j] * r * r * r * product / static_cast<double>(width));
    }
  }
  return result;
}

}  // namespace cudamoe::test::reference
