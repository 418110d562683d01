// Gate-weighted sums of expert outputs.
//
//   dense    y[b, t, :] = sum_e (gates[b, t, e] + residual[t, e]) expert[b, e, :]
//   sparse   y[b, t, :] = sum_j gates[b, t, j] expert[slot(b, t, j), :], dropped slots left out
//
// Floor: the expert outputs once, s rows choices width bytes (sparse: the routed rows), and y once, 4 rows tasks width.
// Tiling: blocks of 256 threads, 1 to 256 neighbouring threads a row, 16 bytes of an expert's row a thread; up to four tasks share what is
// loaded, further ones find it in the L1 cache. Sparse: a row and task each. No shared memory.
// Order of sums: ascending expert (choice), one fused multiply-add each: the bits of the cpu backend.
#include "combine/elements.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 256, kTaskGroup = 4;

template <class T, int N>
CUDAMOE_KERNEL(kThreads, 4)
dense_kernel(const CUDAMOE_GRID_CONSTANT CombineForward combine, int threads_of_row) {
  const CombineShape& shape = combine.shape;
  const int64_t row = int64_t{block_x()} * (kThreads / threads_of_row) + thread_x() / threads_of_row;
  if (row >= shape.rows) return;
  const int choices = shape.choices;
  const T* expert = static_cast<const T*>(combine.expert.data) + row * combine.expert.row_stride;
  const float* gates = combine.gates + row * shape.tasks * choices;
  for (int64_t j = int64_t{thread_x() % threads_of_row} * N; j < shape.width; j += int64_t{threads_of_row} * N) {
    for (int first = 0; first < shape.tasks; first += kTaskGroup) {
      Floats<N> sum[kTaskGroup] = {};
      for (int e = 0; e < choices; ++e) {
        const Floats<N> x = load_floats<N>(expert + e * combine.expert.expert_stride + j);
        CUDAMOE_UNROLL
        for (int t = 0; t < kTaskGroup; ++t) {
          if (first + t >= shape.tasks) continue;
          const int at = (first + t) * choices + e;
          float weight = gates[at];
          if (combine.residual != nullptr) weight += combine.residual[at];
          CUDAMOE_UNROLL
          for (int i = 0; i < N; ++i) sum[t][i] = fma(weight, x[i], sum[t][i]);
        }
      }
      CUDAMOE_UNROLL
      for (int t = 0; t < kTaskGroup; ++t) {
        if (first + t < shape.tasks) store_floats(combine.y + row * combine.y_row_stride + (first + t) * combine.y_task_stride + j, sum[t]);
      }
    }
  }
}

template <class T, int N>
CUDAMOE_KERNEL(kThreads, 6)
sparse_kernel(const CUDAMOE_GRID_CONSTANT CombineForward combine, int threads_of_row) {
  const CombineShape& shape = combine.shape;
  const int64_t item = int64_t{block_x()} * (kThreads / threads_of_row) + thread_x() / threads_of_row;
  const int thread = thread_x() % threads_of_row;
  if (item < shape.rows * shape.tasks) {
    const int64_t row = item / shape.tasks, pair = item * shape.choices;
    const T* expert = static_cast<const T*>(combine.expert.data);
    float* y = combine.y + row * combine.y_row_stride + (item - row * shape.tasks) * combine.y_task_stride;
    for (int64_t j = int64_t{thread} * N; j < shape.width; j += int64_t{threads_of_row} * N) {
      Floats<N> sum = {};
      for (int c = 0; c < shape.choices; ++c) {
        const int64_t slot = shape.slots[pair + c];
        if (slot < 0 || slot >= shape.expert_rows) {
          if (slot != -1 && j == 0) note_offender(shape.offender, pair + c);
          continue;
        }
        const Floats<N> x = load_floats<N>(expert + slot * combine.expert.row_stride + j);
        const float weight = combine.gates[pair + c];
        CUDAMOE_UNROLL
        for (int i = 0; i < N; ++i) sum[i] = fma(weight, x[i], sum[i]);
      }
      store_floats(y + j, sum);
    }
  }
  sync_block();
  if (thread_x() == 0) {
    report_offender(shape.offender, shape.report, static_cast<uint32_t>(grid_size_x()), [&](int64_t at) {
      return DeviceReport{ReportCode::kCombineSlot, 0, {0, at, shape.slots[at], shape.expert_rows}, {}};
    });
  }
}

template <class T, int N>
cudaError_t launch_forward(const CombineForward& combine, cudaStream_t stream) {
  const CombineShape& shape = combine.shape;
  int threads = 1;
  while (threads < kThreads && int64_t{threads} * N < shape.width) threads *= 2;
  const bool dense = shape.slots == nullptr;
  const int64_t items = dense ? shape.rows : shape.rows * shape.tasks, blocks = ceil_divide(items, int64_t{kThreads / threads});
  if (blocks == 0) return cudaSuccess;
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  const LaunchShape size{.name = "combine_forward", .grid = {static_cast<int>(blocks)}, .block = {kThreads}, .stream = stream};
  return dense ? launch(size, dense_kernel<T, N>, combine, threads) : launch(size, sparse_kernel<T, N>, combine, threads);
}

template <class T>
cudaError_t run(const CombineForward& combine, cudaStream_t stream) {
  constexpr int kVector = kCombineVector<T>;
  const auto* expert = static_cast<const T*>(combine.expert.data);
  const bool whole = combine.shape.width % kVector == 0 && aligned_for<kVector>(expert, combine.expert.row_stride) &&
                     (combine.shape.slots != nullptr || combine.shape.choices == 1 || combine.expert.expert_stride % kVector == 0) &&
                     aligned_for<4>(combine.y, combine.y_row_stride) && (combine.shape.tasks == 1 || combine.y_task_stride % 4 == 0);
  return whole ? launch_forward<T, kVector>(combine, stream) : launch_forward<T, 1>(combine, stream);
}

}  // namespace

cudaError_t combine_forward(const CombineForward& combine, cudaStream_t stream) {
  return combine.shape.is_bf16 != 0 ? run<Bf16>(combine, stream) : run<float>(combine, stream);
}

}  // namespace cudamoe::kernels
