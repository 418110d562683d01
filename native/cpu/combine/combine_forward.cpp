// Gate-weighted sums of expert outputs.
//
//   dense    y[b, t, :] = sum_e (gates[b, t, e] + residual[t, e]) expert[b, e, :]
//   sparse   y[b, t, :] = sum_j gates[b, t, j] expert[slot(b, t, j), :], dropped slots left out
//
// Floor: the expert outputs once, s rows choices width bytes, and y once, 4 rows tasks width (dense).
// Tiling: fixed blocks of kBlockRows rows. A row's weights are put together once; then for each block of columns the
// accumulators of up to kTaskGroup tasks stay in registers while the experts go by, so every expert element is loaded once for the
// whole group, and from L1 for further groups.
// A large y is written past the caches.
// Order of the sums: ascending expert (choice), one fused multiply-add each.
#include <algorithm>

#include "cpu/combine/combine.h"
#include "cpu/common/first_offender.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/combine/combine_forward.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/common/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

// One row of `count` <= kExpertSpan experts for kTasks tasks.
template <class T, int kTasks>
struct RowSum {
  const T* const* experts;              // [count] rows
  const float (*weights)[kExpertSpan];  // [kTasks]
  int count;
  float* y;
  int64_t y_task_stride;
  bool add;      // to what y holds
  bool streams;  // y goes past the caches; aligned

  // kVectors vectors from column j; the only one has `lanes` valid lanes when kPartial.
  template <int kVectors, bool kPartial>
  HWY_INLINE void columns(int64_t j, int64_t lanes) const {
    const F32 d;
    const auto step = int64_t{kLanes};
    VecF32 sum[kTasks][kVectors];
    for (int t = 0; t < kTasks; ++t) {
      for (int v = 0; v < kVectors; ++v) {
        const float* at = y + t * y_task_stride + j + v * step;
        sum[t][v] = !add ? hn::Zero(d) : kPartial ? load_first(d, at, lanes) : load(d, at);
      }
    }
    for (int e = 0; e < count; ++e) {
      VecF32 weight[kTasks];
      for (int t = 0; t < kTasks; ++t) weight[t] = hn::Set(d, weights[t][e]);
      for (int v = 0; v < kVectors; ++v) {
        const T* at = experts[e] + j + v * step;
        const VecF32 x = kPartial ? load_first(d, at, lanes) : load(d, at);
        for (int t = 0; t < kTasks; ++t) sum[t][v] = hn::MulAdd(weight[t], x, sum[t][v]);
      }
    }
    for (int t = 0; t < kTasks; ++t) {
      for (int v = 0; v < kVectors; ++v) {
        float* at = y + t * y_task_stride + j + v * step;
        if (kPartial) {
          store_first(d, sum[t][v], at, lanes);
        } else if (streams) {
          hn::Stream(sum[t][v], d, at);
        } else {
          store(d, sum[t][v], at);
        }
      }
    }
  }

  void run(int64_t width) const {
    constexpr int kVectors = kTasks <= 2 || HWY_TARGET == HWY_AVX3 ? 4 : 2;
    const auto step = int64_t{kLanes};
    int64_t j = 0;
    for (; j + kVectors * step <= width; j += kVectors * step) columns<kVectors, false>(j, 0);
    for (; j + step <= width; j += step) columns<1, false>(j, 0);
    if (j < width) columns<1, true>(j, width - j);
  }
};

template <class T, int kTasks>
void sum_row(const T* const* experts, const float (*weights)[kExpertSpan], int count, float* y, int64_t y_task_stride, bool add,
             bool streams, int64_t width) {
  RowSum<T, kTasks>{experts, weights, count, y, y_task_stride, add, streams}.run(width);
}

template <class T>
void dense_row(const cudamoe_combine_forward_args& args, int64_t row, bool streams) {
  static constexpr decltype(&sum_row<T, 1>) kSums[kTaskGroup] = {sum_row<T, 1>, sum_row<T, 2>, sum_row<T, 3>, sum_row<T, 4>};
  const T* expert = static_cast<const T*>(args.expert) + row * args.expert_row_stride;
  const float* gates = args.gates + row * args.tasks * args.choices;
  for (int first = 0; first < args.tasks; first += kTaskGroup) {
    const int tasks = std::min(kTaskGroup, args.tasks - first);
    float* y = args.y + row * args.y_row_stride + first * args.y_task_stride;
    for (int begin = 0; begin < args.choices; begin += kExpertSpan) {
      const int count = std::min(kExpertSpan, args.choices - begin);
      const T* rows[kExpertSpan];
      float weights[kTaskGroup][kExpertSpan];
      for (int e = 0; e < count; ++e) {
        rows[e] = expert + (begin + e) * args.expert_stride;
        if (first == 0 && row + 1 < args.rows) prefetch_row(rows[e] + args.expert_row_stride, args.width);
      }
      for (int t = 0; t < tasks; ++t) {
        const int64_t at = int64_t{first + t} * args.choices + begin;
        for (int e = 0; e < count; ++e) weights[t][e] = gates[at + e];
        if (args.residual == nullptr) continue;
        for (int e = 0; e < count; ++e) weights[t][e] += args.residual[at + e];
      }
      kSums[tasks - 1](rows, weights, count, y, args.y_task_stride, begin > 0, streams, args.width);
    }
  }
}

