// Sums over rows: sums[i] (+)= sum over b of values[b][i], for dresidual.
//
// Floor: the values read once, 4 bytes each. Tiling: a block of 256 threads per 32 columns and a chunk of rows fixed by the shape, eight
// strands of rows; then the chunks' sums by the same kernel. Shared memory: 2,112 bytes.
// Order of sums, in f64: strand s takes rows s, s + 8, ... of the chunk ascending, then the strands, then (in the same way) the chunks.
#include "combine/combine.h"
#include "common/kernel.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kColumns = 32, kStrands = 8;

CUDAMOE_DEVICE double widened(float value) { return static_cast<double>(value); }
CUDAMOE_DEVICE double widened(double value) { return value; }

// The sum of the rows first .. end - 1 of the caller's column in the threads of strand 0.
template <class T>
CUDAMOE_DEVICE double sum_of_column(const T* values, int64_t first, int64_t end, int64_t width, int64_t column) {
  CUDAMOE_SHARED(double, strands, [kStrands][kColumns + 1]);
  const int strand = thread_x() / kColumns, at = thread_x() % kColumns;
  double sum = 0;
  if (column < width) {
    for (int64_t row = first + strand; row < end; row += kStrands) sum += widened(values[row * width + column]);
  }
  strands[strand][at] = sum;
  sync_block();
  if (strand == 0) {
    for (int s = 1; s < kStrands; ++s) sum += strands[s][at];
  }
  return sum;
}

CUDAMOE_KERNEL(kColumns* kStrands, 4)
chunk_kernel(const float* values, int64_t rows, int64_t chunk_rows, int64_t width, double* partials) {
  const int64_t column = int64_t{block_x()} * kColumns + thread_x() % kColumns, first = block_y() * chunk_rows;
  const double sum = sum_of_column(values, first, first + chunk_rows < rows ? first + chunk_rows : rows, width, column);
  if (thread_x() < kColumns && column < width) partials[block_y() * width + column] = sum;
}

CUDAMOE_KERNEL(kColumns* kStrands, 4)
total_kernel(const double* partials, int64_t chunks, int64_t width, int32_t accumulate, float* sums) {
  const int64_t column = int64_t{block_x()} * kColumns + thread_x() % kColumns;
  const double sum = sum_of_column(partials, 0, chunks, width, column);
  if (thread_x() < kColumns && column < width)
    sums[column] = static_cast<float>(accumulate != 0 ? static_cast<double>(sums[column]) + sum : sum);
}

}  // namespace

cudaError_t combine_sum_rows(const float* values, int64_t rows, int64_t width, bool accumulate, double* partials, float* sums,
                             cudaStream_t stream) {
  const int across = static_cast<int>(ceil_divide(width, int64_t{kColumns})), chunks = static_cast<int>(combine_chunks(rows));
  const LaunchShape chunk{.name = "combine_sum_chunks", .grid = {across, chunks}, .block = {kColumns * kStrands}, .stream = stream};
  const LaunchShape total{.name = "combine_sum_rows", .grid = {across}, .block = {kColumns * kStrands}, .stream = stream};
  cudaError_t error = chunks == 0 ? cudaSuccess : launch(chunk, chunk_kernel, values, rows, combine_chunk_rows(rows), width, partials);
  if (error == cudaSuccess) error = launch(total, total_kernel, partials, int64_t{chunks}, width, accumulate ? 1 : 0, sums);
  return error;
}

}  // namespace cudamoe::kernels
