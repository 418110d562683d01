// Losses in plain double arithmetic.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "cudamoe.h"

namespace cudamoe::test::reference {

struct Loss {
  double loss = 0, weight_sum = 0;
  std::vector<double> dlogits;  // [rows, classes]
};

// logits [rows, classes], labels and weights [rows]; NaN labels are missing.
inline Loss loss(int32_t kind, const std::vector<double>& logits, const std::vector<float>& labels, const std::vector<float>& weights,
                 int64_t classes, double scale) {
  const auto rows = static_cast<int64_t>(labels.size());
  Loss result;
  result.dlogits.assign(logits.size(), 0.0);
  double sum = 0;
  for (int64_t b = 0; b < rows; ++b) {
    const double y = static_cast<double>(labels[b]), w = static_cast<double>(weights[b]);
    if (std::isnan(y) || !(w > 0)) continue;
    const double* x = &logits[b * classes];
    double* dx = &result.dlogits[b * classes];
    result.weight_sum += w;
    if (kind == CUDAMOE_LOSS_BINARY) {
      sum += w * (std::fmax(x[0], 0.0) - x[0] * y + std::log1p(std::exp(-std::fabs(x[0]))));
      dx[0] = w * (1.0 / (1.0 + std::exp(-x[0])) - y);
    } else if (kind == CUDAMOE_LOSS_SQUARED) {
      sum += w * (x[0] - y) * (x[0] - y);
      dx[0] = w * 2 * (x[0] - y);
    } else {
      double peak = x[0], total = 0;
      for (int64_t c = 1; c < classes; ++c) peak = std::fmax(peak, x[c]);
      for (int64_t c = 0; c < classes; ++c) total += std::exp(x[c] - peak);
      const auto label = static_cast<int64_t>(y);
      sum += w * (std::log(total) - (x[label] - peak));
      for (int64_t c = 0; c < classes; ++c) dx[c] = w * (std::exp(x[c] - peak) / total - (c == label ? 1.0 : 0.0));
    }
  }
  if (result.weight_sum > 0) {
    result.loss = sum / result.weight_sum;
    for (double& g : result.dlogits) g *= scale / result.weight_sum;
  }
  return result;
}

}  // namespace cudamoe::test::reference
