// Sums over neighbours: y[r] (+)= sum over the edges e of row r of weights[e] x[neighbours[e]], with mean divided by their number.
//
// Floor: for each edge a row of x, read at random, and 8 bytes of its neighbour and weight; y written once.
// Tiling: 8, 16 or 32 lanes, by the width, for a row and up to 128 columns, four columns a lane; the grid strides over both. Neighbours and
// weights of as many edges as lanes are read at once and handed round; four rows of x are under way at a time. Accesses of 16 bytes where
// everything is aligned. No shared memory. Order of sums: edges ascending.
#include "graph/matrix.cuh"

namespace cudamoe::kernels {
namespace {

template <int kLanes, bool kWhole>
CUDAMOE_KERNEL(kGraphThreads, 4)
graph_aggregate_kernel(const CUDAMOE_GRID_CONSTANT GraphAggregate a) {
  constexpr int kSlab = 4 * kLanes, kGroups = kGraphThreads / kLanes;
  const GraphMatrix& matrix = a.matrix;
  const int lane = lane_id() % kLanes;
  const int64_t slabs = ceil_divide(a.width, int64_t{kSlab}), tasks = matrix.rows * slabs;
  for (int64_t base = int64_t{block_x()} * kGroups; base < tasks; base += int64_t{grid_size_x()} * kGroups) {
    const int64_t task = base + thread_x() / kLanes;
    const int64_t row = slabs == 1 ? task : task / slabs, column = (task - row * slabs) * kSlab + 4 * lane, left = a.width - column;
    const GroupEdges edges(matrix, row);
    Quad sums = {};
    int good = 0;
    for (int first = 0; first < edges.most; first += kLanes) {
      const int64_t edge = edges.own.begin + first + lane;
      const int neighbour = neighbour_of(matrix, edge, edges.own.end);
      const float weight = neighbour >= 0 && a.weights != nullptr ? a.weights[edge] : 1.0f;
      good += neighbour >= 0 ? 1 : 0;
      for (int j = 0; j < kLanes && first + j < edges.most; j += kEdgesAtOnce) {
        int from[kEdgesAtOnce];
        float times[kEdgesAtOnce];
        Quad x[kEdgesAtOnce] = {};
        CUDAMOE_UNROLL
        for (int e = 0; e < kEdgesAtOnce; ++e) {
          from[e] = shuffle(kFullWarp, neighbour, j + e, kLanes);
          times[e] = shuffle(kFullWarp, weight, j + e, kLanes);
          if (from[e] >= 0) x[e] = load_quad<kWhole>(a.x + from[e] * a.x_row_stride + column, left);
        }
        CUDAMOE_UNROLL
        for (int e = 0; e < kEdgesAtOnce; ++e) {
          if (from[e] < 0) continue;
          CUDAMOE_UNROLL
          for (int c = 0; c < 4; ++c) sums[c] = fma(times[e], x[e][c], sums[c]);
        }
      }
    }
    CUDAMOE_UNROLL
    for (int bits = kLanes / 2; bits > 0; bits /= 2) good += shuffle_xor(kFullWarp, good, bits);
    if (row >= matrix.rows) continue;
    const float factor = row_factor(matrix, good);
    float* y = a.y + row * a.y_row_stride + column;
    const Quad before = load_quad<kWhole>(y, a.accumulate != 0 ? left : 0);
    CUDAMOE_UNROLL
    for (int c = 0; c < 4; ++c) sums[c] = a.accumulate != 0 ? before[c] + sums[c] * factor : sums[c] * factor;
    store_quad<kWhole>(y, sums, left);
  }
  sync_block();
  if (thread_x() == 0) report_neighbours(matrix);
}

}  // namespace

cudaError_t graph_aggregate(const GraphAggregate& a, cudaStream_t stream) {
  if (a.matrix.rows == 0 || a.width == 0) return cudaSuccess;
  const bool whole = a.width % 4 == 0 && aligned_for<4>(a.x, a.x_row_stride) && aligned_for<4>(a.y, a.y_row_stride);
  return for_lanes(a.width, [&]<int kLanes>() {
    const int64_t tasks = a.matrix.rows * ceil_divide(a.width, int64_t{4 * kLanes});
    const LaunchShape shape = graph_shape("graph_aggregate", ceil_divide(tasks, int64_t{kGraphThreads / kLanes}), stream);
    return launch(shape, whole ? graph_aggregate_kernel<kLanes, true> : graph_aggregate_kernel<kLanes, false>, a);
  });
}

}  // namespace cudamoe::kernels
