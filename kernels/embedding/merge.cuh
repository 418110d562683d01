// Merging: the gradient of a row is the sum of the gradients of its look-ups, which stand side by side in the sorted keys:
//   sum[j] = sum over its look-ups i of weight_i * gradient[bag_i, column_i + j],  weight_i = 1, or 1 / |bag_i| for a mean
// What becomes of a row's sum is a Rule: an optimiser's step (update.cu), or a place in the output (gradient.cu).
//
// Floor: a key (8 bytes) and a gradient row per look-up; what the rule reads and writes of each row once.
// Tiling: a block of 128 threads per tile of 64 to 512 keys of one table (embedding_merge_tile). Its threads find where the gradient of
// each key lies, so that the sums wait for nothing but gradients. A row of at most kShortRun keys is summed by a group of 1 to 32 lanes,
// four elements a lane, four rows in flight; one of at most kMediumRun by the groups of a warp; a longer one by all groups of the block.
// The sums of a row that goes on into the next tile, or from the tile before, go to `partials`; a second kernel sums those of the rows
// that begin in a tile and go on: a group for a row of few tiles, a block for one of many (merge_crossing.cuh).
// Shared memory: 8 KiB of keys, 2 KiB of runs, 2 KiB of sums.
// Order of sums: of a short row look-ups ascending; of a longer one those of group g are g, g + groups, ... ascending, then the groups of
// a warp by a butterfly, then the warps ascending. Which it is follows from the keys alone, so update and gradient agree bit for bit.
#pragma once

#include "common/block_scan.cuh"
#include "common/kernel.cuh"
#include "embedding/cache.cuh"
#include "embedding/embedding.h"
#include "embedding/tiles.cuh"

namespace cudamoe::kernels {

inline constexpr int kShortRun = 8;
inline constexpr int kMediumRun = 128;
inline constexpr int kLaneElementBits = 2;
inline constexpr int kLaneElements = 1 << kLaneElementBits;  // of a row, a lane at a time
inline constexpr int kMergeInFlight = 4;
inline constexpr int kMergeThreads = 128;
inline constexpr int kMergeWarps = kMergeThreads / kWarp;

using LaneVector = Vector<float, kLaneElements>;

CUDAMOE_DEVICE int64_t row_of_key(uint64_t key) { return static_cast<int64_t>(key >> 32); }

// Elements p[0 .. n-1], zeros behind them; `whole`: four can be read at once.
CUDAMOE_DEVICE LaneVector load_lane(const float* p, int n, bool whole) {
  if (whole && n >= kLaneElements) return load<kLaneElements>(p);
  LaneVector v = {};
  CUDAMOE_UNROLL
  for (int j = 0; j < kLaneElements; ++j) {
    if (j < n) v[j] = p[j];
  }
  return v;
}

CUDAMOE_DEVICE void store_lane(float* p, const LaneVector& v, int n, bool whole) {
  if (whole && n >= kLaneElements) return store(p, v);
  CUDAMOE_UNROLL
  for (int j = 0; j < kLaneElements; ++j) {
    if (j < n) p[j] = v[j];
  }
}

// Where the compiler has to have loaded all of them: without it, it saves registers by waiting for each before it asks for the next.
CUDAMOE_DEVICE void loaded_together(LaneVector (&part)[kMergeInFlight]) {
#if defined(__CUDACC__)
  static_assert(kMergeInFlight == 4 && kLaneElements == 4);
  asm volatile(""
               : "+f"(part[0][0]), "+f"(part[0][1]), "+f"(part[0][2]), "+f"(part[0][3]), "+f"(part[1][0]), "+f"(part[1][1]),
                 "+f"(part[1][2]), "+f"(part[1][3]), "+f"(part[2][0]), "+f"(part[2][1]), "+f"(part[2][2]), "+f"(part[2][3]),
                 "+f"(part[3][0]), "+f"(part[3][1]), "+f"(part[3][2]), "+f"(part[3][3]));
#else
  static_cast<void>(part);
#endif
}

CUDAMOE_DEVICE void add(LaneVector& sum, const LaneVector& more) {
  CUDAMOE_UNROLL
  for (int j = 0; j < kLaneElements; ++j) sum[j] += more[j];
}

template <int kThreads>
CUDAMOE_DEVICE int table_of_merge_tile(const EmbeddingPlan& plan, int64_t tile) {
  return static_cast<int>(block_last_at_most<kThreads>(plan.table_count, tile, [&](int64_t t) { return plan.tables[t].first_merge_tile; }));
}

// What the merging needs of a table, held in registers.
struct MergedTable {
  void* weights;
  float* state1;
  float* state2;
  int64_t row_stride;
  int64_t first_lookup;
  int32_t first_merge_tile;
  int32_t index;  // in the plan
  int32_t dim;
  bool bf16, whole_rows;
};

// Plain: bags are sums, and rows of weights, states and gradient are read and written by whole vectors to their ends.
template <bool kPlain>
CUDAMOE_DEVICE MergedTable merged_table(const PlanTable& table, int index) {
  return {table.weights,          table.state1, table.state2, table.row_stride, table.first_lookup,
          table.first_merge_tile, index,        table.dim,    table.bf16 != 0,  kPlain || table.whole_rows != 0};
}

// A row whose gradient is being merged. Cached: some table has a cache, so the row is looked for there first.
template <bool kCached>
struct MergedRow {
  const MergedTable& table;
  int64_t row;    // in the table
  uint32_t rank;  // among all rows of the operation; only for rules that ask for it

