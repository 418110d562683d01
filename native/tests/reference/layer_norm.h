// Layer normalisation and its gradients in plain double arithmetic on contiguous arrays.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace cudamoe::test::reference {

struct LayerNorm {
  std::vector<double> y, mean, reciprocal_deviation;
};

inline LayerNorm layer_norm(const std::vector<double>& x, const std::vector<double>& gamma, const std::vector<double>& beta, int64_t rows,
                            int64_t width, double epsilon) {
  LayerNorm result;
  for (int64_t b = 0; b < rows; ++b) {
    double mean = 0, variance = 0;
    for (int64_t j = 0; j < width; ++j) mean += x[b * width + j];
    mean /= static_cast<double>(width);
    for (int64_t j = 0; j < width; ++j) variance += (x[b * width + j] - mean) * (x[b * width + j] - mean);
    const double reciprocal = 1 / std::sqrt(variance / static_cast<double>(width) + epsilon);
    for (int64_t j = 0; j < width; ++j) {
      result.y.push_back((x[b * width + j] - mean) * reciprocal * (gamma.empty() ? 1.0 : gamma[j]) + (beta.empty() ? 0.0 : beta[j]));
    }
    result.mean.push_back(mean);
    result.reciprocal_deviation.push_back(reciprocal);
  }
  return result;
}

struct LayerNormGradient {
  std::vector<double> dx, dgamma, dbeta;
};

inline LayerNormGradient layer_norm_gradient(const std::vector<double>& x, const std::vector<double>& gamma, const LayerNorm& forward,
                                             const std::vector<double>& dy, int64_t rows, int64_t width) {
  LayerNormGradient result;
  result.dgamma.assign(width, 0.0);
  result.dbeta.assign(width, 0.0);
  for (int64_t b = 0; b < rows; ++b) {
    const double r = forward.reciprocal_deviation[b];
    double mean_g = 0, mean_gh = 0;
    for (int64_t j = 0; j < width; ++j) {
      const double h = (x[b * width + j] - forward.mean[b]) * r, upper = dy[b * width + j];
      const double g = upper * (gamma.empty() ? 1.0 : gamma[j]);
      mean_g += g / static_cast<double>(width);
      mean_gh += g * h / static_cast<double>(width);
      result.dgamma[j] += upper * h;
      result.dbeta[j] += upper;
    }
    for (int64_t j = 0; j < width; ++j) {
      const double h = (x[b * width + j] - forward.mean[b]) * r;
      result.dx.push_back(r * (dy[b * width + j] * (gamma.empty() ? 1.0 : gamma[j]) - mean_g - h * mean_gh));
    }
  }
  return result;
}

}  // namespace cudamoe::test::reference
