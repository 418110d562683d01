// Gradients of the gate-weighted sum; with s[t] = task_scale[t] (or 1), f' the derivative of the experts' activation:
//
//   dense    dexpert[b, e, :]  = f' . sum_t (gates[b, t, e] + residual[t, e]) s[t] dy[b, t, :]
//            dgates[b, t, e]   = s[t] <dy[b, t, :], expert[b, e, :]>
//            dresidual[t, e] (+)= sum_b dgates[b, t, e]
//   sparse   dexpert[slot, :]  = f' . gates[b, t, j] s[t] dy[b, t, :]       every routed row belongs to one (b, t, j)
//            dgates[b, t, j]   = s[t] <dy[b, t, :], expert[slot, :]>, 0 when dropped
// A task with s[t] = 0 is left out: neither its dy nor the product with it is formed.
//
// Floor: expert and dy read once, dexpert written once: s rows choices width 2 + 4 rows tasks width bytes (dense).
// Tiling: blocks of rows fixed by the shape; within a row expert by expert, dy stays in L1, and a large dexpert is written past the caches.
// Up to kTaskGroup tasks share one pass over an expert's columns; more groups hand the f32 sum on through a buffer of kColumns columns.
// Order of the sums: tasks ascending; a dot product by lanes, then the lanes of each span of columns; dresidual rows ascending
// within a block in f64, then blocks ascending.
#include <algorithm>
#include <type_traits>

#include "cpu/combine/combine.h"
#include "cpu/common/first_offender.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/combine/combine_backward.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/common/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

constexpr int64_t kColumns = 1024;

template <bool kPartial, class E>
HWY_INLINE VecF32 read(const E* from, int64_t lanes) {
  return kPartial ? load_first(F32(), from, lanes) : load(F32(), from);
}
template <bool kPartial, class E>
HWY_INLINE void write(VecF32 v, E* to, int64_t lanes) {
  kPartial ? store_first(F32(), v, to, lanes) : store(F32(), v, to);
}

// One expert's gradient from kTasks tasks.
template <class T, int kTasks>
struct ExpertGradient {
  const T* expert;
  const T* below;  // what the activation's derivative is taken from
  const float* dy;
  int64_t dy_task_stride;
  const float* weights;  // [kTasks]
  int32_t activation;
  float slope;
  const float* carried;  // sums of earlier task groups, or null
  float* carry;          // where to leave the sum for the next group, or null: this is the last
  T* dexpert;
  bool streams;  // dexpert, f32 and aligned, goes past the caches

  using Dots = VecF32[kTasks][2];

  template <int kVectors, bool kPartial>
  HWY_INLINE void columns(int64_t j, int64_t lanes, Dots& dots) const {
    const F32 d;
    const auto step = int64_t{kLanes};
    VecF32 sum[kVectors], x[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = j + v * step;
      sum[v] = carried == nullptr ? hn::Zero(d) : read<kPartial>(carried + at, lanes);
      x[v] = read<kPartial>(expert + at, lanes);
    }
    for (int t = 0; t < kTasks; ++t) {
      const VecF32 weight = hn::Set(d, weights[t]);
      for (int v = 0; v < kVectors; ++v) {
        const float* from = dy + t * dy_task_stride + j + v * step;
        const VecF32 g = read<kPartial>(from, lanes);
        sum[v] = hn::MulAdd(weight, g, sum[v]);
        dots[t][v % 2] = hn::MulAdd(g, x[v], dots[t][v % 2]);
      }
    }
    if (carry != nullptr) {
      for (int v = 0; v < kVectors; ++v) write<kPartial>(sum[v], carry + j + v * step, lanes);
      return;
    }
    with_activation(activation, [&](auto kind) HWY_ATTR {
      for (int v = 0; v < kVectors; ++v) {
        if constexpr (kind() != CUDAMOE_ACTIVATION_NONE) {
          const VecF32 from = below == expert ? x[v] : read<kPartial>(below + j + v * step, lanes);
          sum[v] = hn::Mul(sum[v], activation_derivative<kind()>(d, from, slope));
        }
      }
    });
    for (int v = 0; v < kVectors; ++v) {
      if constexpr (!kPartial && std::is_same_v<T, float>) {
        if (streams) {
          hn::Stream(sum[v], d, dexpert + j + v * step);
          continue;
        }
      }
      write<kPartial>(sum[v], dexpert + j + v * step, lanes);
    }
  }

