// Dense optimiser steps in plain double precision.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "cudamoe.h"

namespace cudamoe::test {

struct DenseOptimizer {
  int32_t optimizer = CUDAMOE_OPTIMIZER_SGD;
  double learning_rate = 0.01, momentum = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
};

struct DenseTensor {
  std::vector<double> parameter, state1, state2;
};

// `scale` multiplies the gradient.
inline void reference_optimizer_step(const DenseOptimizer& o, int64_t step, double scale, const std::vector<float>& gradient,
                                     DenseTensor& tensor) {
  const auto t = static_cast<double>(step);
  for (size_t i = 0; i < gradient.size(); ++i) {
    double& p = tensor.parameter[i];
    double g = scale * static_cast<double>(gradient[i]);
    switch (o.optimizer) {
      case CUDAMOE_OPTIMIZER_SGD: {
        double& v = tensor.state1[i];
        v = o.momentum * v + g + o.weight_decay * p;
        p -= o.learning_rate * v;
        break;
      }
      case CUDAMOE_OPTIMIZER_ADAGRAD: {
        double& s = tensor.state1[i];
        g += o.weight_decay * p;
        s += g * g;
        p -= o.learning_rate * g / (std::sqrt(s) + o.epsilon);
        break;
      }
      default: {
        double& m = tensor.state1[i];
        double& v = tensor.state2[i];
        m = o.beta1 * m + (1 - o.beta1) * g;
        v = o.beta2 * v + (1 - o.beta2) * g * g;
        const double mean = m / (1 - std::pow(o.beta1, t)), variance = v / (1 - std::pow(o.beta2, t));
        p -= o.learning_rate * (mean / (std::sqrt(variance) + o.epsilon) + o.weight_decay * p);
      }
    }
  }
}

}  // namespace cudamoe::test
