// Gram matrix of gradients given as products, gradient_t = dZ_t W_t:
//   gram[i, j] = sum over a in block i, b in block j of (dZ^T dZ)[a, b] (W W^T)[a, b]
//
// Floor: the upper blocks of the two [h, h] matrices read once. Tiling: a block of 1024 threads for each pair i <= j, a warp a row. A
// pair's block alone reaches its multiprocessor's share of the bandwidth; the floor takes as many pairs as there are multiprocessors. With
// heads of 64 to 256 rows it is microseconds either way. Shared memory: 256 bytes. Order of sums, in f64, where products of f32 are exact:
// a lane columns l, l + 32, ... of rows w, w + 32, ... ascending, the warp by a butterfly, then the warps ascending.
#include "balance/balance.h"
#include "common/block_reduce.cuh"
#include "common/kernel.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 1024, kWarps = kThreads / kWarp;

CUDAMOE_KERNEL(kThreads, 1) factored_kernel(const CUDAMOE_GRID_CONSTANT BalanceFactoredGram gram) {
  const int i = block_x() / gram.tasks, j = block_x() % gram.tasks;
  if (i > j) return;
  const int64_t row_end = gram.starts[i + 1], column_end = gram.starts[j + 1];
  double sum = 0;
  for (int64_t row = gram.starts[i] + warp_id(); row < row_end; row += kWarps) {
    const float* left = gram.gradient_products + row * gram.gradient_products_row_stride;
    const float* right = gram.weight_products + row * gram.weight_products_row_stride;
    for (int64_t column = gram.starts[j] + lane_id(); column < column_end; column += kWarp)
      sum = fma(static_cast<double>(left[column]), static_cast<double>(right[column]), sum);
  }
  sum = block_sum<kThreads>(sum);
  if (thread_x() != 0) return;
  gram.gram[i * gram.tasks + j] = sum;
  gram.gram[j * gram.tasks + i] = sum;
}

}  // namespace

cudaError_t balance_factored_gram(const BalanceFactoredGram& gram, cudaStream_t stream) {
  const LaunchShape shape{.name = "balance_factored_gram", .grid = {gram.tasks * gram.tasks}, .block = {kThreads}, .stream = stream};
  return launch(shape, factored_kernel, gram);
}

}  // namespace cudamoe::kernels