  // Adds the dot products to `results`.
  void run(int64_t width, float* results) const {
    constexpr int kVectors = HWY_TARGET == HWY_AVX3 ? 4 : 2;
    const F32 d;
    const auto step = int64_t{kLanes};
    Dots dots;
    for (auto& dot : dots) dot[0] = dot[1] = hn::Zero(d);
    int64_t j = 0;
    for (; j + kVectors * step <= width; j += kVectors * step) columns<kVectors, false>(j, 0, dots);
    for (; j + step <= width; j += step) columns<1, false>(j, 0, dots);
    if (j < width) columns<1, true>(j, width - j, dots);
    for (int t = 0; t < kTasks; ++t) results[t] += hn::GetLane(hn::SumOfLanes(d, hn::Add(dots[t][0], dots[t][1])));
  }
};

template <class T, int kTasks>
void run_group(const T* expert, const T* below, const float* dy, int64_t dy_task_stride, const float* weights, int32_t activation,
               float slope, const float* carried, float* carry, T* dexpert, bool streams, int64_t width, float* results) {
  ExpertGradient<T, kTasks>{expert, below, dy, dy_task_stride, weights, activation, slope, carried, carry, dexpert, streams}.run(width,
                                                                                                                                 results);
}

bool from_preactivation(int32_t activation) { return activation == CUDAMOE_ACTIVATION_GELU || activation == CUDAMOE_ACTIVATION_SILU; }

template <class T>
const T* below_of(const cudamoe_combine_backward_args& args) {
  return static_cast<const T*>(from_preactivation(args.activation) ? args.preactivation : args.expert);
}

// Neighbouring tasks that are handled at once.
struct TaskRun {
  int first, count;
};

// The first ones from `task` on whose scale is not zero; their count is 0 when there are none.
TaskRun next_run(const cudamoe_combine_backward_args& args, int task) {
  const auto left_out = [&](int t) { return args.task_scale != nullptr && args.task_scale[t] == 0; };
  while (task < args.tasks && left_out(task)) ++task;
  TaskRun run{task, 0};
  while (run.count < kTaskGroup && task < args.tasks && !left_out(task)) {
    ++run.count;
    ++task;
  }
  return run;
}

// dots [tasks, choices] of one row.
template <class T>
void dense_row(const cudamoe_combine_backward_args& args, int64_t row, bool streams, float* dots) {
  static constexpr decltype(&run_group<T, 1>) kGroups[kTaskGroup] = {run_group<T, 1>, run_group<T, 2>, run_group<T, 3>, run_group<T, 4>};
  HWY_ALIGN float carry[kColumns];
  const float* gates = args.gates + row * args.tasks * args.choices;
  const TaskRun first = next_run(args, 0);
  const bool alone = next_run(args, first.first + first.count).count == 0;
  const int64_t span = alone ? std::max<int64_t>(args.width, 1) : kColumns;
  if (args.task_scale != nullptr) std::fill_n(dots, int64_t{args.tasks} * args.choices, 0.0f);
  for (int e = 0; e < args.choices; ++e) {
    const int64_t from = row * args.expert_row_stride + e * args.expert_stride;
    const T* expert = static_cast<const T*>(args.expert) + from;
    const T* below = below_of<T>(args) + from;
    T* dexpert = static_cast<T*>(args.dexpert) + row * args.dexpert_row_stride + e * args.dexpert_stride;
    if (first.count == 0) {
      std::fill_n(dexpert, args.width, T{});
      continue;
    }
    if (row + 1 < args.rows) prefetch_row(expert + args.expert_row_stride, args.width);
    for (int64_t j = 0; j < args.width || j == 0; j += span) {
      for (TaskRun run = first; run.count > 0;) {
        const TaskRun next = next_run(args, run.first + run.count);
        float weights[kTaskGroup], results[kTaskGroup] = {};
        for (int t = 0; t < run.count; ++t) {
          const int64_t at = int64_t{run.first + t} * args.choices + e;
          const float weight = args.residual == nullptr ? gates[at] : gates[at] + args.residual[at];
          weights[t] = args.task_scale == nullptr ? weight : weight * args.task_scale[run.first + t];
        }
        kGroups[run.count - 1](expert + j, below + j, args.dy + row * args.dy_row_stride + run.first * args.dy_task_stride + j,
                               args.dy_task_stride, weights, args.activation, args.activation_slope,
                               run.first == first.first ? nullptr : carry, next.count == 0 ? nullptr : carry, dexpert + j, streams,
                               std::min(span, args.width - j), results);
        for (int t = 0; t < run.count; ++t) {
          const int64_t at = int64_t{run.first + t} * args.choices + e;
          dots[at] = (j == 0 ? 0.0f : dots[at]) + results[t];
        }
        run = next;
      }
    }
  }
  if (args.task_scale == nullptr) return;
  for (int t = 0; t < args.tasks; ++t) {
    for (int e = 0; e < args.choices; ++e) dots[int64_t{t} * args.choices + e] *= args.task_scale[t];
  }
}

