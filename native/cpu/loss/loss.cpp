// Losses of many tasks and their gradients on the logits.
//
//   binary    l = |x| q + log1p(exp(-|x|)), q = x >= 0 ? 1 - y : y     dl/dx = sign(x) (q - exp(-|x|) / (1 + exp(-|x|)))
//   squared   l = (x - y)^2                                            dl/dx = 2 (x - y)
//   softmax   l = log sum_c exp(x_c - m) - (x_label - m), m = max x    dl/dx_c = softmax_c - [c = label]
// The forms of the binary loss are those of cudamoe.h without its cancellations: both keep their relative accuracy for any x.
// Accuracy: exp 1 ulp and log1p 2 ulp in f32; the sums of a softmax row, and all sums over rows, are f64.
//
// Floor: 16 bytes a row and task (logit, label, weight in; gradient out). The gradient is divided by the sum of the weights, which
// a first pass over labels and weights finds: that reads 8 bytes a row, half of what rescaling the gradient afterwards would move.
//
// Order of the sums: the lanes of a vector over blocks of kBlockRows rows, then the blocks in ascending order.
#include "cpu/loss/loss.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/loss/loss.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/common/activation-inl.h"
#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

constexpr int64_t kChunk = 256;  // rows staged in L1

using F64 = hn::ScalableTag<double>;
using VecF64 = hn::Vec<F64>;
using MaskF32 = hn::Mask<F32>;

// `count` strided elements as a contiguous, readable array of whole vectors: the source itself or a copy in `buffer`.
const float* staged(const float* source, int64_t stride, int64_t count, float* buffer) {
  const auto lanes = int64_t{kLanes};
  if (stride == 1 && count % lanes == 0) return source;
  for (int64_t i = 0; i < count; ++i) buffer[i] = source[i * stride];
  std::fill(buffer + count, buffer + hwy::RoundUpTo(static_cast<size_t>(count), static_cast<size_t>(lanes)),
            std::numeric_limits<float>::quiet_NaN());
  return buffer;
}

// A label obeys the rule of its kind.
HWY_INLINE MaskF32 label_in_range(const cudamoe_loss_task& task, VecF32 label) {
  const F32 d;
  const VecF32 zero = hn::Zero(d);
  switch (task.kind) {
    case CUDAMOE_LOSS_BINARY:
      return hn::And(hn::Ge(label, zero), hn::Le(label, hn::Set(d, 1.0f)));
    case CUDAMOE_LOSS_SQUARED:
      return hn::Le(hn::Abs(label), hn::Set(d, std::numeric_limits<float>::max()));
    default: {
      const MaskF32 whole = hn::Eq(label, hn::Floor(label));
      return hn::And(whole, hn::And(hn::Ge(label, zero), hn::Lt(label, hn::Set(d, static_cast<float>(task.classes)))));
    }
  }
}

HWY_INLINE MaskF32 usable_weight(VecF32 weight) {
  const F32 d;
  return hn::And(hn::Ge(weight, hn::Zero(d)), hn::Le(weight, hn::Set(d, std::numeric_limits<float>::max())));
}

// The weight of a row, 0 when it is not valid.
HWY_INLINE VecF32 effective_weight(const cudamoe_loss_task& task, VecF32 label, VecF32 weight) {
  return hn::IfThenElseZero(hn::And(label_in_range(task, label), usable_weight(weight)), weight);
}

// Adds the lanes of v to two f64 sums.
HWY_INLINE void add_wide(VecF32 v, VecF64& low, VecF64& high) {
  const F64 d;
  const hn::Half<F32> half;
  low = hn::Add(low, hn::PromoteTo(d, hn::LowerHalf(half, v)));
  high = hn::Add(high, hn::PromoteTo(d, hn::UpperHalf(half, v)));
}

HWY_INLINE double total_of(VecF64 low, VecF64 high) {
  const F64 d;
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(low, high)));
}

HWY_INLINE const float* staged_weights(const cudamoe_loss_task& task, int64_t row, int64_t count, float* buffer) {
  if (task.weights != nullptr) return staged(task.weights + row * task.weights_stride, task.weights_stride, count, buffer);
  std::fill_n(buffer, kChunk, 1.0f);
  return buffer;
}

