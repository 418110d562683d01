// Sums over rows of task gradients, and factors of their columns:
//   sums[p, t, j] = sum over the rows b of part p of gradient_t[b, j] (times the sign of value_t[b, j])
//   gradient_t[b, j] = factors[t, j] gradient_t[b, j]
//
// Sums. Floor: the gradients (and values) read once, 4 bytes an element. Tiling: a block of eight warps for 32 columns of a task and a
// chunk of the rows; a lane a column, so a warp reads 128 bytes of a row. Chunks of 256 rows, or more where there would be above 64 of
// them; a second kernel adds the chunks. Shared memory: 2 KiB. Order of sums, in f64: warp w rows w, w + 8, ... of the chunk ascending; the
// warps ascending, of two parts the even or the odd ones, since chunks start at even rows; the chunks ascending.
//
// Factors. Floor: 8 bytes an element. Tiling: blocks of 256 threads, four columns a thread, in one access where everything is aligned.
#include "balance/elements.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 256;
static_assert(kColumnWarps * kWarp == kThreads && kColumnWarps % 2 == 0);

CUDAMOE_KERNEL(kThreads, 6) columns_kernel(const CUDAMOE_GRID_CONSTANT BalanceColumns columns, int strips) {
  CUDAMOE_SHARED(double, partial, [kColumnWarps][kWarp]);
  const BalanceGradients& gradients = columns.gradients;
  const int64_t chunk = block_x() / (strips * gradients.tasks);
  const int rest = block_x() - static_cast<int>(chunk) * strips * gradients.tasks;
  const int task = rest / strips;
  const int64_t column = int64_t{rest - task * strips} * kWarp + lane_id();
  const int64_t size = balance_column_chunk_rows(gradients.rows), first = chunk * size;
  const int64_t end = first + size < gradients.rows ? first + size : gradients.rows;
  double sum = 0;
  if (column < gradients.width) {
    const float* data = gradients.data + task * gradients.task_stride + column;
    const float* values = columns.values == nullptr ? nullptr : columns.values + task * columns.values_task_stride + column;
    for (int64_t row = first + warp_id(); row < end; row += kColumnWarps) {
      const auto gradient = static_cast<double>(data[row * gradients.row_stride]);
      if (values == nullptr) {
        sum += gradient;
      } else {
        const float value = values[row * columns.values_row_stride];
        sum += value > 0 ? gradient : value < 0 ? -gradient : 0.0;
      }
    }
  }
  partial[warp_id()][lane_id()] = sum;
  sync_block();
  if (warp_id() >= columns.parts || column >= gradients.width) return;
  const int part = warp_id();
  for (int w = part + columns.parts; w < kColumnWarps; w += columns.parts) sum += partial[w][lane_id()];
  columns.partials[((chunk * columns.parts + part) * gradients.tasks + task) * gradients.width + column] = sum;
}

CUDAMOE_KERNEL(kThreads, 6) columns_sum_kernel(const double* partials, int64_t chunks, int64_t count, double* sums) {
  const int64_t at = int64_t{block_x()} * kThreads + thread_x();
  if (at >= count) return;
  double sum = partials[at];
  for (int64_t chunk = 1; chunk < chunks; ++chunk) sum += partials[chunk * count + at];
  sums[at] = sum;
}

template <bool kAligned>
CUDAMOE_KERNEL(kThreads, 6)
scale_kernel(const CUDAMOE_GRID_CONSTANT BalanceScale scale, int64_t blocks) {
  const BalanceGradients& gradients = scale.gradients;
  const int64_t task = block_x() / blocks, quad = (block_x() - task * blocks) * kThreads + thread_x();
  if (quad >= balance_quads(gradients.rows, gradients.width)) return;
  const QuadPlace place = QuadWalk(gradients.width, quad, 0).place();
  const int64_t left = gradients.width - place.column;
  float* data = scale.data + task * gradients.task_stride + place.row * gradients.row_stride + place.column;
  const Quad factor = load_quad<kAligned>(scale.factors + task * gradients.width + place.column, left);
  Quad value = load_quad<kAligned>(data, left);
  CUDAMOE_UNROLL
  for (int c = 0; c < 4; ++c) value[c] = factor[c] * value[c];
  store_quad<kAligned>(data, value, left);
}

}  // namespace

cudaError_t balance_column_chunk_sums(const BalanceColumns& columns, cudaStream_t stream) {
  const BalanceGradients& gradients = columns.gradients;
  const int64_t strips = ceil_divide(gradients.width, int64_t{kWarp});
  const int64_t blocks = strips * gradients.tasks * balance_column_chunks(gradients.rows);
  if (blocks == 0) return cudaSuccess;
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  const LaunchShape shape{.name = "balance_columns", .grid = {static_cast<int>(blocks)}, .block = {kThreads}, .stream = stream};
  return launch(shape, columns_kernel, columns, static_cast<int>(strips));
}

cudaError_t balance_column_sum(const double* partials, int64_t chunks, int64_t count, double* sums, cudaStream_t stream) {
  const int64_t blocks = ceil_divide(count, int64_t{kThreads});
  if (blocks == 0) return cudaSuccess;
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  const LaunchShape shape{.name = "balance_columns_sum", .grid = {static_cast<int>(blocks)}, .block = {kThreads}, .stream = stream};
  return launch(shape, columns_sum_kernel, partials, chunks, count, sums);
}

cudaError_t balance_scale(const BalanceScale& scale, cudaStream_t stream) {
  const BalanceGradients& gradients = scale.gradients;
  const int64_t blocks = ceil_divide(balance_quads(gradients.rows, gradients.width), int64_t{kThreads});
  if (blocks == 0) return cudaSuccess;
  if (blocks > INT32_MAX / gradients.tasks) return cudaErrorInvalidConfiguration;
  const bool aligned = gradients_aligned(gradients) && aligned_for<4>(scale.factors);
  const LaunchShape shape{
      .name = "balance_scale", .grid = {static_cast<int>(blocks * gradients.tasks)}, .block = {kThreads}, .stream = stream};
  return aligned ? launch(shape, scale_kernel<true>, scale, blocks) : launch(shape, scale_kernel<false>, scale, blocks);
}

}  // namespace cudamoe::kernels
