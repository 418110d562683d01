// The kernels of the balance family, as the host launches them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/target.cuh"

namespace cudamoe::kernels {

inline constexpr int kBalanceTasks = 64;

// Gradients of `tasks` tasks: element (t, b, j) at t * task_stride + b * row_stride + j.
struct BalanceGradients {
  int32_t tasks;
  int64_t rows, width;
  const float* data;
  int64_t task_stride, row_stride;
};

// Runs of four columns of all rows, in a row's order.
CUDAMOE_HOST_DEVICE int64_t balance_quads(int64_t rows, int64_t width) { return rows * ((width + 3) / 4); }

inline constexpr int kGramThreads = 128;
// Runs that a thread of the Gram matrix takes, and the blocks that makes: by shape alone.
CUDAMOE_HOST_DEVICE int64_t balance_gram_turns(int64_t quads) {
  constexpr int64_t kBlocks = 1024, kMost = 16;
  const int64_t turns = (quads + kGramThreads * kBlocks - 1) / (kGramThreads * kBlocks);
  return turns < 1 ? 1 : turns > kMost ? kMost : turns;
}
CUDAMOE_HOST_DEVICE int64_t balance_gram_chunks(int64_t quads) {
  const int64_t size = kGramThreads * balance_gram_turns(quads);
  return (quads + size - 1) / size;
}

// partials[i * tasks + j][chunk] = the products of tasks i <= j in a chunk.
cudaError_t balance_gram_chunk_sums(const BalanceGradients& gradients, double* partials, cudaStream_t stream);
// gram[i, j] = gram[j, i] = the sum of partials[i * tasks + j][0 .. chunks-1].
cudaError_t balance_gram_sum(const double* partials, int64_t chunks, int32_t tasks, double* gram, cudaStream_t stream);

struct BalanceFactoredGram {
  int32_t tasks;
  int64_t starts[kBalanceTasks + 1];
  const float* gradient_products;
  int64_t gradient_products_row_stride;
  const float* weight_products;
  int64_t weight_products_row_stride;
  double* gram;
};
cudaError_t balance_factored_gram(const BalanceFactoredGram& gram, cudaStream_t stream);

struct BalanceCombine {
  BalanceGradients gradients;
  const float* weights;
  float* output;  // may be the first task's gradient
  int64_t output_row_stride;
  int32_t accumulate;
};
cudaError_t balance_combine(const BalanceCombine& combine, cudaStream_t stream);

inline constexpr int kColumnWarps = 8, kColumnChunkRows = 256, kColumnChunks = 64;
// Rows of a chunk of the column sums, a multiple of the warps: the rows of a warp are all even or all odd.
CUDAMOE_HOST_DEVICE int64_t balance_column_chunk_rows(int64_t rows) {
  const int64_t share = (rows + kColumnChunks - 1) / kColumnChunks, rounded = (share + kColumnWarps - 1) / kColumnWarps * kColumnWarps;
  return rounded < kColumnChunkRows ? kColumnChunkRows : rounded;
}
CUDAMOE_HOST_DEVICE int64_t balance_column_chunks(int64_t rows) {
  const int64_t size = balance_column_chunk_rows(rows);
  return rows == 0 ? 1 : (rows + size - 1) / size;
}

struct BalanceColumns {
  BalanceGradients gradients;
  const float* values;  // may be null
  int64_t values_task_stride, values_row_stride;
  int32_t parts;
  double* partials;  // [chunks, parts, tasks, width]
};
cudaError_t balance_column_chunk_sums(const BalanceColumns& columns, cudaStream_t stream);
// sums[i] = the sum of partials[0 .. chunks-1][i], i < count.
cudaError_t balance_column_sum(const double* partials, int64_t chunks, int64_t count, double* sums, cudaStream_t stream);

struct BalanceScale {
  BalanceGradients gradients;
  float* data;           // the gradients
  const float* factors;  // [tasks, width]
};
cudaError_t balance_scale(const BalanceScale& scale, cudaStream_t stream);

cudaError_t balance_average(int64_t count, float rate, const float* values, float* averages, cudaStream_t stream);

}  // namespace cudamoe::kernels