// Returns the first pair whose slot is out of range, or -1; such a pair counts as dropped.
template <class T>
int64_t sparse_row(const cudamoe_combine_backward_args& args, int64_t row, bool streams) {
  int64_t bad = -1;
  for (int t = 0; t < args.tasks; ++t) {
    const float scale = args.task_scale == nullptr ? 1.0f : args.task_scale[t];
    const float* dy = args.dy + row * args.dy_row_stride + t * args.dy_task_stride;
    for (int j = 0; j < args.choices; ++j) {
      const int64_t pair = (row * args.tasks + t) * args.choices + j;
      const int64_t slot = args.slot_of_pair[pair];
      float dot = 0;
      if (slot >= 0 && slot < args.expert_rows && scale == 0) {
        std::fill_n(static_cast<T*>(args.dexpert) + slot * args.dexpert_row_stride, args.width, T{});
      } else if (slot >= 0 && slot < args.expert_rows) {
        const float weight = args.gates[pair] * scale;
        const int64_t from = slot * args.expert_row_stride;
        run_group<T, 1>(static_cast<const T*>(args.expert) + from, below_of<T>(args) + from, dy, 0, &weight, args.activation,
                        args.activation_slope, nullptr, nullptr, static_cast<T*>(args.dexpert) + slot * args.dexpert_row_stride, streams,
                        args.width, &dot);
        dot *= scale;
      } else if (slot != -1 && bad < 0) {
        bad = pair;
      }
      if (args.dgates != nullptr) args.dgates[pair] = dot;
    }
  }
  return bad;
}

template <class T>
void prefetch_slots(const cudamoe_combine_backward_args& args, int64_t row) {
  constexpr int64_t kMost = 16;
  const int64_t pairs = int64_t{args.tasks} * args.choices;
  for (int64_t i = 0; i < std::min(pairs, kMost); ++i) {
    const int64_t slot = args.slot_of_pair[row * pairs + i];
    if (slot >= 0 && slot < args.expert_rows) prefetch_row(static_cast<const T*>(args.expert) + slot * args.expert_row_stride, args.width);
  }
}

template <class T>
int64_t rows_of(const cudamoe_combine_backward_args& args, int64_t first, int64_t rows, bool streams, double* residual, float* scratch) {
  constexpr int64_t kAhead = 2;
  const int64_t gates = int64_t{args.tasks} * args.choices;
  int64_t bad = -1;
  for (int64_t i = 0; i < gates; ++i) residual[i] = 0;
  for (int64_t row = first; row < first + rows; ++row) {
    if (args.slot_of_pair == nullptr) {
      float* dots = args.dgates != nullptr ? args.dgates + row * gates : scratch;
      dense_row<T>(args, row, streams, dots);
      if (args.dresidual == nullptr) continue;
      for (int64_t i = 0; i < gates; ++i) residual[i] += static_cast<double>(dots[i]);
    } else {
      if (row + kAhead < first + rows) prefetch_slots<T>(args, row + kAhead);
      const int64_t found = sparse_row<T>(args, row, streams);
      if (bad < 0) bad = found;
    }
  }
  if (streams) hwy::FlushStream();
  return bad;
}

