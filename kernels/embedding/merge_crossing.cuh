// The second half of merging (merge.cuh): rows that begin in a tile and go on into later ones, from the partial sums of the tiles.
//
// Floor: a partial sum per tile and row; what the rule reads and writes of each row once.
// Tiling: a block of 128 threads per 32 tiles, a thread of its first warp for each to find how far the tile's last row goes. A row of at
// most kFewTiles tiles is summed by a group of lanes; a longer one by all groups of the block. Shared memory: 2.5 KiB.
// Order of sums: of few tiles ascending; of more those of group g are g, g + groups, ... ascending, then the groups of a warp by a
// butterfly, then the warps ascending.
#pragma once

#include "embedding/merge.cuh"

namespace cudamoe::kernels {

inline constexpr int kFewTiles = 8;
inline constexpr int kCrossingTiles = kWarp;

struct CrossingRow {
  int32_t table;
  uint32_t row;
  int32_t tiles;  // behind the first; 0: no row begins in the tile and goes on
};

CUDAMOE_DEVICE CrossingRow crossing_row(const MergePlan& plan, int tile) {
  CrossingRow none = {};
  if (tile >= plan.tiles) return none;
  const auto t =
      static_cast<int>(last_at_most(0, plan.plan.table_count - 1, tile, [&](int64_t i) { return plan.plan.tables[i].first_merge_tile; }));
  const PlanTable& table = plan.plan.tables[t];
  const int64_t index = tile - table.first_merge_tile, first = index * plan.tile, next = first + plan.tile;
  if (next >= table.lookups) return none;
  const uint64_t* keys = plan.keys + table.first_lookup;
  const int64_t row = row_of_key(keys[next]);
  if (row >= table.rows || row_of_key(keys[next - 1]) != row) return none;
  if (first > 0 && row_of_key(keys[first - 1]) == row) return none;
  const int64_t tiles = ceil_divide<int64_t>(table.lookups, plan.tile);
  const int64_t last = last_at_most(index + 1, tiles - 1, row, [&](int64_t i) { return row_of_key(keys[i * plan.tile]); });
  return {t, static_cast<uint32_t>(row), static_cast<int32_t>(last - index)};
}

template <class Rule>
CUDAMOE_KERNEL(kMergeThreads, 5)
merge_crossing_kernel(const CUDAMOE_GRID_CONSTANT MergePlan plan, const CUDAMOE_GRID_CONSTANT Rule rule) {
  CUDAMOE_SHARED_ALIGNED(16, float, sums, [kMergeThreads * kLaneElements]);
  CUDAMOE_SHARED(int32_t, tables, [kCrossingTiles]);
  CUDAMOE_SHARED(uint32_t, rows, [kCrossingTiles]);
  CUDAMOE_SHARED(int32_t, spans, [kCrossingTiles]);
  if (rule.idle()) return;
  const int first = block_x() * kCrossingTiles;
  if (thread_x() < kCrossingTiles) {
    const CrossingRow row = crossing_row(plan, first + thread_x());
    tables[thread_x()] = row.table;
    rows[thread_x()] = row.row;
    spans[thread_x()] = row.tiles;
  }
  sync_block();
  const int lanes = 1 << plan.lane_bits, groups = kMergeThreads >> plan.lane_bits;
  const int group = thread_x() >> plan.lane_bits, lane = thread_x() & (lanes - 1);

  // Partial sums begin, begin + step, ... of the row that begins in a tile.
  const auto sum_partials = [&](int tile, int begin, int step, int span, int column, int dim) {
    LaneVector sum = {};
    if (column >= dim) return sum;
    const float* partials = plan.partials + 2 * int64_t{tile} * plan.partial_stride + column;
    for (int i = begin; i <= span; i += kMergeInFlight * step) {
      LaneVector part[kMergeInFlight];
      CUDAMOE_UNROLL
      for (int r = 0; r < kMergeInFlight; ++r) {
        const int at = i + r * step;
        part[r] = {};
        if (at <= span) part[r] = load<kLaneElements>(partials + (at == 0 ? 1 : 2 * int64_t{at}) * plan.partial_stride);
      }
      CUDAMOE_UNROLL
      for (int r = 0; r < kMergeInFlight; ++r) {
        if (i + r * step <= span) add(sum, part[r]);
      }
    }
    return sum;
  };
  const int columns = static_cast<int>(ceil_divide<int64_t>(plan.partial_stride, lanes * kLaneElements));
  const int group_rounds = ceil_divide(kCrossingTiles, groups);
  for (int round = 0; round < group_rounds + kCrossingTiles; ++round) {
    const bool whole_block = round >= group_rounds;
    const int i = whole_block ? round - group_rounds : round * groups + group;
    int span = i < kCrossingTiles ? int32_t{spans[i]} : 0;
    if (whole_block && span <= kFewTiles) continue;
    if (!whole_block && span > kFewTiles) span = 0;
    const int t = span > 0 ? int32_t{tables[i]} : 0;
    const MergedTable table = merged_table<false>(plan.plan.tables[t], t);
    MergedRow<Rule::kCached> row{table, 0, 0};
    if (span > 0) {
      row.row = int64_t{rows[i]};
      row.locate(plan.plan);
      row.rank = rule.first_rank(first + i + 1) - 1;
    }
    const int begin = whole_block ? group : 0, step = whole_block ? groups : 1;
    finish_row<false>(rule, row, {span > 0, !whole_block || group == 0, nullptr, table.dim, columns, lane, lanes}, [&](int column) {
      LaneVector sum = {};
      if (span > 0) sum = sum_partials(first + i, begin, step, span, column, table.dim);
      if (!whole_block) return sum;
      return sum_of_block(sums, sum_of_warp(sum, lanes));
    });
  }
}

template <class Rule>
cudaError_t launch_merge(const char* name, const MergePlan& plan, const Rule& rule, cudaStream_t stream) {
  const auto shape = [&](int blocks) { return LaunchShape{.name = name, .grid = {blocks}, .block = {kMergeThreads}, .stream = stream}; };
  auto tiles_kernel = merge_tiles_kernel<Rule, false>;
  if constexpr (!Rule::kCached) {
    if (plan.plain) tiles_kernel = merge_tiles_kernel<Rule, true>;
  }
  const cudaError_t error = launch(shape(plan.tiles), tiles_kernel, plan, rule);
  if (error != cudaSuccess) return error;
  return launch(shape(ceil_divide(plan.tiles, kCrossingTiles)), merge_crossing_kernel<Rule>, plan, rule);
}

}  // namespace cudamoe::kernels