void sum_weights(const cudamoe_loss_task& task, int64_t first, int64_t rows, LossPartial& partial) {
  const F32 d;
  const auto lanes = int64_t{kLanes};
  HWY_ALIGN float label_buffer[kChunk], weight_buffer[kChunk];
  VecF64 low = hn::Zero(F64()), high = low;
  partial.bad_row = -1;
  for (int64_t start = 0; start < rows; start += kChunk) {
    const int64_t row = first + start, count = std::min(kChunk, rows - start);
    const float* labels = staged(task.labels + row * task.labels_stride, task.labels_stride, count, label_buffer);
    const float* weights = staged_weights(task, row, count, weight_buffer);
    for (int64_t i = 0; i < count; i += lanes) {
      const VecF32 label = hn::LoadU(d, labels + i), weight = hn::LoadU(d, weights + i);
      add_wide(effective_weight(task, label, weight), low, high);
      const MaskF32 bad_label = hn::AndNot(hn::IsNaN(label), hn::Not(label_in_range(task, label)));
      const MaskF32 bad = hn::And(hn::Or(bad_label, hn::Not(usable_weight(weight))), hn::FirstN(d, static_cast<size_t>(count - i)));
      if (partial.bad_row < 0 && !hn::AllFalse(d, bad)) partial.bad_row = row + i + static_cast<int64_t>(hn::FindFirstTrue(d, bad));
    }
  }
  partial.weight = total_of(low, high);
}

// The loss of one row and its derivative; `weight` is 0 for rows that are not valid, whose values are ignored.
struct Binary {
  static HWY_INLINE void row(VecF32 x, VecF32 y, VecF32* loss, VecF32* derivative) {
    const F32 d;
    const VecF32 one = hn::Set(d, 1.0f);
    const VecF32 size = hn::Abs(x);
    const VecF32 q = hn::IfThenElse(hn::Ge(x, hn::Zero(d)), hn::Sub(one, y), y);
    const VecF32 e = exp(d, hn::Neg(size));
    const VecF32 line = hn::IfThenZeroElse(hn::Eq(q, hn::Zero(d)), hn::Mul(size, q));  // 0 * infinity is 0 here
    *loss = hn::IfThenElse(hn::IsNaN(x), x, hn::Add(line, hn::Log1p(d, e)));
    const VecF32 slope = hn::Sub(q, hn::Div(e, hn::Add(one, e)));
    *derivative = hn::IfThenElse(hn::IsNaN(x), x, hn::Xor(slope, hn::And(x, hn::Set(d, -0.0f))));
  }
};

struct Squared {
  static HWY_INLINE void row(VecF32 x, VecF32 y, VecF32* root, VecF32* derivative) {
    *root = hn::Sub(x, y);
    *derivative = hn::Add(*root, *root);
  }
};

template <class Kind>
double one_logit(const cudamoe_loss_task& task, int64_t first, int64_t rows, float factor) {
  const F32 d;
  const auto lanes = int64_t{kLanes};
  HWY_ALIGN float logit_buffer[kChunk], label_buffer[kChunk], weight_buffer[kChunk], gradient[kChunk];
  VecF64 low = hn::Zero(F64()), high = low;
  const VecF32 scale = hn::Set(d, factor);
  for (int64_t start = 0; start < rows; start += kChunk) {
    const int64_t row = first + start, count = std::min(kChunk, rows - start);
    const float* logits = staged(task.logits + row * task.logits_row_stride, task.logits_row_stride, count, logit_buffer);
    const float* labels = staged(task.labels + row * task.labels_stride, task.labels_stride, count, label_buffer);
    const float* weights = staged_weights(task, row, count, weight_buffer);
    for (int64_t i = 0; i < count; i += lanes) {
      const VecF32 label = hn::LoadU(d, labels + i);
      const VecF32 weight = effective_weight(task, label, hn::LoadU(d, weights + i));
      const MaskF32 valid = hn::Gt(weight, hn::Zero(d));
      VecF32 value, derivative;
      Kind::row(hn::LoadU(d, logits + i), label, &value, &derivative);
      value = hn::IfThenElseZero(valid, value);
      if constexpr (std::is_same_v<Kind, Squared>) {
        // The square is taken in f64, where it cannot overflow.
        const F64 dd;
        const hn::Half<F32> half;
        const auto v0 = hn::PromoteTo(dd, hn::LowerHalf(half, value)), v1 = hn::PromoteTo(dd, hn::UpperHalf(half, value));
        low = hn::MulAdd(hn::Mul(v0, v0), hn::PromoteTo(dd, hn::LowerHalf(half, weight)), low);
        high = hn::MulAdd(hn::Mul(v1, v1), hn::PromoteTo(dd, hn::UpperHalf(half, weight)), high);
      } else {
        add_wide(hn::Mul(value, weight), low, high);
      }
      hn::Store(hn::IfThenElseZero(valid, hn::Mul(derivative, hn::Mul(weight, scale))), d, gradient + i);
    }
    if (task.dlogits == nullptr) continue;
    float* out = task.dlogits + row * task.dlogits_row_stride;
    for (int64_t i = 0; i < count; ++i) out[i * task.dlogits_row_stride] = gradient[i];
  }
  return total_of(low, high);
}

