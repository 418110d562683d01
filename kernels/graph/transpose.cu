// The transposed matrix: a stable sort of the edges by neighbour, least significant digit first (embedding/sort.cu), and what comes of it.
//
//   keys      key[e] = neighbours[e] << 32 | e, `columns` in place of a bad neighbour; with mean the good edges of each row are counted
//   places    the edge e at place p of the sorted keys: neighbours'[p] = row of e, weights'[p] = weights[e], divided by its row's edges
//   offsets   offsets'[c] = the keys below column c
//
// Floor: 8 bytes an edge read and 8 written, 8 bytes a row read and a column written; the sort moves 24 bytes an edge and pass beside it.
// Tiling: a thread an edge, then a thread a column; grids stride. The row of an edge and the first key of a column are found by bisection,
// which neighbouring threads do side by side. No shared memory. All sums are of integers: the order of the additions cannot be seen.
#include "common/atomic.cuh"
#include "embedding/search.cuh"
#include "graph/matrix.cuh"

namespace cudamoe::kernels {
namespace {

// The row of an edge: the last one that begins at or before it.
CUDAMOE_DEVICE int64_t row_of_edge(const GraphMatrix& matrix, int64_t edge) {
  return last_at_most(0, matrix.rows - 1, edge, [&](int64_t row) { return matrix.offsets[row]; });
}

CUDAMOE_KERNEL(kGraphThreads, 4) graph_keys_kernel(const CUDAMOE_GRID_CONSTANT GraphTranspose t) {
  const GraphMatrix& matrix = t.matrix;
  const int64_t good_edges = *matrix.bad_offsets != 0 ? 0 : matrix.edges;
  for (int64_t edge = int64_t{block_x()} * kGraphThreads + thread_x(); edge < matrix.edges;
       edge += int64_t{grid_size_x()} * kGraphThreads) {
    const int neighbour = neighbour_of(matrix, edge, good_edges);
    const auto column = static_cast<uint64_t>(neighbour < 0 ? matrix.columns : neighbour);
    t.keys[edge] = column << 32 | static_cast<uint32_t>(edge);
    if (neighbour >= 0 && matrix.mean != 0) atomic_add(&t.edges_of_row[row_of_edge(matrix, edge)], 1u);
  }
  sync_block();
  if (thread_x() == 0) report_neighbours(matrix);
}

CUDAMOE_KERNEL(kGraphThreads, 4) graph_places_kernel(const CUDAMOE_GRID_CONSTANT GraphTranspose t) {
  const GraphMatrix& matrix = t.matrix;
  for (int64_t place = int64_t{block_x()} * kGraphThreads + thread_x(); place < matrix.edges;
       place += int64_t{grid_size_x()} * kGraphThreads) {
    const uint64_t key = t.keys[place];
    const bool good = static_cast<int64_t>(key >> 32) < matrix.columns;
    const int64_t edge = static_cast<uint32_t>(key), row = good ? row_of_edge(matrix, edge) : -1;
    t.transposed_neighbours[place] = static_cast<int32_t>(row);
    if (t.transposed_weights == nullptr) continue;
    float weight = 0;
    if (good) {
      const float factor = matrix.mean != 0 ? row_factor(matrix, static_cast<int>(t.edges_of_row[row])) : 1.0f;
      weight = factor * (t.weights == nullptr ? 1.0f : t.weights[edge]);
    }
    t.transposed_weights[place] = weight;
  }
}

CUDAMOE_KERNEL(kGraphThreads, 4) graph_columns_kernel(const CUDAMOE_GRID_CONSTANT GraphTranspose t) {
  for (int64_t column = int64_t{block_x()} * kGraphThreads + thread_x(); column <= t.matrix.columns;
       column += int64_t{grid_size_x()} * kGraphThreads)
    t.transposed_offsets[column] =
        1 + last_at_most(-1, t.matrix.edges - 1, column - 1, [&](int64_t place) { return static_cast<int64_t>(t.keys[place] >> 32); });
}

LaunchShape shape_of(const char* name, int64_t items, cudaStream_t stream) {
  return graph_shape(name, ceil_divide(items, int64_t{kGraphThreads}), stream);
}

}  // namespace

cudaError_t graph_keys(const GraphTranspose& transpose, cudaStream_t stream) {
  if (transpose.matrix.edges == 0) return cudaSuccess;
  return launch(shape_of("graph_keys", transpose.matrix.edges, stream), graph_keys_kernel, transpose);
}

cudaError_t graph_places(const GraphTranspose& transpose, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  if (transpose.matrix.edges > 0) error = launch(shape_of("graph_places", transpose.matrix.edges, stream), graph_places_kernel, transpose);
  if (error != cudaSuccess) return error;
  return launch(shape_of("graph_columns", transpose.matrix.columns + 1, stream), graph_columns_kernel, transpose);
}

}  // namespace cudamoe::kernels
