// The loss of each task, losses[t] = sum of its partials / weight_sums[t], 0 where the weights sum to 0; and the report of the first row,
// of the first task, whose label or weight breaks its rule.
//
// Floor: 24 bytes a block of rows and task. Tiling: one block of 256 threads a task. Shared memory: 128 bytes. Order of sums: as in
// weights.cu.
#include "common/block_reduce.cuh"
#include "common/report.cuh"
#include "loss/rows.cuh"

namespace cudamoe::kernels {
namespace {

// The first bad row of task t, in thread 0.
CUDAMOE_DEVICE int64_t first_bad_row(const LossTable& table, int t) {
  int64_t bad_row = kNoRow;
  for (int64_t b = thread_x(); b < table.blocks; b += kLossThreads) {
    const int64_t row = table.partials[t * table.blocks + b].bad_row;
    if (row < bad_row) bad_row = row;
  }
  return block_min<kLossThreads>(bad_row);
}

CUDAMOE_KERNEL(kLossThreads, 1) results_kernel(const CUDAMOE_GRID_CONSTANT LossTable table, DeviceReport* report) {
  const int t = block_x();
  double sum = 0;
  for (int64_t b = thread_x(); b < table.blocks; b += kLossThreads) sum += table.partials[t * table.blocks + b].loss;
  sum = block_sum<kLossThreads>(sum);
  const double weights = table.weight_sums[t];
  if (thread_x() == 0) table.losses[t] = weights > 0 ? sum / weights : 0.0;
  if (t > 0) return;
  bool reported = false;
  for (int other = 0; other < table.tasks; ++other) {
    const int64_t row = first_bad_row(table, other);
    if (thread_x() != 0 || row == kNoRow || reported) continue;
    const LossTask& task = table.task[other];
    const float weight = task.weights == nullptr ? 1.0f : task.weights[row * task.weights_stride];
    DeviceReport found = {};
    found.code = ReportCode::kLossRow;
    found.index[0] = table.first_task + other;
    found.index[1] = row;
    found.index[2] = task.classes;
    found.value[0] = static_cast<double>(task.labels[row * task.labels_stride]);
    found.value[1] = static_cast<double>(weight);
    note_report(report, found);
    reported = true;
  }
}

}  // namespace

cudaError_t loss_results(const LossTable& table, DeviceReport* report, cudaStream_t stream) {
  return launch({.name = "loss_results", .grid = {table.tasks}, .block = {kLossThreads}, .stream = stream}, results_kernel, table, report);
}

}  // namespace cudamoe::kernels