// One row's loss; the gradient is written when `out` is not null.
HWY_INLINE double softmax_row(const float* x, int64_t classes, int64_t label, double factor, float* out) {
  const F32 d;
  const F64 dd;
  const auto lanes = int64_t{kLanes};
  const auto read = [&](int64_t c) HWY_ATTR {
    const int64_t left = classes - c;
    if (left >= lanes) return hn::LoadU(d, x + c);
    const VecF32 padding = hn::Set(d, -std::numeric_limits<float>::infinity());
    return hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(left)), load_first(d, x + c, left), padding);
  };
  VecF32 top = hn::Set(d, -std::numeric_limits<float>::infinity());
  MaskF32 nan = hn::FirstN(d, 0);
  for (int64_t c = 0; c < classes; c += lanes) {
    const VecF32 v = read(c);
    nan = hn::Or(nan, hn::IsNaN(v));
    top = hn::Max(v, top);
  }
  float peak = hn::GetLane(hn::MaxOfLanes(d, top));
  if (!hn::AllFalse(d, nan) || std::isinf(peak)) peak = std::numeric_limits<float>::quiet_NaN();
  if (std::isnan(peak)) {
    if (out != nullptr) std::fill_n(out, classes, peak);
    return static_cast<double>(peak);
  }
  // The exponentials wait in the gradient, but those of the last, often partial or only vector in a register.
  const VecF32 m = hn::Set(d, peak);
  VecF64 low = hn::Zero(dd), high = low;
  VecF32 e = hn::Zero(d);
  for (int64_t c = 0; c < classes; c += lanes) {
    e = exp(d, hn::Sub(read(c), m));
    add_wide(e, low, high);
    if (out != nullptr && c + lanes < classes) store(d, e, out + c);
  }
  const double sum = total_of(low, high);
  const double loss = std::log(sum) - (static_cast<double>(x[label]) - static_cast<double>(peak));
  if (out == nullptr) return loss;
  const VecF32 scale = hn::Set(d, static_cast<float>(factor / sum));
  int64_t c = 0;
  for (; c + lanes < classes; c += lanes) store(d, hn::Mul(load(d, out + c), scale), out + c);
  store_first(d, hn::Mul(e, scale), out + c, classes - c);
  out[label] = static_cast<float>(factor * std::expm1(-loss));  // softmax - 1 without the loss of digits near 1
  return loss;
}

double softmax(const cudamoe_loss_task& task, int64_t first, int64_t rows, double factor) {
  const F32 d;
  double total = 0;
  for (int64_t row = first; row < first + rows; ++row) {
    const VecF32 label = hn::Set(d, task.labels[row * task.labels_stride]);
    const VecF32 given = hn::Set(d, task.weights == nullptr ? 1.0f : task.weights[row * task.weights_stride]);
    const float weight = hn::GetLane(effective_weight(task, label, given));
    float* out = task.dlogits == nullptr ? nullptr : task.dlogits + row * task.dlogits_row_stride;
    if (weight > 0) {
      const double w = static_cast<double>(weight);
      total += w * softmax_row(task.logits + row * task.logits_row_stride, task.classes, static_cast<int64_t>(hn::GetLane(label)),
                               w * factor, out);
    } else if (out != nullptr) {
      std::fill_n(out, task.classes, 0.0f);
    }
  }
  return total;
}

