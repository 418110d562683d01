// The gradient of layer normalisation. With h = (x - m) r and g = dy gamma:
//   dx = r (g - mean(g) - h mean(g h)),  dgamma = sum over rows of dy h,  dbeta = sum over rows of dy
// and of normalisation by the root of the mean square: m = 0, and no term mean(g).
//
// Floor: 12 bytes an element, x and dy in, dx out. Tiling: a block per chunk of rows fixed by their number (norm_chunk_rows), whose sums
// of dgamma and dbeta it leaves at its place. Up to 1024 columns: 128 threads; a row of x and of dy lies in the registers of 8 to 32
// lanes, which also keep their columns' sums. Wider rows: a block of 256 threads a row for dx, which reads the row twice, from memory and
// from the caches, and before it a kernel of its own for the sums: 20 bytes an element. Accesses of 16 bytes where everything is
// aligned. Shared memory: 2 to 16 KiB, the sums of the strands of a chunk's rows.
// Order of sums: along a row as in the forward. Down the rows strand s of S takes rows s, s + S, ... of the chunk ascending, then the
// strands ascending, in f32. dx may be dy: a row is read by those who write it, before they do.
#include "common/block_reduce.cuh"
#include "norm/rows.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 128;
constexpr int kColumns = 32, kStrands = 8;  // of a block that sums columns of wide rows

CUDAMOE_DEVICE int64_t end_of_chunk(int64_t first, int64_t rows) {
  const int64_t end = first + norm_chunk_rows(rows);
  return end < rows ? end : rows;
}

CUDAMOE_DEVICE float mean_at(const NormBackward& norm, int64_t row) { return norm.mean != nullptr ? norm.mean[row] : 0.0f; }

// What g's sum over a row gives to dx: nothing where the mean is a constant.
CUDAMOE_DEVICE float mean_gradient(const NormBackward& norm, float sum) {
  return norm.mean != nullptr ? sum / static_cast<float>(norm.width) : 0.0f;
}

// h, g and dx of the elements of one quad.
struct Gradient {
  Quad h, g;
};

template <bool kAligned>
CUDAMOE_DEVICE Gradient gradient_of(const NormBackward& norm, int64_t column, const Quad& x, const Quad& dy, float mean, float reciprocal) {
  Gradient out;
  out.g = dy;
  if (norm.gamma != nullptr) {
    const Quad gamma = load_quad<kAligned>(norm.gamma + column, norm.width - column);
    CUDAMOE_UNROLL
    for (int i = 0; i < 4; ++i) out.g[i] *= gamma[i];
  }
  CUDAMOE_UNROLL
  for (int i = 0; i < 4; ++i) out.h[i] = (x[i] - mean) * reciprocal;
  return out;
}

CUDAMOE_DEVICE Quad dx_of(const Gradient& gradient, float reciprocal, float mean_g, float mean_gh) {
  Quad dx;
  CUDAMOE_UNROLL
  for (int i = 0; i < 4; ++i) dx[i] = reciprocal * (gradient.g[i] - mean_g - gradient.h[i] * mean_gh);
  return dx;
}

