// Weighted losses of many tasks and their gradients on the logits. With f = scale / (sum of the task's weights):
//   binary    l = |x| q + log1p(exp(-|x|)), q = x >= 0 ? 1 - y : y     dx = w f sign(x) (q - exp(-|x|) / (1 + exp(-|x|)))
//   squared   l = (x - y)^2                                            dx = w f 2 (x - y)
//   softmax   l = log sum_c exp(x_c - m) - (x_label - m), m = max x    dx_c = w f (softmax_c - [c = label])
// The binary forms have no cancellation: loss and gradient keep their relative accuracy for any x. A row that is not valid has loss 0 and
// gradient 0, whatever its logits.
//
// The loss of a task is the sum of its blocks' over the sum of the weights, 0 where that is 0.
//
// Floor: 16 bytes a row and task of one logit (logit, label, weight in; gradient out). Tiling: a block of 256 threads per 256 rows (or
// more: at most 1024 blocks) of one task; a thread a row, for softmax a warp a row. Each block adds up the weights of all of its task; the
// last of a task to be through, its losses. A softmax row is read three times, twice from L1. Shared memory: 76 bytes. Order of sums, in
// f64: a softmax row's classes 32 apart ascending, the lanes by a butterfly; rows and blocks 256 apart ascending, the warp by a butterfly,
// the warps ascending.
#include "common/block_reduce.cuh"
#include "common/first_offender.cuh"
#include "loss/rows.cuh"

