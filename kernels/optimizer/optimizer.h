// The kernels of the optimizer family, as the host launches them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/step_numbers.cuh"

namespace cudamoe::kernels {

struct OptimizerTensor {
  float* parameter;
  const float* gradient;
  float* state1;
  float* state2;
  int64_t count;
  float learning_rate_scale, weight_decay;
};

// Elements that one block takes; a chunk lies in one tensor.
inline constexpr int64_t kOptimizerChunk = 4096;
// Tensors of one launch. They travel as a kernel parameter, so a launch reads no table from memory and can be captured in a graph.
inline constexpr int kOptimizerTensors = 64;

struct OptimizerTable {
  int64_t first_chunk[kOptimizerTensors + 1];  // of each tensor, and their number behind the last
  OptimizerTensor tensor[kOptimizerTensors];
  int32_t tensors;
};

enum class OptimizerRule : int32_t { kSgd, kMomentum, kAdaGrad, kAdamW };

struct OptimizerNumbers {
  float momentum, beta1, beta2, epsilon;
  float gradient_scale, max_norm;
  const double* norm;  // or null
  CurrentStep current;
};

// One step of the tensors of the table.
cudaError_t optimizer_step(OptimizerRule rule, const OptimizerTable& table, const OptimizerNumbers& numbers, cudaStream_t stream);
// partials[chunk] = sum of the squares of the chunk's gradients.
cudaError_t optimizer_squares(const OptimizerTable& table, double* partials, cudaStream_t stream);
// norm[0] = sqrt(sum of the partials).
cudaError_t optimizer_norm(const double* partials, int64_t count, double* norm, cudaStream_t stream);

}  // namespace cudamoe::kernels
