// The second step of a weight gradient whose rows were cut into chunks: dw[g] (+)= sum of the chunks' partial sums, dbias[g] likewise.
//
// Floor: each partial read once, dw written once (read, too, with accumulate). Tiling: a block of 256 threads per 1024 elements of a
// group's n * k + n, four a thread in 16-byte reads; a partial is padded to whole ones. No shared memory but for the offsets' check.
// Order of sums: chunks ascending.
#include "gemm/rows.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 256, kElements = 4 * kThreads;

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
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const Vector<float, 4> more = load<4>(partial + chunk * stride);
    CUDAMOE_UNROLL
    for (int i = 0; i < 4; ++i) sum[i] += more[i];
  }
  CUDAMOE_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int64_t element = first + i, weights = int64_t{wgrad.n} * wgrad.k;
    float* to = nullptr;
    if (element < weights) {
      to = wgrad.dw + group * wgrad.dw_group_stride + element / wgrad.k * wgrad.dw_row_stride + element % wgrad.k;
    } else if (element < weights + wgrad.n && wgrad.dbias != nullptr) {
      to = wgrad.dbias + group * wgrad.dbias_group_stride + (element - weights);
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
