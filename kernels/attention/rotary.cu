// Rotary positions (Su et al. 2021): pairs of columns of each head turn by an angle that grows with the row's position.
//
//   (a, b) -> (a cos t - b sin t, a sin t + b cos t),  t = position * base^(-2 i / (2 pairs)) for the i-th pair
//
// Floor: x read and written once, 16 bytes a pair. Tiling: a thread a turn, then a thread a pair of a row; grids stride. No shared memory,
// no sums. The turns are made in f64, once a call: they are few.
#include "attention/attention.h"
#include "common/kernel.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 1 << 16;
constexpr double kPi = 3.14159265358979323846;

CUDAMOE_KERNEL(kThreads, 2) rotary_turns_kernel(const CUDAMOE_GRID_CONSTANT RotaryTurns a) {
  const int64_t count = a.positions * a.pairs;
  for (int64_t i = int64_t{block_x()} * kThreads + thread_x(); i < count; i += int64_t{grid_size_x()} * kThreads) {
    const double exponent = -static_cast<double>(i % a.pairs) / static_cast<double>(a.pairs);
    const double half_turns = static_cast<double>(a.first_position + i / a.pairs) * pow(static_cast<double>(a.base), exponent) / kPi;
    const double sine = sin_pi(half_turns);
    a.turns[2 * i] = static_cast<float>(cos_pi(half_turns));
    a.turns[2 * i + 1] = static_cast<float>(a.inverse != 0 ? -sine : sine);
  }
}

CUDAMOE_KERNEL(kThreads, 4) rotary_rows_kernel(const CUDAMOE_GRID_CONSTANT RotaryRows a) {
  const int64_t of_row = int64_t{a.heads} * a.pairs, count = a.rows * of_row;
  for (int64_t i = int64_t{block_x()} * kThreads + thread_x(); i < count; i += int64_t{grid_size_x()} * kThreads) {
    const int64_t row = i / of_row, head = i % of_row / a.pairs, pair = i % a.pairs;
    const float* turn = a.turns + 2 * (row % a.positions * a.pairs + pair);
    float* first = a.x + row * a.x_row_stride + head * a.head_width + (a.interleaved != 0 ? 2 * pair : pair);
    float* second = first + (a.interleaved != 0 ? 1 : a.pairs);
    const float x = *first, y = *second, cosine = turn[0], sine = turn[1];
    *first = x * cosine - y * sine;
    *second = x * sine + y * cosine;
  }
}

LaunchShape shape_of(const char* name, int64_t threads, cudaStream_t stream) {
  const int64_t blocks = ceil_divide(threads, int64_t{kThreads});
  return {.name = name, .grid = {static_cast<int>(blocks < kMostBlocks ? blocks : kMostBlocks)}, .block = {kThreads}, .stream = stream};
}

}  // namespace

cudaError_t rotary_turns(const RotaryTurns& a, cudaStream_t stream) {
  return launch(shape_of("rotary_turns", a.positions * a.pairs, stream), rotary_turns_kernel, a);
}

cudaError_t rotary_rows(const RotaryRows& a, cudaStream_t stream) {
  return launch(shape_of("rotary_rows", a.rows * a.heads * a.pairs, stream), rotary_rows_kernel, a);
}

}  // namespace cudamoe::kernels
