// Weighted losses of many tasks and their gradients on the logits. With f = scale / (sum of the task's weights):
//   binary    l = |x| q + log1p(exp(-|x|)), q = x >= 0 ? 1 - y : y     dx = w f sign(x) (q - exp(-|x|) / (1 + exp(-|x|)))
//   squared   l = (x - y)^2                                            dx = w f 2 (x - y)
//   softmax   l = log sum_c exp(x_c - m) - (x_label - m), m = max x    dx_c = w f (softmax_c - [c = label])
// The binary forms have no cancellation: loss and gradient keep their relative accuracy for any x. A row that is not valid has loss 0 and
// gradient 0, whatever its logits.
//
// Floor: 16 bytes a row and task of one logit (logit, label, weight in; gradient out). Tiling: a block of 256 threads per 2048 rows of one
// task; a thread a row, for softmax a warp a row. A softmax row is read three times, twice from L1. Shared memory: 64 bytes. Order of sums,
// in f64: a softmax row's classes 32 apart ascending, the lanes by a butterfly; rows as in weights.cu.
#include "common/block_reduce.cuh"
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

CUDAMOE_KERNEL(kLossThreads, 4) values_kernel(const CUDAMOE_GRID_CONSTANT LossTable table) {
  const LossTask& task = table.task[block_y()];
  const int64_t first = block_x() * kLossRows;
  const int64_t end = first + kLossRows < table.rows ? first + kLossRows : table.rows;
  const double weights = table.weight_sums[block_y()];
  const double factor = weights > 0 ? static_cast<double>(task.scale) / weights : 0.0;
  const double own =
      task.kind == LossKind::kSoftmax ? softmax_rows(task, first, end, factor) : single_rows(task, first, end, static_cast<float>(factor));
  const double total = block_sum<kLossThreads>(own);
  if (thread_x() == 0) table.partials[block_y() * table.blocks + block_x()].loss = total;
}

}  // namespace

cudaError_t loss_values(const LossTable& table, cudaStream_t stream) {
  return launch({.name = "loss_values", .grid = {static_cast<int>(table.blocks), table.tasks}, .block = {kLossThreads}, .stream = stream},
                values_kernel, table);
}

}  // namespace cudamoe::kernels
