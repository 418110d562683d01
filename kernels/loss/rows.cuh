// Which rows count, and with what weight.
#pragma once

#include "common/kernel.cuh"
#include "loss/loss.h"

namespace cudamoe::kernels {

inline constexpr int kLossThreads = 256;

struct LossRow {
  float label;
  float weight;  // 0 when the row is not valid
  bool bad;      // its label or weight breaks a rule: more than missing
};

CUDAMOE_DEVICE bool label_in_range(const LossTask& task, float label) {
  switch (task.kind) {
    case LossKind::kBinary:
      return label >= 0 && label <= 1;
    case LossKind::kSquared:
      return is_finite(label);
    default:
      return label == floor(label) && label >= 0 && label < static_cast<float>(task.classes);
  }
}

CUDAMOE_DEVICE LossRow loss_row(const LossTask& task, int64_t row) {
  const float label = task.labels[row * task.labels_stride];
  const float weight = task.weights == nullptr ? 1.0f : task.weights[row * task.weights_stride];
  const bool label_good = label_in_range(task, label), weight_good = weight >= 0 && is_finite(weight);
  return {label, label_good && weight_good ? weight : 0.0f, (!label_good && !is_nan(label)) || !weight_good};
}

}  // namespace cudamoe::kernels
