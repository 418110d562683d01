// Gradients of the gate-weighted sum; with s[t] = task_scale[t] (or 1), f' the derivative of the experts' activation:
//
//   dense    dexpert[b, e, :]  = f' . sum_t (gates[b, t, e] + residual[t, e]) s[t] dy[b, t, :]
//            dgates[b, t, e]   = s[t] <dy[b, t, :], expert[b, e, :]>
//   sparse   dexpert[slot, :]  = f' . gates[b, t, j] s[t] dy[b, t, :]       every routed row belongs to one (b, t, j)
//            dgates[b, t, j]   = s[t] <dy[b, t, :], expert[slot, :]>, 0 when dropped
// A task of scale zero is left out, NaN and all.
//
// Floor: expert and dy read once, dexpert written once: s rows choices width 2 + 4 rows tasks width bytes (dense).
// Tiling: a warp per row (dense) or pair (sparse), 16 bytes of the expert's row a lane; dense goes expert by expert, dy stays in the L1
// cache. Up to four tasks share the pass that writes dexpert; further tasks' dot products take passes of their own over what is cached.
// No shared memory.
// Order of sums: tasks ascending; a dot product by lanes, each its columns ascending, then the lanes by a butterfly.
#include "combine/elements.cuh"
#include "common/activation.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp, kTaskGroup = 4;

// A warp's part: one expert row and the tasks that share it.
template <class T, int N>
struct ExpertRow {
  const CombineBackward& combine;
  const T* expert;
  const T* below;
  T* dexpert;
  const float* dy;  // of the first task
  int tasks;
  const float* gates;     // of task t at t * gate_stride
  const float* residual;  // the same, or null
  int gate_stride;
  const float* scales;  // or null

  CUDAMOE_DEVICE float scale(int t) const { return scales == nullptr ? 1.0f : scales[t]; }
  CUDAMOE_DEVICE float weight(int t) const {
    float value = gates[t * gate_stride];
    if (residual != nullptr) value += residual[t * gate_stride];
    return value * scale(t);
  }

  // <dy of task first + t, expert>, and with kWrites dexpert from all tasks; first is then 0.
  template <bool kWrites>
  CUDAMOE_DEVICE void pass(int first, float (&dots)[kTaskGroup]) const {
    float weights[kTaskGroup];
    bool live[kTaskGroup];
    CUDAMOE_UNROLL
    for (int t = 0; t < kTaskGroup; ++t) {
      live[t] = first + t < tasks && scale(first + t) != 0;
      weights[t] = kWrites && live[t] ? weight(first + t) : 0.0f;
      dots[t] = 0;
    }
    for (int64_t j = int64_t{lane_id()} * N; j < combine.shape.width; j += kWarp * N) {
      const Floats<N> x = load_floats<N>(expert + j);
      Floats<N> sum = {};
      CUDAMOE_UNROLL
      for (int t = 0; t < kTaskGroup; ++t) {
        if (!live[t]) continue;
        const Floats<N> g = load_floats<N>(dy + (first + t) * combine.dy_task_stride + j);
        CUDAMOE_UNROLL
        for (int i = 0; i < N; ++i) {
          if constexpr (kWrites) sum[i] = fma(weights[t], g[i], sum[i]);
          dots[t] = fma(g[i], x[i], dots[t]);
        }
      }
      if constexpr (kWrites) {
        for (int t = kTaskGroup; t < tasks; ++t) {
          if (scale(t) == 0) continue;
          const float own = weight(t);
          const Floats<N> g = load_floats<N>(dy + t * combine.dy_task_stride + j);
          CUDAMOE_UNROLL
          for (int i = 0; i < N; ++i) sum[i] = fma(own, g[i], sum[i]);
        }
        if (combine.activation != Activation::kNone) {
          const Floats<N> from = load_floats<N>(below + j);
          CUDAMOE_UNROLL
          for (int i = 0; i < N; ++i) sum[i] *= activation_derivative(combine.activation, from[i], combine.slope);
        }
        store_floats(dexpert + j, sum);
      }
    }
    CUDAMOE_UNROLL
    for (int t = 0; t < kTaskGroup; ++t) dots[t] = first + t < tasks ? warp_sum(dots[t]) : 0.0f;
  }

  // dgates of task t at t * gate_stride, or null.
  CUDAMOE_DEVICE void run(float* dgates) const {
    for (int first = 0; first < tasks; first += kTaskGroup) {
      float dots[kTaskGroup];
      if (first == 0) {
        pass<true>(0, dots);
      } else if (dgates != nullptr) {
        pass<false>(first, dots);
      }
      if (dgates == nullptr || lane_id() != 0) continue;
      CUDAMOE_UNROLL
      for (int t = 0; t < kTaskGroup; ++t) {
        if (first + t < tasks) dgates[(first + t) * gate_stride] = scale(first + t) == 0 ? 0.0f : dots[t] * scale(first + t);
      }
    }
  }
};

