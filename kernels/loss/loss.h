// The kernels of the loss family, as the host launches them. Of a loss: weights, weight sums, losses with gradients, results; in this order
// on one stream.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace cudamoe::kernels {

struct DeviceReport;

enum class LossKind : int32_t { kBinary, kSquared, kSoftmax };

struct LossTask {
  const float* logits;
  const float* labels;
  const float* weights;  // or null: 1
  float* dlogits;        // or null
  int64_t logits_row_stride, labels_stride, weights_stride, dlogits_row_stride;
  LossKind kind;
  int32_t classes;
  float scale;
};

// Rows that one block takes.
inline constexpr int64_t kLossRows = 2048;
// Tasks of one launch; they travel as a kernel parameter.
inline constexpr int kLossTasks = 40;

// What a block's rows of one task add up to.
struct LossPartial {
  double weight;    // of the valid rows
  double loss;      // weighted
  int64_t bad_row;  // the first row whose label or weight breaks its rule, or kNoRow
};
inline constexpr int64_t kNoRow = INT64_MAX;

struct LossTable {
  LossTask task[kLossTasks];
  int32_t tasks;
  int32_t first_task;  // number of task[0] among all of the operation
  int64_t rows, blocks;
  LossPartial* partials;  // [tasks, blocks], of this table
  double* weight_sums;    // [tasks], of this table
  double* losses;         // [tasks], of this table
};

cudaError_t loss_weights(const LossTable& table, cudaStream_t stream);
cudaError_t loss_weight_sums(const LossTable& table, cudaStream_t stream);
cudaError_t loss_values(const LossTable& table, cudaStream_t stream);
cudaError_t loss_results(const LossTable& table, DeviceReport* report, cudaStream_t stream);

// The logit of a product of two probabilities.
struct JointLogits {
  int64_t rows;
  const float *a, *b;
  int64_t a_stride, b_stride;
  float* joint;
  int64_t joint_stride;
};
cudaError_t joint_logits(const JointLogits& joint, cudaStream_t stream);

struct JointLogitsGradient {
  int64_t rows;
  const float *a, *b, *djoint;
  int64_t a_stride, b_stride, djoint_stride;
  float *da, *db;
  int64_t da_stride, db_stride;
  int32_t accumulate_a, accumulate_b;
};
cudaError_t joint_logits_gradient(const JointLogitsGradient& gradient, cudaStream_t stream);

}  // namespace cudamoe::kernels
