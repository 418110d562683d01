// The kernels of the graph family, as the host launches them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/report.cuh"

namespace cudamoe::kernels {

// The function that reports name.
enum class GraphFunction : int32_t { kAggregate, kEdgeGradient, kTranspose };

// A matrix by rows (CSR): edge e of row r, offsets[r] <= e < offsets[r + 1], leads to row neighbours[e] of x.
struct GraphMatrix {
  int64_t rows, columns, edges;
  const int64_t* offsets;
  const int32_t* neighbours;
  int32_t mean;
  GraphFunction function;
  int32_t* bad_offsets;  // not 0: they do not ascend from 0 to edges
  OffenderCell* offender;
  DeviceReport* report;
};

// Sets *bad_offsets and reports the first offender. All that follows relies on it.
cudaError_t graph_check_offsets(const GraphMatrix& matrix, cudaStream_t stream);

struct GraphAggregate {
  GraphMatrix matrix;
  int64_t width;
  const float* weights;  // [edges] or null
  const float* x;
  int64_t x_row_stride;
  float* y;
  int64_t y_row_stride;
  int32_t accumulate;
};
cudaError_t graph_aggregate(const GraphAggregate& aggregate, cudaStream_t stream);

struct GraphEdgeGradient {
  GraphMatrix matrix;
  int64_t width;
  const float* x;
  const float* dy;
  int64_t x_row_stride, dy_row_stride;
  float* dweights;
  int32_t accumulate;
};
cudaError_t graph_edge_gradient(const GraphEdgeGradient& gradient, cudaStream_t stream);

struct GraphTranspose {
  GraphMatrix matrix;
  const float* weights;    // [edges] or null
  uint64_t* keys;          // [edges]: neighbour << 32 | edge
  uint32_t* edges_of_row;  // [rows], zero before; with mean only
  int64_t* transposed_offsets;
  int32_t* transposed_neighbours;
  float* transposed_weights;  // or null
};
// The keys, and the edges of each row that are not left out.
cudaError_t graph_keys(const GraphTranspose& transpose, cudaStream_t stream);
// The results, from the sorted keys.
cudaError_t graph_places(const GraphTranspose& transpose, cudaStream_t stream);

}  // namespace cudamoe::kernels
