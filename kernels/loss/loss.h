// The kernels of the loss family, as the host launches them. Of a loss: weights, then losses with gradients and results; in this order on
// one stream.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/target.cuh"

namespace cudamoe::kernels {

struct DeviceReport;
struct OffenderCell;

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

// Rows that one block takes: at most 1024 blocks of a task, whose sums every block adds up again.
CUDAMOE_HOST_DEVICE int64_t loss_block_rows(int64_t rows) {
  constexpr int64_t kThreads = 256, kMostBlocks = 1024;
  const int64_t turns = (rows + kThreads * kMostBlocks - 1) / (kThreads * kMostBlocks);
  return kThreads * (turns < 1 ? 1 : turns);
}
// Tasks of one launch; they travel as a kernel parameter.
inline constexpr int kLossTasks = 40;

// What a block's rows of one task add up to.
struct LossPartial {
  double weight;  // of the valid rows
  double loss;    // weighted
};

struct LossTable {
  LossTask task[kLossTasks];
  int32_t tasks;
  int32_t first_task;  // number of task[0] among all of the operation
  int64_t rows, block_rows, blocks;
  LossPartial* partials;  // [tasks, blocks], of this table
  uint32_t* finished;     // [tasks], of this table: blocks that are through
  double* weight_sums;    // [tasks], of this table
  double* losses;         // [tasks], of this table
  OffenderCell* offender;
  DeviceReport* report;
};

cudaError_t loss_weights(const LossTable& table, cudaStream_t stream);
cudaError_t loss_values(const LossTable& table, cudaStream_t stream);

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
