// Sums over neighbours: y[r] (+)= sum over the edges e of row r of weights[e] x[neighbours[e]], with mean divided by their number.
//
// Floor: for each edge a row of x, read at random, and 8 bytes of its neighbour and weight; y written once.
// Tiling: a warp per row and 256 columns, the grid strides over both; a lane has columns lane, lane + 32, ..., so each access of the warp
// is 128 bytes side by side. Neighbours and weights of 32 edges are read at once and handed round. No shared memory. Order of sums: edges
// ascending.
#include "graph/matrix.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kColumns = 8, kSlab = kColumns * kWarp;

CUDAMOE_KERNEL(kGraphThreads, 4) graph_aggregate_kernel(const CUDAMOE_GRID_CONSTANT GraphAggregate a) {
  const GraphMatrix& matrix = a.matrix;
  const int lane = lane_id();
  const int64_t slabs = ceil_divide(a.width, int64_t{kSlab}), tasks = matrix.rows * slabs;
  for (int64_t task = int64_t{block_x()} * kGraphWarps + warp_id(); task < tasks; task += int64_t{grid_size_x()} * kGraphWarps) {
    const int64_t row = task / slabs, column = task % slabs * kSlab + lane;
    const EdgeRange edges = edges_of(matrix, row);
    const float factor = row_factor(matrix, edges);
    float sums[kColumns] = {};
    for (int64_t first = edges.begin; first < edges.end; first += kWarp) {
      const int neighbour = neighbour_of(matrix, first + lane, edges.end);
      const float weight = neighbour >= 0 && a.weights != nullptr ? a.weights[first + lane] : 1.0f;
      const int count = static_cast<int>(edges.end - first < kWarp ? edges.end - first : kWarp);
      for (int j = 0; j < count; ++j) {
        const int from = shuffle(kFullWarp, neighbour, j);
        const float times = shuffle(kFullWarp, weight, j);
        if (from < 0) continue;
        const float* x = a.x + from * a.x_row_stride + column;
        CUDAMOE_UNROLL
        for (int c = 0; c < kColumns; ++c) {
          if (column + c * kWarp < a.width) sums[c] = fma(times, x[c * kWarp], sums[c]);
        }
      }
    }
    float* y = a.y + row * a.y_row_stride + column;
    CUDAMOE_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      if (column + c * kWarp >= a.width) continue;
      const float value = sums[c] * factor;
      y[c * kWarp] = a.accumulate != 0 ? y[c * kWarp] + value : value;
    }
  }
  sync_block();
  if (thread_x() == 0) report_neighbours(matrix);
}

}  // namespace

cudaError_t graph_aggregate(const GraphAggregate& a, cudaStream_t stream) {
  const int64_t tasks = a.matrix.rows * ceil_divide(a.width, int64_t{kSlab});
  if (tasks == 0) return cudaSuccess;
  return launch(graph_shape("graph_aggregate", ceil_divide(tasks, int64_t{kGraphWarps}), stream), graph_aggregate_kernel, a);
}

}  // namespace cudamoe::kernels
