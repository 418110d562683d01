// Sums over neighbours, and their gradient on the edges' weights.
//
//   y[r] (+)= sum over the edges e of row r of weights[e] x[neighbours[e]]            (mean: divided by the number of the row's edges)
//   dweights[e] (+)= <dy[r], x[neighbours[e]]>                                       (the same)
//
// Floor: for each edge a row of x, read at random, 4 bytes of its neighbour and 4 of its weight; y written once, or dy read once.
// Tiling: tiles of rows with about 2048 edges in the mean; up to eight vectors of a row at a time in registers. The rows of edges to come
// are asked for ahead.
// Order of sums: edges ascending, one accumulator a column; the products of an edge by lanes in two accumulators, then the lanes.
#include "cpu/graph/graph.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/graph/aggregate.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/common/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

// Asks for the row of the edge that comes some edges later, or nothing behind the last edge.
template <class Args>
HWY_INLINE void ask_ahead(const Args& args, int64_t edge, int64_t column, int64_t width) {
  constexpr int64_t kAhead = 12, kMostBytes = 512;
  if (edge + kAhead >= args.edges || !good_neighbour(args, edge + kAhead)) return;
  const auto* row = reinterpret_cast<const char*>(args.x + args.neighbours[edge + kAhead] * args.x_row_stride + column);
  for (int64_t i = 0; i < std::min<int64_t>(width * 4, kMostBytes); i += 64) __builtin_prefetch(row + i);
}

// kVectors vectors of a row of y from column on, the last one of them with `last` lanes.
template <int kVectors>
HWY_INLINE void aggregate_columns(const cudamoe_graph_aggregate_args& args, EdgeRange edges, int64_t column, int64_t last, float factor,
                                  float* y) {
  const F32 d;
  VecF32 sums[kVectors];
  for (VecF32& sum : sums) sum = hn::Zero(d);
  for (int64_t e = edges.begin; e < edges.end; ++e) {
    ask_ahead(args, e, column, kVectors * kLanes);
    if (!good_neighbour(args, e)) continue;
    const float* x = args.x + args.neighbours[e] * args.x_row_stride + column;
    const VecF32 weight = hn::Set(d, args.weights == nullptr ? 1.0f : args.weights[e]);
    for (int v = 0; v < kVectors - 1; ++v) sums[v] = hn::MulAdd(weight, hn::LoadU(d, x + v * kLanes), sums[v]);
    sums[kVectors - 1] = hn::MulAdd(weight, load_first(d, x + (kVectors - 1) * kLanes, last), sums[kVectors - 1]);
  }
  for (int v = 0; v < kVectors; ++v) {
    float* to = y + column + v * kLanes;
    const int64_t lanes = v < kVectors - 1 ? kLanes : last;
    const VecF32 value = hn::Mul(sums[v], hn::Set(d, factor));
    store_first(d, args.accumulate != 0 ? hn::Add(load_first(d, to, lanes), value) : value, to, lanes);
  }
}

void aggregate_rows(const cudamoe_graph_aggregate_args& args, bool edges_are_good, int64_t first, int64_t rows, FirstOffender& bad) {
  for (int64_t row = first; row < first + rows; ++row) {
    const EdgeRange edges = edges_are_good ? edges_of(args, row) : EdgeRange{0, 0};
    const int64_t good = count_neighbours(args, edges, bad);
    const float factor = args.mean != 0 && good > 0 ? 1.0f / static_cast<float>(good) : 1.0f;
    float* y = args.y + row * args.y_row_stride;
    for (int64_t column = 0; column < args.width; column += 8 * kLanes) {
      const int64_t left = args.width - column, vectors = std::min<int64_t>(8, (left + kLanes - 1) / kLanes);
      const int64_t last = std::min<int64_t>(kLanes, left - (vectors - 1) * kLanes);
      switch (vectors) {
        case 1:
          aggregate_columns<1>(args, edges, column, last, factor, y);
          break;
        case 2:
          aggregate_columns<2>(args, edges, column, last, factor, y);
          break;
        case 3:
          aggregate_columns<3>(args, edges, column, last, factor, y);
          break;
        case 4:
          aggregate_columns<4>(args, edges, column, last, factor, y);
          break;
        case 5:
          aggregate_columns<5>(args, edges, column, last, factor, y);
          break;
        case 6:
          aggregate_columns<6>(args, edges, column, last, factor, y);
          break;
        case 7:
          aggregate_columns<7>(args, edges, column, last, factor, y);
          break;
        default:
          aggregate_columns<8>(args, edges, column, last, factor, y);
      }
    }
  }
}