double sum_losses(const cudamoe_loss_task& task, int64_t first, int64_t rows, double factor) {
  if (task.kind == CUDAMOE_LOSS_SOFTMAX) return softmax(task, first, rows, factor);
  const auto f = static_cast<float>(factor);
  return task.kind == CUDAMOE_LOSS_BINARY ? one_logit<Binary>(task, first, rows, f) : one_logit<Squared>(task, first, rows, f);
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace cudamoe::cpu {

HWY_EXPORT(sum_weights);
HWY_EXPORT(sum_losses);

namespace {

constexpr int64_t kBlockRows = 2048;

int64_t blocks_of(const cudamoe_loss_args& args) { return (args.rows + kBlockRows - 1) / kBlockRows; }

void report_bad_rows(Stream& stream, const cudamoe_loss_args& args, const LossPartial* partials, int64_t blocks) {
  for (int64_t i = 0; i < args.task_count * blocks; ++i) {
    const int64_t row = partials[i].bad_row;
    if (row < 0) continue;
    const cudamoe_loss_task& task = args.tasks[i / blocks];
    stream.report(
        "cudamoe_loss: tasks[%lld] row %lld has label %g and weight %g; a binary label must be from 0 to 1, a class a whole number below "
        "%d, "
        "any other label finite, and a weight finite and at least 0; such rows count as missing",
        static_cast<long long>(i / blocks), static_cast<long long>(row), static_cast<double>(task.labels[row * task.labels_stride]),
        task.weights == nullptr ? 1.0 : static_cast<double>(task.weights[row * task.weights_stride]), task.classes);
    return;
  }
}

}  // namespace

int64_t loss_workspace(void*, const cudamoe_loss_args& args) {
  return args.task_count * blocks_of(args) * static_cast<int64_t>(sizeof(LossPartial));
}

cudamoe_status loss(void* handle, const cudamoe_loss_args& args) {
  Stream& stream = stream_of(handle);
  const int64_t blocks = blocks_of(args);
  auto* partials = static_cast<LossPartial*>(args.workspace);

  double work = 0;
  for (int32_t t = 0; t < args.task_count; ++t) work += static_cast<double>(args.rows) * args.tasks[t].classes;
  const auto for_blocks = [&](double nanoseconds, auto&& body) {
    stream.device().for_tiles(args.task_count * blocks, nanoseconds, [&](int64_t tile) {
      const int64_t first = tile % blocks * kBlockRows;
      body(args.tasks[tile / blocks], tile / blocks, first, std::min(kBlockRows, args.rows - first), partials[tile]);
    });
  };

  for_blocks(0.3 * static_cast<double>(args.rows) * args.task_count,
             [&](const cudamoe_loss_task& task, int64_t, int64_t first, int64_t rows, LossPartial& partial) {
               HWY_DYNAMIC_DISPATCH(sum_weights)(task, first, rows, partial);
             });
  for (int32_t t = 0; t < args.task_count; ++t) {
    double sum = 0;
    for (int64_t b = 0; b < blocks; ++b) sum += partials[t * blocks + b].weight;
    args.weight_sums[t] = sum;
  }
  for_blocks(2.0 * work, [&](const cudamoe_loss_task& task, int64_t t, int64_t first, int64_t rows, LossPartial& partial) {
    const double sum = args.weight_sums[t];
    partial.loss = HWY_DYNAMIC_DISPATCH(sum_losses)(task, first, rows, sum > 0 ? static_cast<double>(task.scale) / sum : 0.0);
  });
  for (int32_t t = 0; t < args.task_count; ++t) {
    double sum = 0;
    for (int64_t b = 0; b < blocks; ++b) sum += partials[t * blocks + b].loss;
    args.losses[t] = args.weight_sums[t] > 0 ? sum / args.weight_sums[t] : 0.0;
  }
  report_bad_rows(stream, args, partials, blocks);
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu

#endif  // HWY_ONCE