template <class T, int N>
CUDAMOE_KERNEL(kThreads, 3)
dense_kernel(const CUDAMOE_GRID_CONSTANT CombineBackward combine) {
  const CombineShape& shape = combine.shape;
  const int64_t row = int64_t{block_x()} * kWarps + warp_id();
  if (row >= shape.rows) return;
  const float* gates = combine.gates + row * shape.tasks * shape.choices;
  float* dgates = combine.dgates == nullptr ? nullptr : combine.dgates + row * shape.tasks * shape.choices;
  for (int e = 0; e < shape.choices; ++e) {
    const int64_t from = row * combine.expert.row_stride + e * combine.expert.expert_stride;
    const int64_t to = row * combine.dexpert.row_stride + e * combine.dexpert.expert_stride;
    ExpertRow<T, N>{combine,
                    static_cast<const T*>(combine.expert.data) + from,
                    static_cast<const T*>(combine.below) + from,
                    static_cast<T*>(combine.dexpert.data) + to,
                    combine.dy + row * combine.dy_row_stride,
                    shape.tasks,
                    gates + e,
                    combine.residual == nullptr ? nullptr : combine.residual + e,
                    shape.choices,
                    combine.task_scale}
        .run(dgates == nullptr ? nullptr : dgates + e);
  }
}

template <class T, int N>
CUDAMOE_KERNEL(kThreads, 3)
sparse_kernel(const CUDAMOE_GRID_CONSTANT CombineBackward combine) {
  const CombineShape& shape = combine.shape;
  const int64_t pairs = shape.rows * shape.tasks * shape.choices, pair = int64_t{block_x()} * kWarps + warp_id();
  if (pair < pairs) {
    const int64_t slot = shape.slots[pair], item = pair / shape.choices, row = item / shape.tasks, task = item - row * shape.tasks;
    float* dgates = combine.dgates == nullptr ? nullptr : combine.dgates + pair;
    if (slot >= 0 && slot < shape.expert_rows) {
      ExpertRow<T, N>{combine,
                      static_cast<const T*>(combine.expert.data) + slot * combine.expert.row_stride,
                      static_cast<const T*>(combine.below) + slot * combine.expert.row_stride,
                      static_cast<T*>(combine.dexpert.data) + slot * combine.dexpert.row_stride,
                      combine.dy + row * combine.dy_row_stride + task * combine.dy_task_stride,
                      1,
                      combine.gates + pair,
                      nullptr,
                      1,
                      combine.task_scale == nullptr ? nullptr : combine.task_scale + task}
          .run(dgates);
    } else if (lane_id() == 0) {
      if (dgates != nullptr) dgates[0] = 0;
      if (slot != -1) note_offender(shape.offender, pair);
    }
  }
  sync_block();
  if (thread_x() == 0) {
    report_offender(shape.offender, shape.report, static_cast<uint32_t>(grid_size_x()), [&](int64_t at) {
      return DeviceReport{ReportCode::kCombineSlot, 0, {1, at, shape.slots[at], shape.expert_rows}, {}};
    });
  }
}

template <class T, int N>
cudaError_t launch_backward(const CombineBackward& combine, cudaStream_t stream) {
  const bool dense = combine.shape.slots == nullptr;
  const int64_t blocks = ceil_divide(dense ? combine.shape.rows : combine.shape.pairs(), int64_t{kWarps});
  if (blocks == 0) return cudaSuccess;
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  const LaunchShape size{.name = "combine_backward", .grid = {static_cast<int>(blocks)}, .block = {kThreads}, .stream = stream};
  return launch(size, dense ? dense_kernel<T, N> : sparse_kernel<T, N>, combine);
}

template <class T>
cudaError_t run(const CombineBackward& combine, cudaStream_t stream) {
  constexpr int kVector = kCombineVector<T>;
  const CombineShape& shape = combine.shape;
  const bool inner = shape.slots == nullptr && shape.choices > 1;
  const bool whole = shape.width % kVector == 0 &&
                     aligned_for<kVector>(static_cast<const T*>(combine.expert.data), combine.expert.row_stride) &&
                     aligned_for<kVector>(static_cast<const T*>(combine.below)) &&
                     aligned_for<kVector>(static_cast<T*>(combine.dexpert.data), combine.dexpert.row_stride) &&
                     (!inner || (combine.expert.expert_stride % kVector == 0 && combine.dexpert.expert_stride % kVector == 0)) &&
                     aligned_for<4>(combine.dy, combine.dy_row_stride) && (shape.tasks == 1 || combine.dy_task_stride % 4 == 0);
  return whole ? launch_backward<T, kVector>(combine, stream) : launch_backward<T, 1>(combine, stream);
}

}  // namespace

cudaError_t combine_backward(const CombineBackward& combine, cudaStream_t stream) {
  return combine.shape.is_bf16 != 0 ? run<Bf16>(combine, stream) : run<float>(combine, stream);
}

}  // namespace cudamoe::kernels