int64_t combine_gradient_rows(const cudamoe_combine_backward_args& args, int64_t first, int64_t rows, bool streams, double* residual,
                              float* scratch) {
  return args.expert_dtype == CUDAMOE_BF16 ? rows_of<Bf16>(args, first, rows, streams, residual, scratch)
                                           : rows_of<float>(args, first, rows, streams, residual, scratch);
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace cudamoe::cpu {

HWY_EXPORT(combine_gradient_rows);

namespace {

// Blocks of rows, their number bounded so that a partial sum of dresidual per block stays small beside the data.
struct Blocks {
  int64_t rows, count;
};

Blocks blocks_of(const cudamoe_combine_backward_args& args) {
  constexpr int64_t kSmallest = 16, kMostBlocks = 256, kMostPartials = int64_t{1} << 22;
  const int64_t most = std::clamp(kMostPartials / (int64_t{args.tasks} * args.choices), int64_t{1}, kMostBlocks);
  const int64_t rows = std::max(kSmallest, (args.rows + most - 1) / most);
  return {rows, (args.rows + rows - 1) / rows};
}

}  // namespace

int64_t combine_backward_workspace(void*, const cudamoe_combine_backward_args& args) {
  return blocks_of(args).count * args.tasks * args.choices * static_cast<int64_t>(sizeof(double) + sizeof(float));
}

cudamoe_status combine_backward(void* handle, const cudamoe_combine_backward_args& args) {
  Stream& stream = stream_of(handle);
  const Blocks blocks = blocks_of(args);
  const int64_t gates = int64_t{args.tasks} * args.choices;
  auto* residuals = static_cast<double*>(args.workspace);                      // [blocks, tasks, choices]
  auto* scratch = reinterpret_cast<float*>(residuals + blocks.count * gates);  // the same shape
  const double bytes = static_cast<double>(args.rows) * static_cast<double>(args.width) *
                       (8.0 * args.choices * (args.slot_of_pair == nullptr ? 1 : args.tasks) + 4.0 * args.tasks);
  // With bf16 a vector is half a line: not worth it.
  const bool dense = args.slot_of_pair == nullptr;
  const bool streams =
      args.expert_dtype == CUDAMOE_F32 &&
      streams_past_caches(static_cast<float*>(args.dexpert), (dense ? args.rows * args.choices : args.expert_rows) * args.width,
                          args.dexpert_row_stride, dense && args.choices > 1 ? args.dexpert_stride : 0);
  FirstOffender offender;
  stream.device().for_tiles(blocks.count, 0.1 * bytes, [&](int64_t tile) {
    const int64_t first = tile * blocks.rows;
    offender.note(HWY_DYNAMIC_DISPATCH(combine_gradient_rows)(args, first, std::min(blocks.rows, args.rows - first), streams,
                                                              residuals + tile * gates, scratch + tile * gates));
  });
  if (args.dresidual != nullptr) {
    for (int64_t i = 0; i < gates; ++i) {
      double sum = args.accumulate_residual != 0 ? static_cast<double>(args.dresidual[i]) : 0.0;
      for (int64_t b = 0; b < blocks.count; ++b) sum += residuals[b * gates + i];
      args.dresidual[i] = static_cast<float>(sum);
    }
  }
  if (const int64_t pair = offender.index(); pair >= 0) {
    stream.report("cudamoe_combine_backward: slot_of_pair[%lld] is %d; it must be -1 or below expert_rows (%lld); such pairs give nothing",
                  static_cast<long long>(pair), args.slot_of_pair[pair], static_cast<long long>(args.expert_rows));
  }
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu

#endif  // HWY_ONCE
