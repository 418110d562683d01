// Norm of all gradients: norm = sqrt(sum of g^2).
//
// Floor: one read of the gradients, 4 bytes an element. Tiling: a block of 256 threads per chunk of 4096 elements of one tensor; 16-byte
// loads where the tensor is aligned. Shared memory: 64 bytes (eight partial sums).
// Order of sums: squares of f32 are exact in f64. A thread's elements ascending; the warp by a butterfly; the warps ascending; then one
// block takes the chunks: thread t the chunks t, t + 256, ... ascending, and the threads in the same tree.
#include "common/block_reduce.cuh"
#include "optimizer/chunk.cuh"

namespace cudamoe::kernels {
namespace {

CUDAMOE_KERNEL(kOptimizerThreads, 4) squares_kernel(const CUDAMOE_GRID_CONSTANT OptimizerTable table, double* partials) {
  const int64_t chunk = block_x();
  const int t = tensor_of_chunk(table, chunk);
  const float* gradient = table.tensor[t].gradient;
  const bool aligned = aligned_for<kOptimizerVector>(gradient);
  double sum = 0;
  for_vectors_of_chunk(chunk - table.first_chunk[t], table.tensor[t].count, [&](int64_t i, int n) {
    const OptimizerVector v = load_elements(gradient + i, n, aligned);
    CUDAMOE_UNROLL
    for (int j = 0; j < kOptimizerVector; ++j) sum = fma(static_cast<double>(v[j]), static_cast<double>(v[j]), sum);
  });
  sum = block_sum<kOptimizerThreads>(sum);
  if (thread_x() == 0) partials[chunk] = sum;
}

CUDAMOE_KERNEL(kOptimizerThreads, 1) norm_kernel(const double* partials, int64_t count, double* norm) {
  double sum = 0;
  for (int64_t i = thread_x(); i < count; i += kOptimizerThreads) sum += partials[i];
  sum = block_sum<kOptimizerThreads>(sum);
  if (thread_x() == 0) norm[0] = sqrt(sum);
}

}  // namespace

cudaError_t optimizer_squares(const OptimizerTable& table, double* partials, cudaStream_t stream) {
  const int chunks = static_cast<int>(table.first_chunk[table.tensors]);
  return launch({.name = "optimizer_squares", .grid = {chunks}, .block = {kOptimizerThreads}, .stream = stream}, squares_kernel, table,
                partials);
}

cudaError_t optimizer_norm(const double* partials, int64_t count, double* norm, cudaStream_t stream) {
  return launch({.name = "optimizer_norm", .grid = {1}, .block = {kOptimizerThreads}, .stream = stream}, norm_kernel, partials, count,
                norm);
}

}  // namespace cudamoe::kernels