// Returns the first pair whose slot is out of range, or -1; such a pair counts as dropped.
template <class T>
int64_t sparse_row(const cudamoe_combine_forward_args& args, int64_t row, bool streams) {
  const T* expert = static_cast<const T*>(args.expert);
  const int64_t pairs = int64_t{args.tasks} * args.choices;
  int64_t bad = -1;
  for (int t = 0; t < args.tasks; ++t) {
    float* y = args.y + row * args.y_row_stride + t * args.y_task_stride;
    bool add = false;
    for (int begin = 0; begin < args.choices; begin += kExpertSpan) {
      const T* rows[kExpertSpan];
      float weights[1][kExpertSpan];
      int count = 0;
      for (int j = begin; j < std::min(begin + kExpertSpan, args.choices); ++j) {
        const int64_t pair = row * pairs + int64_t{t} * args.choices + j;
        const int64_t slot = args.slot_of_pair[pair];
        if (slot >= 0 && slot < args.expert_rows) {
          rows[count] = expert + slot * args.expert_row_stride;
          weights[0][count++] = args.gates[pair];
        } else if (slot != -1 && bad < 0) {
          bad = pair;
        }
      }
      if (count > 0 || begin == 0) sum_row<T, 1>(rows, weights, count, y, 0, add, streams, args.width);
      add = true;
    }
  }
  return bad;
}

template <class T>
void prefetch_slots(const cudamoe_combine_forward_args& args, int64_t row) {
  const int64_t pairs = int64_t{args.tasks} * args.choices;
  for (int64_t i = 0; i < std::min<int64_t>(pairs, kExpertSpan); ++i) {
    const int64_t slot = args.slot_of_pair[row * pairs + i];
    if (slot >= 0 && slot < args.expert_rows) prefetch_row(static_cast<const T*>(args.expert) + slot * args.expert_row_stride, args.width);
  }
}

template <class T>
int64_t rows_of(const cudamoe_combine_forward_args& args, int64_t first, int64_t rows, bool streams) {
  constexpr int64_t kAhead = 2;
  int64_t bad = -1;
  for (int64_t row = first; row < first + rows; ++row) {
    if (args.slot_of_pair == nullptr) {
      dense_row<T>(args, row, streams);
    } else {
      if (row + kAhead < first + rows) prefetch_slots<T>(args, row + kAhead);
      const int64_t found = sparse_row<T>(args, row, streams);
      if (bad < 0) bad = found;
    }
  }
  if (streams) hwy::FlushStream();
  return bad;
}

int64_t combine_rows(const cudamoe_combine_forward_args& args, int64_t first, int64_t rows, bool streams) {
  return args.expert_dtype == CUDAMOE_BF16 ? rows_of<Bf16>(args, first, rows, streams) : rows_of<float>(args, first, rows, streams);
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace cudamoe::cpu {

HWY_EXPORT(combine_rows);

cudamoe_status combine_forward(void* handle, const cudamoe_combine_forward_args& args) {
  constexpr int64_t kBlockRows = 32;
  if (args.width == 0) return CUDAMOE_OK;
  Stream& stream = stream_of(handle);
  const double bytes = static_cast<double>(args.rows) * static_cast<double>(args.width) *
                       (4.0 * args.tasks + (args.slot_of_pair == nullptr ? 1.0 : args.tasks) * args.choices *
                                               static_cast<double>(args.expert_dtype == CUDAMOE_BF16 ? 2 : 4));
  const bool streams =
      streams_past_caches(args.y, args.rows * args.tasks * args.width, args.y_row_stride, args.tasks > 1 ? args.y_task_stride : 0) &&
      args.choices <= kExpertSpan;
  FirstOffender offender;
  stream.device().for_tiles((args.rows + kBlockRows - 1) / kBlockRows, 0.1 * bytes, [&](int64_t tile) {
    const int64_t first = tile * kBlockRows;
    offender.note(HWY_DYNAMIC_DISPATCH(combine_rows)(args, first, std::min(kBlockRows, args.rows - first), streams));
  });
  if (const int64_t pair = offender.index(); pair >= 0) {
    stream.report("cudamoe_combine_forward: slot_of_pair[%lld] is %d; it must be -1 or below expert_rows (%lld); such pairs give nothing",
                  static_cast<long long>(pair), args.slot_of_pair[pair], static_cast<long long>(args.expert_rows));
  }
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu

#endif  // HWY_ONCE
