// Weighted sum of task gradients: output[b, c] (+)= sum over t of weights[t] gradient_t[b, c].
//
// Floor: the gradients of tasks whose weight is not zero read once and the output written once, 4 bytes an element (with accumulate it is
// read too). Tiling: blocks of 256 threads, four columns a thread, four tasks loaded at a time. Accesses of 16 bytes where everything is
// aligned. No shared memory.
// Order of sums: ascending t, one fused multiply-add each; with accumulate the output is added last: the bits of the cpu backend.
// The output may be the first task's gradient: each element is read by the thread that writes it.
#include "balance/elements.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 256, kAtOnce = 4;

template <bool kAligned>
CUDAMOE_KERNEL(kThreads, 6)
combine_kernel(const CUDAMOE_GRID_CONSTANT BalanceCombine combine) {
  const BalanceGradients& gradients = combine.gradients;
  const int64_t quad = int64_t{block_x()} * kThreads + thread_x();
  if (quad >= balance_quads(gradients.rows, gradients.width)) return;
  const QuadPlace place = QuadWalk(gradients.width, quad, 0).place();
  const int64_t left = gradients.width - place.column;
  const float* data = gradients.data + place.row * gradients.row_stride + place.column;
  Quad sum = {};
  for (int first = 0; first < gradients.tasks; first += kAtOnce) {
    float weight[kAtOnce];
    Quad values[kAtOnce];
    CUDAMOE_UNROLL
    for (int t = 0; t < kAtOnce; ++t) {
      weight[t] = first + t < gradients.tasks ? combine.weights[first + t] : 0.0f;
      values[t] = load_quad<kAligned>(data + (first + t) * gradients.task_stride, weight[t] != 0 ? left : 0);
    }
    CUDAMOE_UNROLL
    for (int t = 0; t < kAtOnce; ++t) {
      if (weight[t] == 0) continue;
      CUDAMOE_UNROLL
      for (int c = 0; c < 4; ++c) sum[c] = fma(weight[t], values[t][c], sum[c]);
    }
  }
  float* output = combine.output + place.row * combine.output_row_stride + place.column;
  if (combine.accumulate != 0) {
    const Quad before = load_quad<kAligned>(output, left);
    CUDAMOE_UNROLL
    for (int c = 0; c < 4; ++c) sum[c] = before[c] + sum[c];
  }
  store_quad<kAligned>(output, sum, left);
}

}  // namespace

cudaError_t balance_combine(const BalanceCombine& combine, cudaStream_t stream) {
  const BalanceGradients& gradients = combine.gradients;
  const int64_t blocks = ceil_divide(balance_quads(gradients.rows, gradients.width), int64_t{kThreads});
  if (blocks == 0) return cudaSuccess;
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  const bool aligned = gradients_aligned(gradients) && aligned_for<4>(combine.output, gradients.rows > 1 ? combine.output_row_stride : 4);
  const LaunchShape shape{.name = "balance_combine", .grid = {static_cast<int>(blocks)}, .block = {kThreads}, .stream = stream};
  return aligned ? launch(shape, combine_kernel<true>, combine) : launch(shape, combine_kernel<false>, combine);
}

}  // namespace cudamoe::kernels