HWY_INLINE float dot(const float* a, const float* b, int64_t width) {
  const F32 d;
  VecF32 first = hn::Zero(d), second = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * kLanes <= width; i += 2 * kLanes) {
    first = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), first);
    second = hn::MulAdd(hn::LoadU(d, a + i + kLanes), hn::LoadU(d, b + i + kLanes), second);
  }
  for (; i < width; i += kLanes) {
    const int64_t lanes = std::min<int64_t>(kLanes, width - i);
    first = hn::MulAdd(load_first(d, a + i, lanes), load_first(d, b + i, lanes), first);
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(first, second)));
}

void gradient_of_edges(const cudamoe_graph_edge_gradient_args& args, int64_t first, int64_t rows, FirstOffender& bad) {
  for (int64_t row = first; row < first + rows; ++row) {
    const EdgeRange edges = edges_of(args, row);
    const int64_t good = count_neighbours(args, edges, bad);
    const float factor = args.mean != 0 && good > 0 ? 1.0f / static_cast<float>(good) : 1.0f;
    const float* dy = args.dy + row * args.dy_row_stride;
    for (int64_t e = edges.begin; e < edges.end; ++e) {
      ask_ahead(args, e, 0, args.width);
      const float value = good_neighbour(args, e) ? factor * dot(dy, args.x + args.neighbours[e] * args.x_row_stride, args.width) : 0.0f;
      args.dweights[e] = args.accumulate != 0 ? args.dweights[e] + value : value;
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace cudamoe::cpu {

HWY_EXPORT(aggregate_rows);
HWY_EXPORT(gradient_of_edges);

namespace {

// Nanoseconds, in the mean, of an edge and of a column of it.
template <class Args>
double edge_cost(const Args& args) {
  return static_cast<double>(args.edges) * (5 + 0.1 * static_cast<double>(args.width)) + static_cast<double>(args.rows);
}

}  // namespace

cudamoe_status graph_aggregate(void* handle, const cudamoe_graph_aggregate_args& args) {
  const char* function = "cudamoe_graph_aggregate";
  Stream& stream = stream_of(handle);
  const bool good = check_offsets(stream, function, args);
  const int64_t rows = rows_of_tile(args);
  FirstOffender bad;
  stream.device().for_tiles((args.rows + rows - 1) / rows, edge_cost(args), [&](int64_t tile) {
    HWY_DYNAMIC_DISPATCH(aggregate_rows)(args, good, tile * rows, std::min(rows, args.rows - tile * rows), bad);
  });
  report_neighbour(stream, function, args, bad);
  return CUDAMOE_OK;
}

cudamoe_status graph_edge_gradient(void* handle, const cudamoe_graph_edge_gradient_args& args) {
  const char* function = "cudamoe_graph_edge_gradient";
  Stream& stream = stream_of(handle);
  if (!check_offsets(stream, function, args)) {
    if (args.accumulate == 0) std::fill_n(args.dweights, args.edges, 0.0f);
    return CUDAMOE_OK;
  }
  const int64_t rows = rows_of_tile(args);
  FirstOffender bad;
  stream.device().for_tiles((args.rows + rows - 1) / rows, edge_cost(args), [&](int64_t tile) {
    HWY_DYNAMIC_DISPATCH(gradient_of_edges)(args, tile * rows, std::min(rows, args.rows - tile * rows), bad);
  });
  report_neighbour(stream, function, args, bad);
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu

#endif  // HWY_ONCE
