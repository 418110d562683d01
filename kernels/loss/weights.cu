// The sums of the weights of the valid rows of each block and task: those with a label that is not NaN and a weight > 0. And the first row
// of the first task whose label or weight breaks its rule, for the report.
//
// Floor: 8 bytes a row and task (label and weight). Tiling: a block of 256 threads per 256 rows (or more: at most 1024 blocks) of one task.
// Shared memory: 64 bytes. Order of sums, in f64: a thread's rows (256 apart) ascending, the warp by a butterfly, the warps ascending.
#include "common/block_reduce.cuh"
#include "common/first_offender.cuh"
#include "loss/rows.cuh"

namespace cudamoe::kernels {
namespace {

CUDAMOE_KERNEL(kLossThreads, 6) weights_kernel(const CUDAMOE_GRID_CONSTANT LossTable table) {
  const LossTask& task = table.task[block_y()];
  const int64_t first = block_x() * table.block_rows;
  const int64_t end = first + table.block_rows < table.rows ? first + table.block_rows : table.rows;
  double sum = 0;
  for (int64_t row = first + thread_x(); row < end; row += kLossThreads) {
    const LossRow r = loss_row(task, row);
    sum += static_cast<double>(r.weight);
    if (r.bad) note_offender(table.offender, block_y() * table.rows + row);
  }
  sum = block_sum<kLossThreads>(sum);
  if (thread_x() != 0) return;
  table.partials[block_y() * table.blocks + block_x()] = {sum, 0};
  if (block_x() == 0) table.finished[block_y()] = 0;
}

}  // namespace

cudaError_t loss_weights(const LossTable& table, cudaStream_t stream) {
  return launch({.name = "loss_weights", .grid = {static_cast<int>(table.blocks), table.tasks}, .block = {kLossThreads}, .stream = stream},
                weights_kernel, table);
}

}  // namespace cudamoe::kernels