template <int kLanes, int kQuads, bool kAligned>
CUDAMOE_KERNEL(kThreads, kQuads > 4 ? 2 : 4)
rows_kernel(const CUDAMOE_GRID_CONSTANT NormBackward norm) {
  constexpr int kRowStrands = kThreads / kLanes;
  const int lane = thread_x() % kLanes, strand = thread_x() / kLanes;
  const int64_t first = block_x() * norm_chunk_rows(norm.rows), end = end_of_chunk(first, norm.rows);
  Quad dgamma[kQuads] = {}, dbeta[kQuads] = {};
  for (int64_t group = first; group < end; group += kRowStrands) {
    const int64_t row = group + strand;
    const bool inside = row < end;
    const float mean = inside ? mean_at(norm, row) : 0.0f, reciprocal = inside ? norm.reciprocal[row] : 0.0f;
    Quad x[kQuads], dy[kQuads];
    CUDAMOE_UNROLL
    for (int v = 0; v < kQuads; ++v) {
      const int column = 4 * (v * kLanes + lane);
      const int64_t left = inside ? norm.width - column : 0;
      x[v] = load_quad<kAligned>(norm.x + row * norm.x_row_stride + column, left);
      dy[v] = load_quad<kAligned>(norm.dy + row * norm.dy_row_stride + column, left);
    }
    float sum = 0, product = 0;
    CUDAMOE_UNROLL
    for (int v = 0; v < kQuads; ++v) {
      const Gradient gradient = gradient_of<kAligned>(norm, 4 * (v * kLanes + lane), x[v], dy[v], mean, reciprocal);
      CUDAMOE_UNROLL
      for (int i = 0; i < 4; ++i) {
        sum += gradient.g[i];
        product = fma(gradient.g[i], gradient.h[i], product);
        dgamma[v][i] = fma(dy[v][i], gradient.h[i], dgamma[v][i]);
        dbeta[v][i] += dy[v][i];
      }
    }
    const float mean_g = mean_gradient(norm, sum_of_lanes<kLanes>(sum));
    const float mean_gh = sum_of_lanes<kLanes>(product) / static_cast<float>(norm.width);
    CUDAMOE_UNROLL
    for (int v = 0; v < kQuads; ++v) {
      const int column = 4 * (v * kLanes + lane);
      const Gradient gradient = gradient_of<kAligned>(norm, column, x[v], dy[v], mean, reciprocal);
      store_quad<kAligned>(norm.dx + row * norm.dx_row_stride + column, dx_of(gradient, reciprocal, mean_g, mean_gh),
                           inside ? norm.width - column : 0);
    }
  }
  if (norm.partials == nullptr) return;
  CUDAMOE_SHARED_ALIGNED(16, float, strands, [kRowStrands][4 * kLanes * kQuads]);
  CUDAMOE_UNROLL
  for (int which = 0; which < 2; ++which) {
    if (which == 1) sync_block();  // the first sums are read
    CUDAMOE_UNROLL
    for (int v = 0; v < kQuads; ++v) store(strands[strand] + 4 * (v * kLanes + lane), which == 0 ? dgamma[v] : dbeta[v]);
    sync_block();
    float* partial = norm.partials + (int64_t{block_x()} * 2 + which) * norm.width;
    for (int column = thread_x(); column < norm.width; column += kThreads) {
      float sum = 0;
      CUDAMOE_UNROLL
      for (int s = 0; s < kRowStrands; ++s) sum += strands[s][column];
      partial[column] = sum;
    }
  }
}

template <bool kAligned>
CUDAMOE_KERNEL(kWideThreads, 4)
wide_kernel(const CUDAMOE_GRID_CONSTANT NormBackward norm) {
  CUDAMOE_SHARED(float, means, [2]);
  const int64_t row = block_x(), first = 4 * thread_x();
  constexpr int64_t kStep = 4 * kWideThreads;
  const float *x = norm.x + row * norm.x_row_stride, *dy = norm.dy + row * norm.dy_row_stride;
  const float mean = mean_at(norm, row), reciprocal = norm.reciprocal[row];
  const auto gradient_at = [&](int64_t column) {
    const int64_t left = norm.width - column;
    return gradient_of<kAligned>(norm, column, load_quad<kAligned>(x + column, left), load_quad<kAligned>(dy + column, left), mean,
                                 reciprocal);
  };
  float sum = 0, product = 0;
  for (int64_t column = first; column < norm.width; column += kStep) {
    const Gradient gradient = gradient_at(column);
    CUDAMOE_UNROLL
    for (int i = 0; i < 4; ++i) {
      sum += gradient.g[i];
      product = fma(gradient.g[i], gradient.h[i], product);
    }
  }
  sum = block_sum<kWideThreads>(sum);
  product = block_sum<kWideThreads>(product);
  if (thread_x() == 0) {
    means[0] = mean_gradient(norm, sum);
    means[1] = product / static_cast<float>(norm.width);
  }
  sync_block();
  const float mean_g = means[0], mean_gh = means[1];
  for (int64_t column = first; column < norm.width; column += kStep) {
    store_quad<kAligned>(norm.dx + row * norm.dx_row_stride + column, dx_of(gradient_at(column), reciprocal, mean_g, mean_gh),
                         norm.width - column);
  }
}

