// The gradient of sums over neighbours on the edges' weights: dweights[e] (+)= <dy[r], x[neighbours[e]]>, with mean divided by the number
// of row r's edges; 0 for edges that are left out.
//
// Floor: for each edge a row of x, read at random, 4 bytes of its neighbour and 4 of its gradient; dy read once a row.
// Tiling: 8, 16 or 32 lanes, by the width, for a row, four columns a lane at a time; the grid strides. Four edges are under way at once.
// Accesses of 16 bytes where everything is aligned. No shared memory.
// Order of sums: a lane its columns ascending, then the lanes by a butterfly.
#include "common/warp_sums.cuh"
#include "graph/matrix.cuh"

namespace cudamoe::kernels {
namespace {

template <int kLanes, bool kWhole>
CUDAMOE_KERNEL(kGraphThreads, 4)
graph_edge_gradient_kernel(const CUDAMOE_GRID_CONSTANT GraphEdgeGradient a) {
  constexpr int kGroups = kGraphThreads / kLanes;
  const GraphMatrix& matrix = a.matrix;
  const int lane = lane_id() % kLanes;
  for (int64_t base = int64_t{block_x()} * kGroups; base < matrix.rows; base += int64_t{grid_size_x()} * kGroups) {
    const int64_t row = base + thread_x() / kLanes;
    const GroupEdges edges(matrix, row);
    int good = 0;
    for (int first = 0; matrix.mean != 0 && first < edges.most; first += kLanes)
      good += neighbour_of(matrix, edges.own.begin + first + lane, edges.own.end) >= 0 ? 1 : 0;
    CUDAMOE_UNROLL
    for (int bits = kLanes / 2; bits > 0; bits /= 2) good += shuffle_xor(kFullWarp, good, bits);
    const float factor = row_factor(matrix, good);
    const float* dy = a.dy + row * a.dy_row_stride;
    for (int first = 0; first < edges.most; first += kEdgesAtOnce) {
      const float* x[kEdgesAtOnce];
      float dots[kEdgesAtOnce] = {};
      CUDAMOE_UNROLL
      for (int e = 0; e < kEdgesAtOnce; ++e) {
        const int from = neighbour_of(matrix, edges.own.begin + first + e, edges.own.end);
        x[e] = from >= 0 ? a.x + from * a.x_row_stride : nullptr;
      }
      for (int64_t column = 4 * lane; column < a.width && row < matrix.rows; column += 4 * kLanes) {
        const int64_t left = a.width - column;
        const Quad upper = load_quad<kWhole>(dy + column, left);
        Quad values[kEdgesAtOnce] = {};
        CUDAMOE_UNROLL
        for (int e = 0; e < kEdgesAtOnce; ++e) {
          if (x[e] != nullptr) values[e] = load_quad<kWhole>(x[e] + column, left);
        }
        CUDAMOE_UNROLL
        for (int e = 0; e < kEdgesAtOnce; ++e) {
          if (x[e] == nullptr) continue;
          CUDAMOE_UNROLL
          for (int c = 0; c < 4; ++c) dots[e] = fma(upper[c], values[e][c], dots[e]);
        }
      }
      lane_sums<kLanes>(dots);  // that of edge e is now in lane e
      const int64_t edge = edges.own.begin + first + lane;
      if (lane >= kEdgesAtOnce || edge >= edges.own.end) continue;
      const float sum = factor * dots[0];
      a.dweights[edge] = a.accumulate != 0 ? a.dweights[edge] + sum : sum;
    }
  }
  sync_block();
  if (thread_x() == 0) report_neighbours(matrix);
}

}  // namespace

cudaError_t graph_edge_gradient(const GraphEdgeGradient& a, cudaStream_t stream) {
  if (a.matrix.rows == 0) return cudaSuccess;
  const bool whole = a.width % 4 == 0 && aligned_for<4>(a.x, a.x_row_stride) && aligned_for<4>(a.dy, a.dy_row_stride);
  return for_lanes(a.width, [&]<int kLanes>() {
    const LaunchShape shape = graph_shape("graph_edge_gradient", ceil_divide(a.matrix.rows, int64_t{kGraphThreads / kLanes}), stream);
    return launch(shape, whole ? graph_edge_gradient_kernel<kLanes, true> : graph_edge_gradient_kernel<kLanes, false>, a);
  });
}

}  // namespace cudamoe::kernels