namespace cudamoe::kernels {
namespace {

struct Value {
  double loss;
  float derivative;
};

CUDAMOE_DEVICE Value binary_value(float x, float y) {
  if (is_nan(x)) return {static_cast<double>(x), x};
  const float size = abs(x), q = x >= 0 ? 1.0f - y : y, e = exp(-size);
  const float line = q == 0 ? 0.0f : size * q;  // 0 * infinity is 0 here
  const float slope = q - e / (1.0f + e);
  return {static_cast<double>(line + log1p(e)), bits_of(x) >> 31 != 0 ? -slope : slope};
}

CUDAMOE_DEVICE Value squared_value(float x, float y) {
  const float root = x - y;
  const double wide = static_cast<double>(root);  // its square cannot overflow
  return {wide * wide, root + root};
}

// A warp's row: the loss in every lane; the gradient times `factor` is written when `out` is not null.
CUDAMOE_DEVICE double softmax_row(const float* x, int classes, int label, double factor, float* out) {
  float peak = -infinity();
  bool nan = false;
  for (int c = lane_id(); c < classes; c += kWarp) {
    nan = nan || is_nan(x[c]);
    peak = max(peak, x[c]);
  }
  peak = warp_max(peak);
  if (any_lane(kFullWarp, nan) || !is_finite(peak)) peak = quiet_nan();
  double sum = 0;
  for (int c = lane_id(); c < classes; c += kWarp) sum += static_cast<double>(exp(x[c] - peak));
  sum = warp_sum(sum);
  const double loss = log(sum) - (static_cast<double>(x[label]) - static_cast<double>(peak));
  if (out == nullptr) return loss;
  const float scale = static_cast<float>(factor / sum);
  for (int c = lane_id(); c < classes; c += kWarp) {
    // softmax - 1 without the loss of digits near 1
    out[c] = c == label ? static_cast<float>(factor * expm1(-loss)) : exp(x[c] - peak) * scale;
  }
  return loss;
}

CUDAMOE_DEVICE double softmax_rows(const LossTask& task, int64_t first, int64_t end, double factor) {
  double total = 0;
  for (int64_t row = first + warp_id(); row < end; row += kLossThreads / kWarp) {
    const LossRow r = loss_row(task, row);
    float* out = task.dlogits == nullptr ? nullptr : task.dlogits + row * task.dlogits_row_stride;
    if (r.weight > 0) {
      const double weight = static_cast<double>(r.weight);
      const double loss =
          softmax_row(task.logits + row * task.logits_row_stride, task.classes, static_cast<int>(r.label), weight * factor, out);
      if (lane_id() == 0) total = fma(weight, loss, total);
    } else if (out != nullptr) {
      for (int c = lane_id(); c < task.classes; c += kWarp) out[c] = 0;
    }
  }
  return total;
}

CUDAMOE_DEVICE double single_rows(const LossTask& task, int64_t first, int64_t end, float factor) {
  double total = 0;
  for (int64_t row = first + thread_x(); row < end; row += kLossThreads) {
    const LossRow r = loss_row(task, row);
    float gradient = 0;
    if (r.weight > 0) {
      const float x = task.logits[row * task.logits_row_stride];
      const Value value = task.kind == LossKind::kBinary ? binary_value(x, r.label) : squared_value(x, r.label);
      total = fma(static_cast<double>(r.weight), value.loss, total);
      gradient = value.derivative * (r.weight * factor);
    }
    if (task.dlogits != nullptr) task.dlogits[row * task.dlogits_row_stride] = gradient;
  }
  return total;
}

// The sum of a member of the task's partials, in thread 0.
CUDAMOE_DEVICE double sum_of_blocks(const LossPartial* partials, int64_t blocks, double LossPartial::*member) {
  double sum = 0;
  for (int64_t b = thread_x(); b < blocks; b += kLossThreads) sum += partials[b].*member;
  return block_sum<kLossThreads>(sum);
}

// By one thread of each task.
CUDAMOE_DEVICE void report_rows(const LossTable& table) {
  report_offender(table.offender, table.report, static_cast<uint32_t>(table.tasks), [&](int64_t index) {
    const int64_t t = index / table.rows, row = index - t * table.rows;
    const LossTask& task = table.task[t];
    const float weight = task.weights == nullptr ? 1.0f : task.weights[row * task.weights_stride];
    return DeviceReport{ReportCode::kLossRow,
                        0,
                        {table.first_task + t, row, task.classes},
                        {static_cast<double>(task.labels[row * task.labels_stride]), static_cast<double>(weight)}};
  });
}

CUDAMOE_KERNEL(kLossThreads, 4) values_kernel(const CUDAMOE_GRID_CONSTANT LossTable table) {
  CUDAMOE_SHARED(double, all_weights);
  CUDAMOE_SHARED(uint32_t, is_last);
  const LossTask& task = table.task[block_y()];
  LossPartial* partials = table.partials + block_y() * table.blocks;
  const double weight_sum = sum_of_blocks(partials, table.blocks, &LossPartial::weight);
  if (thread_x() == 0) {
    all_weights[0] = weight_sum;
    if (block_x() == 0) table.weight_sums[block_y()] = weight_sum;
  }
  sync_block();
  const double weights = all_weights[0], factor = weights > 0 ? static_cast<double>(task.scale) / weights : 0.0;

  const int64_t first = block_x() * table.block_rows;
  const int64_t end = first + table.block_rows < table.rows ? first + table.block_rows : table.rows;
  const double own =
      task.kind == LossKind::kSoftmax ? softmax_rows(task, first, end, factor) : single_rows(task, first, end, static_cast<float>(factor));
  const double total = block_sum<kLossThreads>(own);
  if (thread_x() == 0) {
    partials[block_x()].loss = total;
    is_last[0] = arrive_last(&table.finished[block_y()], static_cast<uint32_t>(table.blocks)) ? 1u : 0u;
  }
  sync_block();
  if (is_last[0] == 0) return;
  const double loss = sum_of_blocks(partials, table.blocks, &LossPartial::loss);
  if (thread_x() != 0) return;
  table.losses[block_y()] = weights > 0 ? loss / weights : 0.0;
  report_rows(table);
}

}  // namespace

cudaError_t loss_values(const LossTable& table, cudaStream_t stream) {
  return launch({.name = "loss_values", .grid = {static_cast<int>(table.blocks), table.tasks}, .block = {kLossThreads}, .stream = stream},
                values_kernel, table);
}

}  // namespace cudamoe::kernels
