// Merging: the gradient of a row is the sum of the gradients of its look-ups, which stand side by side in the sorted keys:
//   sum[j] = sum over its look-ups i of weight_i * gradient[bag_i, column_i + j],  weight_i = 1, or 1 / |bag_i| for a mean
// What becomes of a row's sum is a Rule: an optimiser's step (update.cu), or a place in the output (gradient.cu).
//
// Floor: a key (8 bytes) and a gradient row per look-up; what the rule reads and writes of each row once.
// Tiling: a block of 256 threads per tile of 64 to 1024 keys (embedding_merge_tile). Its threads find where the gradient of each key lies,
// so that the sums wait for nothing but gradients. A row of at most kShortRun keys is summed by a group of 1 to 32 lanes, four elements a
// lane, four rows in flight; a longer one by all groups of the block. The sums of a row that goes on into the next tile, or from the tile
// before, go to `partials`, and a second kernel, a block a tile, sums those of the rows that begin in its tile and go on.
// Shared memory: 28 KiB of keys and row starts, 4 KiB of sums.
// Order of sums: of a short row look-ups ascending; of a longer one those of group g are g, g + groups, ... ascending, then the groups in
// a fixed tree by halves; partials of a row likewise. Which it is follows from the keys alone, so update and gradient agree bit for bit.
#pragma once

#include "common/block_scan.cuh"
#include "common/kernel.cuh"
#include "embedding/embedding.h"
#include "embedding/search.cuh"

