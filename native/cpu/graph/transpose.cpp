// The transposed matrix by a stable counting sort of the edges by neighbour.
//
// Floor: neighbours and weights read twice, the result written once at random. Tiling: the edges in chunks of equal size, each with a
// counter a column: chunks count, a running sum over (column, chunk) gives each chunk its places in each column, chunks place. At most
// kMostChunks, so that counters stay few beside edges. No sums of floating-point numbers.

#include "cpu/graph/graph.h"

namespace cudamoe::cpu {
namespace {

constexpr int64_t kMostChunks = 16;
constexpr double kNanosecondsAnEdge = 5;

struct Chunks {
  explicit Chunks(const cudamoe_graph_transpose_args& args)
      : count(std::clamp<int64_t>(args.edges / std::max<int64_t>(args.columns + 1, 1 << 14), 1, kMostChunks)),
        size((args.edges + count - 1) / count) {}

  EdgeRange edges(int64_t chunk, int64_t all) const { return {std::min(all, chunk * size), std::min(all, (chunk + 1) * size)}; }

  int64_t count, size;
};

// The row of an edge: the last one that begins at or before it and is not empty there.
int64_t row_of_edge(const cudamoe_graph_transpose_args& args, int64_t edge) {
  return std::upper_bound(args.offsets, args.offsets + args.rows + 1, edge) - args.offsets - 1;
}

void count_chunk(const cudamoe_graph_transpose_args& args, EdgeRange edges, int64_t* counts, FirstOffender& bad) {
  std::fill_n(counts, args.columns, int64_t{0});
  int64_t first_bad = -1;
  for (int64_t e = edges.begin; e < edges.end; ++e) {
    if (good_neighbour(args, e)) {
      ++counts[args.neighbours[e]];
    } else if (first_bad < 0) {
      first_bad = e;
    }
  }
  bad.note(first_bad);
}

// `places` holds where the chunk's next edge of each column goes.
void place_chunk(const cudamoe_graph_transpose_args& args, EdgeRange edges, int64_t* places) {
  if (edges.begin >= edges.end) return;
  FirstOffender noted;  // the count has reported them
  for (int64_t row = row_of_edge(args, edges.begin), e = edges.begin; e < edges.end; ++row) {
    const EdgeRange own = edges_of(args, row);
    const int64_t good = args.mean != 0 ? count_neighbours(args, own, noted) : 1;
    const float factor = good > 0 ? 1.0f / static_cast<float>(good) : 0.0f;
    for (; e < std::min(own.end, edges.end); ++e) {
      if (!good_neighbour(args, e)) continue;
      const int64_t place = places[args.neighbours[e]]++;
      args.transposed_neighbours[place] = static_cast<int32_t>(row);
      if (args.transposed_weights != nullptr) args.transposed_weights[place] = factor * (args.weights == nullptr ? 1.0f : args.weights[e]);
    }
  }
}

}  // namespace

int64_t graph_transpose_workspace(void*, const cudamoe_graph_transpose_args& args) {
  return Chunks(args).count * args.columns * static_cast<int64_t>(sizeof(int64_t));
}

cudamoe_status graph_transpose(void* handle, const cudamoe_graph_transpose_args& args) {
  const char* function = "cudamoe_graph_transpose";
  Stream& stream = stream_of(handle);
  Device& device = stream.device();
  const bool good = check_offsets(stream, function, args);
  const Chunks chunks(args);
  auto* counts = static_cast<int64_t*>(args.workspace);  // [chunks][columns]
  const double cost = kNanosecondsAnEdge * static_cast<double>(args.edges + chunks.count * args.columns);
  FirstOffender bad;
  device.for_tiles(chunks.count, cost, [&](int64_t chunk) {
    count_chunk(args, good ? chunks.edges(chunk, args.edges) : EdgeRange{0, 0}, counts + chunk * args.columns, bad);
  });
  int64_t place = 0;
  for (int64_t column = 0; column < args.columns; ++column) {
    args.transposed_offsets[column] = place;
    for (int64_t chunk = 0; chunk < chunks.count; ++chunk) {
      int64_t& count = counts[chunk * args.columns + column];
      place += count;
      count = place - count;
    }
  }
  args.transposed_offsets[args.columns] = place;
  if (good) {
    device.for_tiles(chunks.count, cost,
                     [&](int64_t chunk) { place_chunk(args, chunks.edges(chunk, args.edges), counts + chunk * args.columns); });
  }
  std::fill(args.transposed_neighbours + place, args.transposed_neighbours + args.edges, -1);
  if (args.transposed_weights != nullptr) std::fill(args.transposed_weights + place, args.transposed_weights + args.edges, 0.0f);
  report_neighbour(stream, function, args, bad);
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
