// What the files of the graph family share: a matrix by rows (CSR), read with care for bad data.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/common/first_offender.h"
#include "cpu/device.h"

namespace cudamoe::cpu {

cudamoe_status graph_aggregate(void* stream, const cudamoe_graph_aggregate_args& args);
cudamoe_status graph_edge_gradient(void* stream, const cudamoe_graph_edge_gradient_args& args);
int64_t graph_transpose_workspace(void* stream, const cudamoe_graph_transpose_args& args);
cudamoe_status graph_transpose(void* stream, const cudamoe_graph_transpose_args& args);

struct EdgeRange {
  int64_t begin, end;
};

template <class Args>
EdgeRange edges_of(const Args& args, int64_t row) {
  return {args.offsets[row], args.offsets[row + 1]};
}

template <class Args>
bool good_neighbour(const Args& args, int64_t edge) {
  return args.neighbours[edge] >= 0 && args.neighbours[edge] < args.columns;
}

// Edges of a range with a good neighbour; the first other one is noted.
template <class Args>
int64_t count_neighbours(const Args& args, EdgeRange edges, FirstOffender& bad) {
  int64_t good = 0, first_bad = -1;
  for (int64_t e = edges.begin; e < edges.end; ++e) {
    if (good_neighbour(args, e)) {
      ++good;
    } else if (first_bad < 0) {
      first_bad = e;
    }
  }
  bad.note(first_bad);
  return good;
}

// Whether the offsets ascend from 0 to edges; if not, that is reported. All that follows relies on it.
template <class Args>
bool check_offsets(Stream& stream, const char* function, const Args& args) {
  constexpr int64_t kRows = 1 << 14;
  FirstOffender bad;
  stream.device().for_tiles((args.rows + kRows) / kRows, static_cast<double>(args.rows), [&](int64_t tile) {
    for (int64_t row = tile * kRows; row <= std::min(args.rows, (tile + 1) * kRows - 1); ++row) {
      const int64_t before = row == 0 ? 0 : args.offsets[row - 1], at = args.offsets[row];
      const bool good = at >= before && at <= args.edges && (row > 0 || at == 0) && (row < args.rows || at == args.edges);
      if (!good) {
        bad.note(row);
        return;
      }
    }
  });
  if (bad.index() < 0) return true;
  stream.report("%s: offsets[%lld] is %lld; offsets must ascend from 0 to edges, %lld; the matrix counts as one without edges", function,
                static_cast<long long>(bad.index()), static_cast<long long>(args.offsets[bad.index()]), static_cast<long long>(args.edges));
  return false;
}

template <class Args>
void report_neighbour(Stream& stream, const char* function, const Args& args, const FirstOffender& bad) {
  if (bad.index() < 0) return;
  stream.report("%s: neighbours[%lld] is %d; it must be at least 0 and below columns, %lld; such edges are left out", function,
                static_cast<long long>(bad.index()), args.neighbours[bad.index()], static_cast<long long>(args.columns));
}

// Rows of a tile: about kTileEdges edges when all rows have equally many.
template <class Args>
int64_t rows_of_tile(const Args& args) {
  constexpr int64_t kTileEdges = 2048, kMost = 256;
  return std::clamp<int64_t>(kTileEdges * args.rows / std::max<int64_t>(args.edges, 1), 1, kMost);
}

}  // namespace cudamoe::cpu
