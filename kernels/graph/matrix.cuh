// What the graph kernels share: the edges of a row, read with care for bad neighbours.
#pragma once

#include "common/first_offender.cuh"
#include "common/kernel.cuh"
#include "common/quad.cuh"
#include "graph/graph.h"

namespace cudamoe::kernels {

inline constexpr int kGraphThreads = 256, kGraphWarps = kGraphThreads / kWarp;
inline constexpr int64_t kMostGraphBlocks = 1 << 13;

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

// Edges that a group of lanes handles at once.
inline constexpr int kEdgesAtOnce = 4;

// The edges of the row of a group of kLanes lanes, none where there is no row, and the most that a group of the warp has: all groups take
// as many turns.
struct GroupEdges {
  EdgeRange own;
  int most;

  CUDAMOE_DEVICE GroupEdges(const GraphMatrix& matrix, int64_t row) : own{0, 0} {
    if (row < matrix.rows) own = edges_of(matrix, row);
    const int64_t count = own.end - own.begin;
    most = static_cast<int>(reduce_max(kFullWarp, static_cast<uint32_t>(count < INT32_MAX ? count : INT32_MAX)));
  }
};

// What the sums of a row with `good` edges are multiplied by: 1, or 1 / good.
CUDAMOE_DEVICE float row_factor(const GraphMatrix& matrix, int good) {
  return matrix.mean != 0 && good > 0 ? 1.0f / static_cast<float>(good) : 1.0f;
}

// Calls use.template operator()<kLanes>() for the lanes that hold a row of `width` columns, four each; 32 for wider rows.
template <class Use>
cudaError_t for_lanes(int64_t width, Use&& use) {
  if (width <= 32) return use.template operator()<8>();
  if (width <= 64) return use.template operator()<16>();
  return use.template operator()<32>();
}

// One thread of every block calls it after the block's last barrier.
CUDAMOE_DEVICE void report_neighbours(const GraphMatrix& matrix) {
  report_offender(matrix.offender, matrix.report, static_cast<uint32_t>(grid_size_x()), [&](int64_t edge) {
    DeviceReport found = {};
    found.code = ReportCode::kGraphNeighbour;
    found.index[0] = static_cast<int64_t>(matrix.function);
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
