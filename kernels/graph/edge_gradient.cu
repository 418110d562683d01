// The gradient of sums over neighbours on the edges' weights: dweights[e] (+)= <dy[r], x[neighbours[e]]>, with mean divided by the number
// of row r's edges; 0 for edges that are left out.
//
// Floor: for each edge a row of x, read at random, 4 bytes of its neighbour and 4 of its gradient; dy read once a row.
// Tiling: a warp per row, the grid strides; lanes have columns, so each access of the warp is 128 bytes side by side. No shared memory.
// Order of sums: a lane its columns ascending, then the warp's butterfly.
#include "graph/matrix.cuh"

namespace cudamoe::kernels {
namespace {

CUDAMOE_KERNEL(kGraphThreads, 4) graph_edge_gradient_kernel(const CUDAMOE_GRID_CONSTANT GraphEdgeGradient a) {
  const GraphMatrix& matrix = a.matrix;
  const int lane = lane_id();
  for (int64_t row = int64_t{block_x()} * kGraphWarps + warp_id(); row < matrix.rows; row += int64_t{grid_size_x()} * kGraphWarps) {
    const EdgeRange edges = edges_of(matrix, row);
    const float factor = row_factor(matrix, edges);
    const float* dy = a.dy + row * a.dy_row_stride;
    for (int64_t e = edges.begin; e < edges.end; ++e) {
      const int from = neighbour_of(matrix, e, edges.end);
      float sum = 0;
      if (from >= 0) {
        const float* x = a.x + from * a.x_row_stride;
        for (int64_t column = lane; column < a.width; column += kWarp) sum = fma(dy[column], x[column], sum);
      }
      sum = factor * warp_sum(sum);
      if (lane == 0) a.dweights[e] = a.accumulate != 0 ? a.dweights[e] + sum : sum;
    }
  }
  sync_block();
  if (thread_x() == 0) report_neighbours(matrix);
}

}  // namespace

cudaError_t graph_edge_gradient(const GraphEdgeGradient& a, cudaStream_t stream) {
  if (a.matrix.rows == 0) return cudaSuccess;
  return launch(graph_shape("graph_edge_gradient", ceil_divide(a.matrix.rows, int64_t{kGraphWarps}), stream), graph_edge_gradient_kernel,
                a);
}

}  // namespace cudamoe::kernels
