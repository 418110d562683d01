// The sum of the weights of each task's valid rows, by which its gradient is divided:
//   weight_sums[t] = sum_b w[b, t] over the rows with a label that is not NaN and a weight > 0
// and the first row of each block whose label or weight breaks its rule.
//
// Floor: 8 bytes a row and task (label and weight). Tiling: a block of 256 threads per 2048 rows of one task. Shared memory: 128 bytes.
// Order of sums, in f64: a thread's rows (256 apart) ascending, the warp by a butterfly, the warps ascending; then one block a task takes
// the partial sums, 256 apart, in the same tree.
#include "common/block_reduce.cuh"
#include "loss/rows.cuh"

namespace cudamoe::kernels {
namespace {

CUDAMOE_KERNEL(kLossThreads, 4) weights_kernel(const CUDAMOE_GRID_CONSTANT LossTable table) {
  const LossTask& task = table.task[block_y()];
  const int64_t first = block_x() * kLossRows;
  const int64_t end = first + kLossRows < table.rows ? first + kLossRows : table.rows;
  double sum = 0;
  int64_t bad_row = kNoRow;
  for (int64_t row = first + thread_x(); row < end; row += kLossThreads) {
    const LossRow r = loss_row(task, row);
    sum += static_cast<double>(r.weight);
    if (r.bad && row < bad_row) bad_row = row;
  }
  sum = block_sum<kLossThreads>(sum);
  bad_row = block_min<kLossThreads>(bad_row);
  if (thread_x() == 0) table.partials[block_y() * table.blocks + block_x()] = {sum, 0, bad_row};
}

CUDAMOE_KERNEL(kLossThreads, 1) weight_sums_kernel(const CUDAMOE_GRID_CONSTANT LossTable table) {
  const LossPartial* partials = table.partials + block_x() * table.blocks;
  double sum = 0;
  for (int64_t b = thread_x(); b < table.blocks; b += kLossThreads) sum += partials[b].weight;
  sum = block_sum<kLossThreads>(sum);
  if (thread_x() == 0) table.weight_sums[block_x()] = sum;
}

}  // namespace

cudaError_t loss_weights(const LossTable& table, cudaStream_t stream) {
  return launch({.name = "loss_weights", .grid = {static_cast<int>(table.blocks), table.tasks}, .block = {kLossThreads}, .stream = stream},
                weights_kernel, table);
}

cudaError_t loss_weight_sums(const LossTable& table, cudaStream_t stream) {
  return launch({.name = "loss_weight_sums", .grid = {table.tasks}, .block = {kLossThreads}, .stream = stream}, weight_sums_kernel, table);
}

}  // namespace cudamoe::kernels