// The partial sums of wide rows: a block per 32 columns and chunk, eight strands of rows.
CUDAMOE_KERNEL(kColumns* kStrands, 4)
wide_sums_kernel(const CUDAMOE_GRID_CONSTANT NormBackward norm) {
  CUDAMOE_SHARED(float, strands, [2][kStrands][kColumns]);
  const int at = thread_x() % kColumns, strand = thread_x() / kColumns;
  const int64_t column = int64_t{block_x()} * kColumns + at;
  const int64_t first = block_y() * norm_chunk_rows(norm.rows), end = end_of_chunk(first, norm.rows);
  float dgamma = 0, dbeta = 0;
  for (int64_t row = first + strand; row < end && column < norm.width; row += kStrands) {
    const float dy = norm.dy[row * norm.dy_row_stride + column];
    dgamma = fma(dy, (norm.x[row * norm.x_row_stride + column] - mean_at(norm, row)) * norm.reciprocal[row], dgamma);
    dbeta += dy;
  }
  strands[0][strand][at] = dgamma;
  strands[1][strand][at] = dbeta;
  sync_block();
  if (strand > 1 || column >= norm.width) return;
  float sum = 0;
  for (int s = 0; s < kStrands; ++s) sum += strands[strand][s][at];
  norm.partials[(int64_t{block_y()} * 2 + strand) * norm.width + column] = sum;
}

template <bool kAligned>
cudaError_t run_wide(const NormBackward& norm, cudaStream_t stream) {
  const int64_t across = ceil_divide(norm.width, int64_t{kColumns});
  if (norm.rows > INT32_MAX || across > INT32_MAX) return cudaErrorInvalidConfiguration;
  if (norm.partials != nullptr) {
    const LaunchShape sums{.name = "norm_backward_sums",
                           .grid = {static_cast<int>(across), static_cast<int>(norm_chunks(norm.rows))},
                           .block = {kColumns * kStrands},
                           .stream = stream};
    if (const cudaError_t error = launch(sums, wide_sums_kernel, norm); error != cudaSuccess) return error;
  }
  const LaunchShape shape{.name = "norm_backward", .grid = {static_cast<int>(norm.rows)}, .block = {kWideThreads}, .stream = stream};
  return launch(shape, wide_kernel<kAligned>, norm);
}

template <bool kAligned>
cudaError_t run(const NormBackward& norm, cudaStream_t stream) {
  return for_row_shape(norm.width, [&]<int kLanes, int kQuads>() {
    if constexpr (kLanes > 0) {
      const LaunchShape shape{
          .name = "norm_backward", .grid = {static_cast<int>(norm_chunks(norm.rows))}, .block = {kThreads}, .stream = stream};
      return launch(shape, rows_kernel<kLanes, kQuads, kAligned>, norm);
    } else {
      return run_wide<kAligned>(norm, stream);
    }
  });
}

}  // namespace

cudaError_t norm_backward(const NormBackward& norm, cudaStream_t stream) {
  if (norm.rows == 0) return cudaSuccess;
  const bool aligned = norm.width % 4 == 0 && aligned_for<4>(norm.x, norm.x_row_stride) && aligned_for<4>(norm.dy, norm.dy_row_stride) &&
                       aligned_for<4>(norm.dx, norm.dx_row_stride) && aligned_for<4>(norm.gamma);
  return aligned ? run<true>(norm, stream) : run<false>(norm, stream);
}

}  // namespace cudamoe::kernels