  CUDAMOE_DEVICE void locate(const EmbeddingPlan&) {}
  CUDAMOE_DEVICE void note_update() const {}
  // Where the row lies: `place` is its index in these.
  CUDAMOE_DEVICE void* weights() const { return table.weights; }
  CUDAMOE_DEVICE float* state1() const { return table.state1; }
  CUDAMOE_DEVICE float* state2() const { return table.state2; }
  CUDAMOE_DEVICE int64_t row_stride() const { return table.row_stride; }
  CUDAMOE_DEVICE int64_t place() const { return row; }
};

template <>
struct MergedRow<true> {
  const MergedTable& table;
  int64_t row;
  uint32_t rank;
  const RowCache* cache = nullptr;  // null: the row lies in the table
  int32_t cached = kNotCached;      // its place there

  CUDAMOE_DEVICE void locate(const EmbeddingPlan& plan) {
    cache = plan.caches + table.index;
    cached = place_of_row(cache->tags, cache->sets, static_cast<int32_t>(row));
    if (cached == kNotCached) cache = nullptr;
  }
  CUDAMOE_DEVICE void note_update() const {
    if (cache != nullptr) cache->dirty[cached] = 1;
  }
  CUDAMOE_DEVICE void* weights() const { return cache != nullptr ? cache->weights : table.weights; }
  CUDAMOE_DEVICE float* state1() const { return cache != nullptr ? cache->state1 : table.state1; }
  CUDAMOE_DEVICE float* state2() const { return cache != nullptr ? cache->state2 : table.state2; }
  CUDAMOE_DEVICE int64_t row_stride() const { return cache != nullptr ? cache->row_stride : table.row_stride; }
  CUDAMOE_DEVICE int64_t place() const { return cache != nullptr ? int64_t{cached} : row; }
};

// What lanes do with the sums of a row. All lanes of a warp call finish_row with the same `columns`.
struct RowWork {
  bool has;        // whether the lanes have a row
  bool writes;     // whether they write it: of several lanes that hold the same columns one does
  float* partial;  // or null: where the sums go instead of to the rule
  int dim;         // of the row
  int columns;     // turns of the lanes for the longest row of the block
  int lane, lanes;
};

// Gives a row to the rule. `sum(column)` is the merged gradient at four elements, zeros behind the row's end.
//
// Row-wise rules need the whole row before its first element moves: the sums of more than one turn are taken twice.
template <bool kPlain, class Rule, class Sum>
CUDAMOE_DEVICE void finish_row(const Rule& rule, const MergedRow<Rule::kCached>& row, const RowWork& work, Sum&& sum) {
  const int passes = Rule::kRowWise && work.columns > 1 ? 2 : 1;
  const bool rules = work.has && work.writes && work.partial == nullptr;
  float state = 0, squares = 0, rate = 0;
  if constexpr (Rule::kRowWise) {
    if (rules) state = rule.load_row(row);
  }
  for (int turn = 0; turn < passes * work.columns; ++turn) {
    const bool applies = turn >= (passes - 1) * work.columns;
    const int column = (turn - (turn >= work.columns ? work.columns : 0)) * work.lanes * kLaneElements + work.lane * kLaneElements;
    const bool inside = column < work.dim;
    const int n = kPlain ? kLaneElements : work.dim - column;
    typename Rule::Elements elements = {};
    if (applies && rules && inside) elements = rule.load(row, column, n);
    const LaneVector value = sum(column);
    if constexpr (Rule::kRowWise) {
      if (turn < work.columns) squares += rule.squares(value);
      if (turn == work.columns - 1) {
        for (int bits = work.lanes / 2; bits > 0; bits /= 2) squares += shuffle_xor(kFullWarp, squares, bits);
        if (rules) {
          state = rule.next_state(state, squares / static_cast<float>(work.dim));
          rate = rule.rate(state);
          if (work.lane == 0) rule.store_row(row, state);
        }
      }
    }
    if (!applies || !work.has || !work.writes || !inside) continue;
    if (work.partial != nullptr) {
      store(work.partial + column, value);
    } else {
      rule.apply(row, column, n, elements, value, rate);
    }
  }
}

// The sum over the groups of a warp, in all of them.
CUDAMOE_DEVICE LaneVector sum_of_warp(LaneVector value, int lanes) {
  for (int bits = lanes; bits < kWarp; bits *= 2) {
    CUDAMOE_UNROLL
    for (int j = 0; j < kLaneElements; ++j) value[j] += shuffle_xor(kFullWarp, value[j], bits);
  }
  return value;
}

// The sum over the warps of a block, in all of them. All threads call it.
CUDAMOE_DEVICE LaneVector sum_of_block(Shared<float> sums, LaneVector value) {
  store(sums + thread_x() * kLaneElements, value);
  sync_block();
  value = load<kLaneElements>(sums + lane_id() * kLaneElements);
  CUDAMOE_UNROLL
  for (int w = 1; w < kMergeWarps; ++w) add(value, load<kLaneElements>(sums + (w * kWarp + lane_id()) * kLaneElements));
  sync_block();  // before the next call writes
  return value;
}

// 1, or for a mean 1 / |bag|.
CUDAMOE_DEVICE float weight_of(const EmbeddingBags& bags, int64_t bag) {
  if (bags.mean == 0) return 1;
  const int32_t size = bags.offsets != nullptr ? load_constant(bags.offsets + bag + 1) - load_constant(bags.offsets + bag) : bags.bag_size;
  return 1.0f / static_cast<float>(size);
}

template <class Rule, bool kPlain>
CUDAMOE_KERNEL(kMergeThreads, kPlain ? Rule::kPlainBlocks : Rule::kBlocks)
merge_tiles_kernel(const CUDAMOE_GRID_CONSTANT MergePlan plan, const CUDAMOE_GRID_CONSTANT Rule rule) {
  constexpr int kItems = kMaxMergeTile / kMergeThreads;
  CUDAMOE_SHARED(uint32_t, rows, [kMaxMergeTile]);
  CUDAMOE_SHARED(int64_t, places, [kMaxMergeTile]);       // of the gradient row of a key
  CUDAMOE_SHARED(float, weights, [kMaxMergeTile]);        // of it; only where bags are averaged
  CUDAMOE_SHARED(uint16_t, starts, [kMaxMergeTile + 1]);  // of the runs
  CUDAMOE_SHARED(uint16_t, runs, [kMaxMergeTile]);        // first the short ones, then the medium, then the long
  CUDAMOE_SHARED_ALIGNED(16, float, sums, [kMergeThreads * kLaneElements]);
  const int tile = block_x(), table_index = table_of_merge_tile<kMergeThreads>(plan.plan, tile);
  const PlanTable& all = plan.plan.tables[table_index];
  const MergedTable table = merged_table<kPlain>(all, table_index);
  const int64_t first = int64_t{tile - table.first_merge_tile} * plan.tile;  // of the table's keys
  const int64_t left = all.lookups - first;
  const int most = left < plan.tile ? static_cast<int>(left) : plan.tile;
  const uint64_t* keys = plan.keys + table.first_lookup + first;
  const uint32_t table_rows = all.rows;
  const KeyFeature* features = plan.plan.features + all.first_feature;
  const bool one_feature = all.feature_count == 1;
  const int64_t first_column = features[0].column;
  const bool mean = !kPlain && all.mean != 0, whole_gradient = kPlain || all.whole_gradient != 0;

  // The thread's keys, side by side; keys of rows that the table does not have stand at its end.
  const int own = thread_x() * kItems;
  uint64_t key[kItems];
  CUDAMOE_UNROLL
  for (int i = 0; i < kItems; ++i) key[i] = own + i < most ? keys[own + i] : ~uint64_t{0};
  const int64_t last_row = own > 0 && own < most ? row_of_key(keys[own - 1]) : -1;
  const int64_t before_row = first > 0 ? row_of_key(keys[-1]) : -1, next_row = most < left ? row_of_key(keys[most]) : -1;
  if (rule.idle()) return;

  uint32_t begins = 0, counted = 0;
  CUDAMOE_UNROLL
  for (int i = 0; i < kItems; ++i) {
    if (row_of_key(key[i]) >= table_rows) continue;
    const auto row = static_cast<uint32_t>(row_of_key(key[i])), slot = static_cast<uint32_t>(key[i]);
    const auto in_table = static_cast<int>(static_cast<uint64_t>(slot) >> plan.bag_bits);
    const int64_t bag = static_cast<int64_t>(slot & ((uint64_t{1} << plan.bag_bits) - 1));
    const KeyFeature& feature = features[in_table];
    rows[own + i] = row;
    places[own + i] = bag * plan.gradient_row_stride + (one_feature ? first_column : feature.column);
    if (mean) weights[own + i] = weight_of(feature.bags, bag);
    ++counted;
    const bool starts_run = own + i == 0 || (i == 0 ? last_row : row_of_key(key[i - 1])) != row;
    begins |= starts_run ? 1u << i : 0u;
  }

  // Where runs start.
  uint32_t total;
  const uint32_t before = block_exclusive_sum<kMergeThreads>(static_cast<uint32_t>(count_ones(begins)) | counted << 16, &total);
  const int run_count = static_cast<int>(total & 0xFFFFu), count = static_cast<int>(total >> 16);
  if (count == 0) return;
  CUDAMOE_UNROLL
  for (int i = 0; i < kItems; ++i) {
    const int at = static_cast<int>(before & 0xFFFFu) + count_ones(begins & ((1u << i) - 1));
    if ((begins >> i & 1u) != 0) starts[at] = static_cast<uint16_t>(own + i);
  }
  if (thread_x() == 0) starts[run_count] = static_cast<uint16_t>(count);
  sync_block();

  // Runs by their lengths.
  uint32_t kinds = 0, kind_of[kItems];  // short | medium << 16
  CUDAMOE_UNROLL
  for (int i = 0; i < kItems; ++i) {
    kind_of[i] = 0;
    if (own + i >= run_count) continue;
    const int length = starts[own + i + 1] - starts[own + i];
    kind_of[i] = length <= kShortRun ? 1u : length <= kMediumRun ? 1u << 16 : 0u;
    kinds += kind_of[i];
  }
  uint32_t kinds_before = block_exclusive_sum<kMergeThreads>(kinds, &total);
  const int short_count = static_cast<int>(total & 0xFFFFu), medium_count = static_cast<int>(total >> 16);
  CUDAMOE_UNROLL
  for (int i = 0; i < kItems; ++i) {
    if (own + i >= run_count) continue;
    const int shorts = static_cast<int>(kinds_before & 0xFFFFu), mediums = static_cast<int>(kinds_before >> 16);
    const int at = kind_of[i] == 1u           ? shorts
                   : kind_of[i] == (1u << 16) ? short_count + mediums
                                              : short_count + medium_count + (own + i - shorts - mediums);
    runs[at] = static_cast<uint16_t>(own + i);
    kinds_before += kind_of[i];
  }
  sync_block();

  // Whether the first run goes on from the tile before, the last into the next; one number, not what it was made from, lives on.
  const uint32_t first_row = rows[0], end_row = rows[count - 1];
  const int crossing =
      computed_here((before_row == static_cast<int64_t>(first_row) ? 1 : 0) + (next_row == static_cast<int64_t>(end_row) ? 2 : 0));
  const uint32_t first_rank = rule.first_rank(tile) - static_cast<uint32_t>(crossing & 1);
  const int lane_bits = all.lane_bits, dim = table.dim;

  // Keys begin, begin + step, ... before end, at a column.
  const auto sum_keys = [&](int begin, int end, int step, int column) {
    LaneVector sum = {};
    const int n = kPlain ? kLaneElements : dim - column;
    if (column >= dim) return sum;
    const float* gradient = plan.gradient + column;
    for (int i = begin; i < end; i += kMergeInFlight * step) {
      LaneVector part[kMergeInFlight];
      CUDAMOE_UNROLL
      for (int r = 0; r < kMergeInFlight; ++r) {
        const int at = i + r * step;
        part[r] = {};
        if (at < end) part[r] = load_lane(gradient + int64_t{places[at]}, n, whole_gradient);
      }
      loaded_together(part);
      CUDAMOE_UNROLL
      for (int r = 0; r < kMergeInFlight; ++r) {
        const int at = i + r * step;
        if (at >= end) continue;
        float weight = 1;
        if (mean) weight = weights[at];
        CUDAMOE_UNROLL
        for (int j = 0; j < kLaneElements; ++j) sum[j] = fma(weight, part[r][j], sum[j]);
      }
    }
    return sum;
  };
  // A run a group; then one a warp; then one the block.
  const int short_rounds = ceil_divide(short_count << lane_bits, kMergeThreads), medium_end = short_count + medium_count;
  const int group_rounds = short_rounds + ceil_divide(medium_count, kMergeWarps);
  for (int round = 0; round < group_rounds + (run_count - medium_end); ++round) {
    const int bits = computed_here(lane_bits), lanes = 1 << bits;
    const int group = thread_x() >> bits, lane = thread_x() & (lanes - 1), groups = kMergeThreads >> bits, warp_groups = kWarp >> bits;
    int at = round * groups + group, end_at = short_count, members = 1, member = 0;
    if (round >= short_rounds) {
      at = short_count + (round - short_rounds) * kMergeWarps + warp_id();
      end_at = medium_end;
      members = warp_groups;
      member = group & (warp_groups - 1);
    }
    if (round >= group_rounds) {
      at = medium_end + (round - group_rounds);
      end_at = run_count;
      members = groups;
      member = group;
    }
    const bool has = at < end_at;
    int r = 0, begin = 0, end = 0;
    MergedRow<Rule::kCached> row{table, 0, 0};
    if (has) {
      r = runs[at];
      begin = starts[r];
      end = starts[r + 1];
      row.row = int64_t{rows[begin]};
      row.locate(plan.plan);
      row.rank = first_rank + static_cast<uint32_t>(r);
    }
    const bool begun_before = r == 0 && (crossing & 1) != 0, goes_on = r == run_count - 1 && (crossing & 2) != 0;
    float* partial = nullptr;
    if (begun_before || goes_on) partial = plan.partials + (2 * int64_t{tile} + (begun_before ? 0 : 1)) * plan.partial_stride;
    const int columns = (dim + kLaneElements * lanes - 1) >> bits >> kLaneElementBits;
    finish_row<kPlain>(rule, row, {has, member == 0, partial, dim, columns, lane, lanes}, [&](int column) {
      LaneVector sum = sum_keys(begin + member, end, members, column);
      if (members > 1) sum = sum_of_warp(sum, lanes);
      if (round >= group_rounds) sum = sum_of_block(sums, sum);
      return sum;
    });
  }
}

}  // namespace cudamoe::kernels
