// Layer normalisation of rows of `width` columns:
//   m = mean(x),  v = mean((x - m)^2),  r = 1 / sqrt(v + epsilon),  y = (x - m) r gamma + beta
// and normalisation by the root of the mean square, the same with m = 0.
//
// Floor: 8 bytes an element, x in and y out. Tiling: up to 1024 columns a row lies in the registers of 8 to 32 lanes, so it is read once;
// blocks of 256 threads. Wider rows take such a block each, which reads the row three times: from memory, then from the caches. Accesses
// of 16 bytes where everything is aligned. Shared memory: none, 72 bytes for wide rows.
// Order of sums: a lane its columns ascending, then the lanes by a butterfly (wide rows: then the warps ascending). The variance is summed
// from the deviations; the difference of mean squares would cancel.
#include "common/block_reduce.cuh"
#include "norm/rows.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 256;

template <bool kAligned>
CUDAMOE_DEVICE void store_normalized(const NormForward& norm, int64_t row, int64_t column, const Quad& x, float mean, float reciprocal) {
  const int64_t left = norm.width - column;
  Quad y;
  CUDAMOE_UNROLL
  for (int i = 0; i < 4; ++i) y[i] = (x[i] - mean) * reciprocal;
  if (norm.gamma != nullptr) {
    const Quad gamma = load_quad<kAligned>(norm.gamma + column, left);
    CUDAMOE_UNROLL
    for (int i = 0; i < 4; ++i) y[i] *= gamma[i];
  }
  if (norm.beta != nullptr) {
    const Quad beta = load_quad<kAligned>(norm.beta + column, left);
    CUDAMOE_UNROLL
    for (int i = 0; i < 4; ++i) y[i] += beta[i];
  }
  store_quad<kAligned>(norm.y + row * norm.y_row_stride + column, y, left);
}

// The sum of the squared deviations of the columns that exist.
CUDAMOE_DEVICE float add_squares(const Quad& x, float mean, int64_t left, float sum) {
  CUDAMOE_UNROLL
  for (int i = 0; i < 4; ++i) {
    const float deviation = i < left ? x[i] - mean : 0.0f;
    sum = fma(deviation, deviation, sum);
  }
  return sum;
}

CUDAMOE_DEVICE float mean_of(float sum, const NormForward& norm) { return norm.centred != 0 ? sum / static_cast<float>(norm.width) : 0.0f; }

CUDAMOE_DEVICE float reciprocal_of(float squares, const NormForward& norm) {
  return 1.0f / sqrt(squares / static_cast<float>(norm.width) + norm.epsilon);
}

CUDAMOE_DEVICE void store_statistics(const NormForward& norm, int64_t row, float mean, float reciprocal) {
  if (norm.mean != nullptr) norm.mean[row] = mean;
  if (norm.reciprocal != nullptr) norm.reciprocal[row] = reciprocal;
}

template <int kLanes, int kQuads, bool kAligned>
CUDAMOE_KERNEL(kThreads, kQuads > 4 ? 3 : 4)
rows_kernel(const CUDAMOE_GRID_CONSTANT NormForward norm) {
  const int lane = thread_x() % kLanes;
  const int64_t row = int64_t{block_x()} * (kThreads / kLanes) + thread_x() / kLanes;
  const bool inside = row < norm.rows;  // lanes without a row go along: the others need them to meet
  Quad x[kQuads];
  float sum = 0;
  CUDAMOE_UNROLL
  for (int v = 0; v < kQuads; ++v) {
    const int column = 4 * (v * kLanes + lane);
    x[v] = load_quad<kAligned>(norm.x + row * norm.x_row_stride + column, inside ? norm.width - column : 0);
  }
  CUDAMOE_UNROLL
  for (int v = 0; v < kQuads; ++v) {
    CUDAMOE_UNROLL
    for (int i = 0; i < 4; ++i) sum += x[v][i];
  }
  const float mean = mean_of(sum_of_lanes<kLanes>(sum), norm);
  float squares = 0;
  CUDAMOE_UNROLL
  for (int v = 0; v < kQuads; ++v) squares = add_squares(x[v], mean, norm.width - 4 * (v * kLanes + lane), squares);
  const float reciprocal = reciprocal_of(sum_of_lanes<kLanes>(squares), norm);
  if (!inside) return;
  CUDAMOE_UNROLL
  for (int v = 0; v < kQuads; ++v) {
    const int column = 4 * (v * kLanes + lane);
    if (column < norm.width) store_normalized<kAligned>(norm, row, column, x[v], mean, reciprocal);
  }
  if (lane == 0) store_statistics(norm, row, mean, reciprocal);
}

template <bool kAligned>
CUDAMOE_KERNEL(kWideThreads, 4)
wide_kernel(const CUDAMOE_GRID_CONSTANT NormForward norm) {
  CUDAMOE_SHARED(float, statistics, [2]);  // mean, reciprocal deviation
  const int64_t row = block_x(), first = 4 * thread_x();
  constexpr int64_t kStep = 4 * kWideThreads;
  const float* x = norm.x + row * norm.x_row_stride;
  float sum = 0;
  for (int64_t column = first; column < norm.width; column += kStep) {
    const Quad quad = load_quad<kAligned>(x + column, norm.width - column);
    CUDAMOE_UNROLL
    for (int i = 0; i < 4; ++i) sum += quad[i];
  }
  sum = block_sum<kWideThreads>(sum);
  if (thread_x() == 0) statistics[0] = mean_of(sum, norm);
  sync_block();
  const float mean = statistics[0];
  float squares = 0;
  for (int64_t column = first; column < norm.width; column += kStep) {
    const int64_t left = norm.width - column;
    squares = add_squares(load_quad<kAligned>(x + column, left), mean, left, squares);
  }
  squares = block_sum<kWideThreads>(squares);
  if (thread_x() == 0) statistics[1] = reciprocal_of(squares, norm);
  sync_block();
  const float reciprocal = statistics[1];
  for (int64_t column = first; column < norm.width; column += kStep)
    store_normalized<kAligned>(norm, row, column, load_quad<kAligned>(x + column, norm.width - column), mean, reciprocal);
  if (thread_x() == 0) store_statistics(norm, row, mean, reciprocal);
}

template <bool kAligned>
cudaError_t run(const NormForward& norm, cudaStream_t stream) {
  return for_row_shape(norm.width, [&]<int kLanes, int kQuads>() {
    constexpr int kRows = kLanes > 0 ? kThreads / (kLanes > 0 ? kLanes : 1) : 1;
    const int64_t blocks = ceil_divide(norm.rows, int64_t{kRows});
    if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
    const LaunchShape shape{.name = "norm_forward", .grid = {static_cast<int>(blocks)}, .block = {kThreads}, .stream = stream};
    if constexpr (kLanes > 0) {
      return launch(shape, rows_kernel<kLanes, kQuads, kAligned>, norm);
    } else {
      return launch(shape, wide_kernel<kAligned>, norm);
    }
  });
}

}  // namespace

cudaError_t norm_forward(const NormForward& norm, cudaStream_t stream) {
  static_assert(kThreads == kWideThreads);
  if (norm.rows == 0) return cudaSuccess;
  const bool aligned = norm.width % 4 == 0 && aligned_for<4>(norm.x, norm.x_row_stride) && aligned_for<4>(norm.y, norm.y_row_stride) &&
                       aligned_for<4>(norm.gamma) && aligned_for<4>(norm.beta);
  return aligned ? run<true>(norm, stream) : run<false>(norm, stream);
}

}  // namespace cudamoe::kernels
