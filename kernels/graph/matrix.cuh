// What the graph kernels share: the edges of a row, read with care for bad neighbours.
#pragma once

#include "common/first_offender.cuh"
#include "common/kernel.cuh"
#include "graph/graph.h"

namespace cudamoe::kernels {

inline constexpr int kGraphThreads = 256, kGraphWarps = kGraphThreads / kWarp;
inline constexpr int64_t kMostGraphBlocks = 1 << 16;

struct EdgeRange {
  int64_t begin, end;
};

CUDAMOE_DEVICE EdgeRange edges_of(const GraphMatrix& matrix, int64_t row) {
  if (*matrix.bad_offsets != 0) return {0, 0};
  return {matrix.offsets[row], matrix.offsets[row + 1]};
}

// The neighbour of edge `edge` of those before `end`, or -1 when there is none, or a bad one, which is noted.
CUDAMOE_DEVICE int neighbour_of(const GraphMatrix& matrix, int64_t edge, int64_t end) {
  if (edge >= end) return -1;
  const int neighbour = matrix.neighbours[edge];
  if (neighbour >= 0 && neighbour < matrix.columns) return neighbour;
  note_offender(matrix.offender, edge);
  return -1;
}

// What the sums of a row are multiplied by, the same in all lanes of the warp: 1, or 1 / its good edges.
CUDAMOE_DEVICE float row_factor(const GraphMatrix& matrix, EdgeRange edges) {
  if (matrix.mean == 0) return 1;
  int64_t good = 0;
  for (int64_t first = edges.begin; first < edges.end; first += kWarp)
    good += count_ones(ballot(kFullWarp, neighbour_of(matrix, first + lane_id(), edges.end) >= 0));
  return good > 0 ? 1.0f / static_cast<float>(good) : 1.0f;
}

// One thread of every block calls it after the block's last barrier.
CUDAMOE_DEVICE void report_neighbours(const GraphMatrix& matrix) {
  report_offender(matrix.offender, matrix.report, static_cast<uint32_t>(grid_size_x()), [&](int64_t edge) {
    DeviceReport found = {};
    found.code = ReportCode::kGraphNeighbour;
    found.index[0] = matrix.edge_gradient;
    found.index[1] = edge;
    found.index[2] = matrix.neighbours[edge];
    found.index[3] = matrix.columns;
    return found;
  });
}

inline LaunchShape graph_shape(const char* name, int64_t tasks, cudaStream_t stream) {
  return {.name = name,
          .grid = {static_cast<int>(tasks < kMostGraphBlocks ? tasks : kMostGraphBlocks)},
          .block = {kGraphThreads},
          .stream = stream};
}

}  // namespace cudamoe::kernels