namespace cudamoe::kernels {

inline constexpr int kShortRun = 32;
inline constexpr int kLaneElements = 4;  // of a row, a lane at a time
inline constexpr int kMergeInFlight = 4;

using LaneVector = Vector<float, kLaneElements>;

CUDAMOE_DEVICE int64_t row_of_key(uint64_t key) { return static_cast<int64_t>(key >> 32); }

// Elements p[0 .. n-1], zeros behind them.
CUDAMOE_DEVICE LaneVector load_lane(const float* p, int n) {
  if (n >= kLaneElements && aligned_for<kLaneElements>(p)) return load<kLaneElements>(p);
  LaneVector v = {};
  CUDAMOE_UNROLL
  for (int j = 0; j < kLaneElements; ++j) {
    if (j < n) v[j] = p[j];
  }
  return v;
}

CUDAMOE_DEVICE void store_lane(float* p, const LaneVector& v, int n) {
  if (n >= kLaneElements && aligned_for<kLaneElements>(p)) return store(p, v);
  CUDAMOE_UNROLL
  for (int j = 0; j < kLaneElements; ++j) {
    if (j < n) p[j] = v[j];
  }
}

// A row whose gradient is being merged.
struct MergedRow {
  const MergeTable* table;
  int32_t table_in_group;
  int64_t row;    // in the table
  uint32_t rank;  // among all rows of the group; only for rules that ask for it
};

CUDAMOE_DEVICE int table_of_row(const MergePlan& plan, int64_t row) {
  return static_cast<int>(last_at_most(0, plan.table_count - 1, row, [&](int64_t t) { return plan.tables[t].first_row; }));
}

CUDAMOE_DEVICE MergedRow merged_row(const MergePlan& plan, int table, int64_t row, uint32_t rank) {
  return {&plan.tables[table], table, row - plan.tables[table].first_row, rank};
}

// Gives a row to the rule. All lanes of a warp call it; `dim` is 0 for those that have no row. `sum(column)` is the merged gradient at four
// elements, zeros behind the row's end; of several lanes that hold the same columns one `writes`.
//
// Row-wise rules need the whole row before its first element moves. Rows of up to 128 elements stay in registers; of longer ones the
// sums are taken again.
template <class Rule, class Sum>
CUDAMOE_DEVICE void finish_row(const Rule& rule, const MergedRow& row, int dim, bool writes, int lane, int lanes, Sum&& sum) {
  const int column = lane * kLaneElements, step = lanes * kLaneElements;
  const bool mine = writes && column < dim;
  typename Rule::Elements elements = {};
  if (mine) elements = rule.load(row, column, dim - column);
  LaneVector first = {};
  if (dim > 0) first = sum(column);
  float rate = 0;
  if constexpr (Rule::kRowWise) {
    float squares = rule.squares(first);
    for (int c = step; c < dim; c += step) squares += rule.squares(sum(column + c));
    for (int bits = lanes / 2; bits > 0; bits /= 2) squares += shuffle_xor(kFullWarp, squares, bits);
    if (mine && lane == 0) rate = rule.begin_row(row, squares / static_cast<float>(dim));
    rate = shuffle(kFullWarp, rate, 0, lanes);
  }
  if (mine) rule.apply(row, column, dim - column, elements, first, rate);
  for (int c = step; c < dim; c += step) {
    const LaneVector more = sum(column + c);
    if (writes && column + c < dim) rule.apply(row, column + c, dim - column - c, rule.load(row, column + c, dim - column - c), more, rate);
  }
}

// The sum over the groups of a block, in group 0: halves of the groups are added until one is left. All threads call it.
CUDAMOE_DEVICE LaneVector sum_of_groups(Shared<float> sums, LaneVector value, int lanes) {
  const int group = thread_x() / lanes;
  const Shared<float> own = sums + thread_x() * kLaneElements;
  store(own, value);
  sync_block();
  for (int half = kEmbeddingThreads / lanes / 2; half > 0; half /= 2) {
    if (group < half) {
      const LaneVector other = load<kLaneElements>(own + half * lanes * kLaneElements);
      CUDAMOE_UNROLL
      for (int j = 0; j < kLaneElements; ++j) value[j] += other[j];
      store(own, value);
    }
    sync_block();
  }
  return value;
}

template <class Rule>
CUDAMOE_KERNEL(kEmbeddingThreads, 3)
merge_tiles_kernel(const CUDAMOE_GRID_CONSTANT MergePlan plan, const CUDAMOE_GRID_CONSTANT Rule rule) {
  CUDAMOE_SHARED(uint32_t, rows, [kMaxMergeTile]);
  CUDAMOE_SHARED(int32_t, tables, [kMaxMergeTile]);
  CUDAMOE_SHARED(int64_t, places, [kMaxMergeTile]);      // of the gradient row of a key
  CUDAMOE_SHARED(float, weights, [kMaxMergeTile]);       // of it
  CUDAMOE_SHARED(int32_t, starts, [kMaxMergeTile + 1]);  // of the rows
  CUDAMOE_SHARED(int32_t, long_rows, [kMaxMergeTile / kShortRun]);
  CUDAMOE_SHARED(int32_t, widest);
  CUDAMOE_SHARED_ALIGNED(16, float, sums, [kEmbeddingThreads * kLaneElements]);
  if (rule.idle()) return;
  const int64_t tile = block_x(), first = tile * plan.tile;
  const int most = plan.key_count - first < plan.tile ? static_cast<int>(plan.key_count - first) : plan.tile;

  // The keys; those left out stand at the end.
  if (thread_x() == 0) widest[0] = 1;
  sync_block();
  int count = 0;
  for (int base = 0; base < most; base += kEmbeddingThreads) {
    const int i = base + thread_x();
    const uint64_t key = i < most ? plan.keys[first + i] : ~uint64_t{0};
    const bool counted = i < most && row_of_key(key) < plan.sentinel;
    int lanes_of_key = 1;
    if (counted) {
      const int t = table_of_row(plan, row_of_key(key));
      const MergeTable& table = plan.tables[t];
      const auto slot = static_cast<uint32_t>(key);
      const KeyFeature& feature = plan.features[table.first_feature + static_cast<int>(static_cast<uint64_t>(slot) >> plan.bag_bits)];
      const int64_t bag = slot & ((1u << plan.bag_bits) - 1);
      const EmbeddingBags& bags = feature.bags;
      float weight = 1;
      if (bags.mean != 0) {
        const int32_t size =
            bags.offsets != nullptr ? load_constant(bags.offsets + bag + 1) - load_constant(bags.offsets + bag) : bags.bag_size;
        weight = 1.0f / static_cast<float>(size);
      }
      rows[i] = static_cast<uint32_t>(row_of_key(key));
      tables[i] = t;
      places[i] = bag * plan.gradient_row_stride + feature.column;
      weights[i] = weight;
      lanes_of_key = table.lanes;
    }
    const auto lanes_of_warp = static_cast<int32_t>(reduce_max(kFullWarp, static_cast<uint32_t>(lanes_of_key)));
    if (lane_id() == 0) atomic_max(&widest[0], lanes_of_warp);
    count += sync_block_count(counted ? 1 : 0);
  }
  if (count == 0) return;

  // Where rows start, and whether the first goes on from the tile before, the last into the next.
  int row_count = 0;
  for (int base = 0; base < count; base += kEmbeddingThreads) {
    const int i = base + thread_x();
    bool starts_row = i == 0;
    if (i > 0 && i < count) {
      const uint32_t own = rows[i], before = rows[i - 1];
      starts_row = own != before;
    }
    uint32_t total;
    const uint32_t at = block_exclusive_sum<kEmbeddingThreads>(starts_row ? 1 : 0, &total);
    if (starts_row) starts[row_count + static_cast<int>(at)] = i;
    row_count += static_cast<int>(total);
  }
  if (thread_x() == 0) starts[row_count] = count;
  sync_block();
  const bool from_before = first > 0 && row_of_key(plan.keys[first - 1]) == static_cast<int64_t>(uint32_t{rows[0]});
  const bool into_next =
      first + count < plan.key_count && row_of_key(plan.keys[first + count]) == static_cast<int64_t>(uint32_t{rows[count - 1]});
  const uint32_t first_rank = rule.first_rank(tile) - (from_before ? 1 : 0);

  const int lanes = widest[0], groups = kEmbeddingThreads / lanes;
  const int group = thread_x() / lanes, lane = thread_x() % lanes;
  // Keys begin, begin + step, ... before end, at a column.
  const auto sum_keys = [&](int begin, int end, int step, int column, int n) {
    LaneVector sum = {};
    if (n <= 0) return sum;
    for (int i = begin; i < end; i += kMergeInFlight * step) {
      LaneVector gradient[kMergeInFlight];
      float weight[kMergeInFlight];
      CUDAMOE_UNROLL
      for (int r = 0; r < kMergeInFlight; ++r) {
        const int key = i + r * step;
        gradient[r] = {};
        weight[r] = 0;
        if (key >= end) continue;
        gradient[r] = load_lane(plan.gradient + int64_t{places[key]} + column, n);
        weight[r] = weights[key];
      }
      CUDAMOE_UNROLL
      for (int r = 0; r < kMergeInFlight; ++r) {
        CUDAMOE_UNROLL
        for (int j = 0; j < kLaneElements; ++j) sum[j] = fma(weight[r], gradient[r][j], sum[j]);
      }
    }
    return sum;
  };
  // What becomes of the sums of the tile's row r. All lanes of a warp call it; `dim` is 0 for those that have no row.
  const auto settle = [&](int r, int dim, bool writes, auto&& sum) {
    const bool begun_before = r == 0 && from_before, goes_on = r == row_count - 1 && into_next;
    const bool part = begun_before || goes_on;
    float* partial = plan.partials + (2 * tile + (begun_before ? 0 : 1)) * plan.partial_stride;
    for (int c = 0; part && c < dim; c += lanes * kLaneElements) {
      const int column = c + lane * kLaneElements;
      const LaneVector value = sum(column);
      if (writes && column < dim) store(partial + column, value);
    }
    MergedRow row = {};
    if (!part && dim > 0) {
      const int start = starts[r];
      row = merged_row(plan, tables[start], uint32_t{rows[start]}, first_rank + static_cast<uint32_t>(r));
    }
    finish_row(rule, row, part ? 0 : dim, writes, lane, lanes, sum);
  };

  int long_count = 0;
  for (int base = 0; base < row_count; base += kEmbeddingThreads) {
    const int r = base + thread_x();
    bool is_long = false;
    if (r < row_count) is_long = starts[r + 1] - starts[r] > kShortRun;
    uint32_t total;
    const uint32_t at = block_exclusive_sum<kEmbeddingThreads>(is_long ? 1 : 0, &total);
    if (is_long) long_rows[long_count + static_cast<int>(at)] = r;
    long_count += static_cast<int>(total);
  }
  sync_block();

  for (int base = 0; base < row_count; base += groups) {
    const int r = base + group;
    int begin = 0, end = 0, dim = 0;
    if (r < row_count) {
      begin = starts[r];
      end = starts[r + 1];
      if (end - begin <= kShortRun) dim = plan.tables[tables[begin]].dim;
    }
    settle(r, dim, dim > 0, [&](int column) { return sum_keys(begin, end, 1, column, dim - column); });
  }
  for (int l = 0; l < long_count; ++l) {
    const int r = long_rows[l], begin = starts[r], end = starts[r + 1], dim = plan.tables[tables[begin]].dim;
    settle(r, dim, group == 0,
           [&](int column) { return sum_of_groups(sums, sum_keys(begin + group, end, groups, column, dim - column), lanes); });
  }
}

// Rows that begin in the block's tile and go on into later ones.
template <class Rule>
CUDAMOE_KERNEL(kEmbeddingThreads, 3)
merge_crossing_kernel(const CUDAMOE_GRID_CONSTANT MergePlan plan, const CUDAMOE_GRID_CONSTANT Rule rule) {
  CUDAMOE_SHARED_ALIGNED(16, float, sums, [kEmbeddingThreads * kLaneElements]);
  if (rule.idle()) return;
  const int64_t tile = block_x(), first = tile * plan.tile, next = first + plan.tile;
  if (next >= plan.key_count) return;
  const int64_t row = row_of_key(plan.keys[next]);
  if (row == plan.sentinel || row_of_key(plan.keys[next - 1]) != row) return;
  if (first > 0 && row_of_key(plan.keys[first - 1]) == row) return;
  const int64_t tiles = ceil_divide<int64_t>(plan.key_count, plan.tile);
  const int64_t last = last_at_most(tile + 1, tiles - 1, row, [&](int64_t t) { return row_of_key(plan.keys[t * plan.tile]); });

  const MergedRow merged = merged_row(plan, table_of_row(plan, row), row, rule.first_rank(tile + 1) - 1);
  const int dim = merged.table->dim, lanes = merged.table->lanes, groups = kEmbeddingThreads / lanes;
  const int group = thread_x() / lanes, lane = thread_x() % lanes;
  const float* partials = plan.partials + 2 * tile * plan.partial_stride;
  finish_row(rule, merged, dim, group == 0, lane, lanes, [&](int column) {
    LaneVector sum = {};
    if (column < dim) {
      for (int64_t i = group; i <= last - tile; i += groups) {
        const LaneVector part = load<kLaneElements>(partials + (i == 0 ? 1 : 2 * i) * plan.partial_stride + column);
        CUDAMOE_UNROLL
        for (int j = 0; j < kLaneElements; ++j) sum[j] += part[j];
      }
    }
    return sum_of_groups(sums, sum, lanes);
  });
}

template <class Rule>
cudaError_t launch_merge(const char* name, const MergePlan& plan, const Rule& rule, cudaStream_t stream) {
  const LaunchShape shape{.name = name,
                          .grid = {static_cast<int>(ceil_divide<int64_t>(plan.key_count, plan.tile))},
                          .block = {kEmbeddingThreads},
                          .stream = stream};
  const cudaError_t error = launch(shape, merge_tiles_kernel<Rule>, plan, rule);
  return error == cudaSuccess ? launch(shape, merge_crossing_kernel<Rule>, plan, rule) : error;
}

}  // namespace cudamoe::kernels
