// The second step of a weight gradient whose rows were cut into chunks: dw[g] (+)= sum of the chunks' partial sums, dbias[g] likewise.
//
// Floor: each partial read once, dw written once (read, too, with accumulate). Tiling: a block of 256 threads per 1024 elements of a
// group's n * k + n, four a thread in 16-byte reads; a partial is padded to whole ones. No shared memory but for the offsets' check.
// Order of sums: chunks ascending.
#include "gemm/rows.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 256, kElements = 4 * kThreads;
constexpr int kAtOnce = 4;  // chunks whose loads are under way together

CUDAMOE_KERNEL(kThreads, 4) wgrad_sum_kernel(const CUDAMOE_GRID_CONSTANT GemmWgrad wgrad) {
  if (!offsets_are_good<kThreads>(wgrad.rows)) return;
  const int64_t stride = gemm_wgrad_partial_floats(wgrad.n, wgrad.k), blocks = ceil_divide(stride, int64_t{kElements});
  const int64_t group = block_x() / blocks, first = block_x() % blocks * kElements + 4 * thread_x();
  const GemmRows& rows = wgrad.rows;
  int64_t number, count;  // of the group's first chunk, its rows
  if (rows.offsets == nullptr) {
    number = group * gemm_tiles_of_strided_group(rows.rows, wgrad.chunk_rows);
    count = rows.rows;
  } else {
    number = gemm_first_tile(rows.offsets[group], group, wgrad.chunk_rows);
    count = rows.offsets[group + 1] - rows.offsets[group];
  }
  if (first >= stride || (count == 0 && wgrad.accumulate != 0)) return;
  const float* partial = wgrad.partials + number * stride + first;
  Vector<float, 4> sum = {};
  const int64_t chunks = ceil_divide(count, int64_t{wgrad.chunk_rows});
  CUDAMOE_NO_UNROLL
  for (int64_t chunk = 0; chunk < chunks; chunk += kAtOnce) {
    Vector<float, 4> more[kAtOnce] = {};
    CUDAMOE_UNROLL
    for (int i = 0; i < kAtOnce; ++i) {
      if (chunk + i < chunks) more[i] = load<4>(partial + (chunk + i) * stride);
    }
    CUDAMOE_UNROLL
    for (int i = 0; i < kAtOnce; ++i) {
      if (chunk + i >= chunks) continue;
      CUDAMOE_UNROLL
      for (int j = 0; j < 4; ++j) sum[j] += more[i][j];
    }
  }
  const int64_t weights = int64_t{wgrad.n} * wgrad.k;
  int64_t row = first / wgrad.k, column = first - row * wgrad.k;
  float* const dw = wgrad.dw + group * wgrad.dw_group_stride;
  if (first + 4 <= weights && column + 4 <= wgrad.k && wgrad.accumulate == 0 && aligned_for<4>(dw + column, wgrad.dw_row_stride)) {
    return store(dw + row * wgrad.dw_row_stride + column, sum);
  }
  CUDAMOE_UNROLL
  for (int i = 0; i < 4; ++i, ++column) {
    if (column == wgrad.k) {
      column = 0;
      ++row;
    }
    float* to = nullptr;
    if (first + i < weights) {
      to = dw + row * wgrad.dw_row_stride + column;
    } else if (first + i < weights + wgrad.n && wgrad.dbias != nullptr) {
      to = wgrad.dbias + group * wgrad.dbias_group_stride + (first + i - weights);
    }
    if (to != nullptr) *to = wgrad.accumulate != 0 ? *to + sum[i] : sum[i];
  }
}

}  // namespace

cudaError_t gemm_wgrad_sum(const GemmWgrad& wgrad, cudaStream_t stream) {
  const int64_t blocks = wgrad.rows.groups * ceil_divide(gemm_wgrad_partial_floats(wgrad.n, wgrad.k), int64_t{kElements});
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  return launch({.name = "gemm_wgrad_sum", .grid = {static_cast<int>(blocks)}, .block = {kThreads}, .stream = stream}, wgrad_sum_kernel,
                wgrad);
}

}  // namespace cudamoe::kernels
