// Moving averages: average = average + rate (value - average), where the value is finite.
//
// Floor: 12 bytes an element. Tiling: blocks of 256 threads, four elements a thread, in one access where both arrays are aligned. No shared
// memory, no sums.
#include "balance/balance.h"
#include "common/kernel.cuh"
#include "common/quad.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 256;

template <bool kAligned>
CUDAMOE_KERNEL(kThreads, 6)
average_kernel(int64_t count, float rate, const float* values, float* averages) {
  const int64_t at = 4 * (int64_t{block_x()} * kThreads + thread_x()), left = count - at;
  if (left <= 0) return;
  const Quad value = load_quad<kAligned>(values + at, left);
  Quad average = load_quad<kAligned>(averages + at, left);
  CUDAMOE_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (is_finite(value[i])) average[i] = fma(rate, value[i] - average[i], average[i]);
  }
  store_quad<kAligned>(averages + at, average, left);
}

}  // namespace

cudaError_t balance_average(int64_t count, float rate, const float* values, float* averages, cudaStream_t stream) {
  const int64_t blocks = ceil_divide(count, int64_t{4 * kThreads});
  if (blocks == 0) return cudaSuccess;
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  const bool aligned = count % 4 == 0 && aligned_for<4>(values) && aligned_for<4>(averages);
  const LaunchShape shape{.name = "balance_average", .grid = {static_cast<int>(blocks)}, .block = {kThreads}, .stream = stream};
  return aligned ? launch(shape, average_kernel<true>, count, rate, values, averages)
                 : launch(shape, average_kernel<false>, count, rate, values, averages);
}

}  // namespace cudamoe::kernels
