// The merged gradient itself: for each table the touched rows in ascending order and the sum of the gradients of each row's look-ups.
// A row's place is the number of touched rows of its table before it: its rank in the group less that of the table's first row.
//
// Floor: keys (8 bytes) read twice, a gradient row per look-up, the result written once.
// Tiling: ranks are counted by a block per tile of merge.cuh and added up by one block; a warp per table finds the table's first key by
// bisection. The merging is that of merge.cuh, and so is the order of its sums. Shared memory beside the merging's: 128 bytes.
#include "embedding/merge.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kScanThreads = 1024;
constexpr int kTableWarps = kEmbeddingThreads / kWarp;

// Whether a row begins at sorted key i.
CUDAMOE_DEVICE bool row_begins(const MergePlan& plan, int64_t i) {
  const int64_t row = row_of_key(plan.keys[i]);
  return row < plan.sentinel && (i == 0 || row_of_key(plan.keys[i - 1]) != row);
}

CUDAMOE_KERNEL(kEmbeddingThreads, 4) count_rows_kernel(const CUDAMOE_GRID_CONSTANT MergePlan plan, uint32_t* tile_ranks) {
  const int64_t tile = block_x(), first = tile * plan.tile;
  int rows = 0;
  for (int base = 0; base < plan.tile; base += kEmbeddingThreads) {
    const int i = base + thread_x();
    rows += sync_block_count(i < plan.tile && first + i < plan.key_count && row_begins(plan, first + i) ? 1 : 0);
  }
  if (thread_x() == 0) tile_ranks[tile] = static_cast<uint32_t>(rows);
}

// tile_ranks[i] becomes the sum of those before it, tile_ranks[tiles] that of all.
CUDAMOE_KERNEL(kScanThreads, 1) scan_ranks_kernel(uint32_t* tile_ranks, int64_t tiles) {
  uint32_t before = 0;
  for (int64_t base = 0; base < tiles; base += kScanThreads) {
    const int64_t i = base + thread_x();
    uint32_t total;
    const uint32_t own = block_exclusive_sum<kScanThreads>(i < tiles ? tile_ranks[i] : 0, &total);
    if (i < tiles) tile_ranks[i] = before + own;
    before += total;
  }
  if (thread_x() == 0) tile_ranks[tiles] = before;
}

// Rows of the group before `row`; a warp's work.
CUDAMOE_DEVICE uint32_t rank_of_row(const MergePlan& plan, const uint32_t* tile_ranks, int64_t row) {
  // The keys of rows before it.
  const int64_t end = last_at_most(-1, plan.key_count - 1, row - 1, [&](int64_t i) { return row_of_key(plan.keys[i]); }) + 1;
  const int64_t tile = end / plan.tile;
  uint32_t rows = 0;
  for (int64_t i = tile * plan.tile + lane_id(); i < end; i += kWarp) rows += row_begins(plan, i) ? 1 : 0;
  return tile_ranks[tile] + reduce_add(kFullWarp, rows);
}

CUDAMOE_KERNEL(kEmbeddingThreads, 4)
rank_tables_kernel(const CUDAMOE_GRID_CONSTANT MergePlan plan, const CUDAMOE_GRID_CONSTANT GradientOutput output) {
  const int64_t t = int64_t{block_x()} * kTableWarps + warp_id();
  if (t >= plan.table_count) return;
  const MergeTable& table = plan.tables[t];
  const uint32_t begin = rank_of_row(plan, output.tile_ranks, table.first_row);
  const uint32_t end = rank_of_row(plan, output.tile_ranks, int64_t{table.first_row} + table.rows);
  if (lane_id() != 0) return;
  output.table_ranks[t] = begin;
  output.counts[table.index] = end - begin;
}

struct StoreGradient {
  GradientOutput output;

  static constexpr bool kRowWise = false;
  struct Elements {};

  CUDAMOE_DEVICE static bool idle() { return false; }
  CUDAMOE_DEVICE uint32_t first_rank(int64_t tile) const { return output.tile_ranks[tile]; }
  CUDAMOE_DEVICE Elements load(const MergedRow&, int, int) const { return {}; }
  CUDAMOE_DEVICE void apply(const MergedRow& row, int column, int n, Elements, const LaneVector& sum, float) const {
    const int64_t place = row.table->first_lookup + (row.rank - output.table_ranks[row.table_in_group]);
    store_lane(output.values + place * output.values_row_stride + column, sum, n);
    if (column == 0) output.unique_rows[place] = static_cast<int32_t>(row.row);
  }
};

}  // namespace

cudaError_t embedding_rank_tiles(const MergePlan& plan, const GradientOutput& output, cudaStream_t stream) {
  const int64_t tiles = ceil_divide<int64_t>(plan.key_count, plan.tile);
  const cudaError_t error =
      launch({.name = "embedding_count_rows", .grid = {static_cast<int>(tiles)}, .block = {kEmbeddingThreads}, .stream = stream},
             count_rows_kernel, plan, output.tile_ranks);
  if (error != cudaSuccess) return error;
  return launch({.name = "embedding_scan_ranks", .grid = {1}, .block = {kScanThreads}, .stream = stream}, scan_ranks_kernel,
                output.tile_ranks, tiles);
}

cudaError_t embedding_rank_tables(const MergePlan& plan, const GradientOutput& output, cudaStream_t stream) {
  const int blocks = ceil_divide(plan.table_count, kTableWarps);
  return launch({.name = "embedding_rank_tables", .grid = {blocks}, .block = {kEmbeddingThreads}, .stream = stream}, rank_tables_kernel,
                plan, output);
}

cudaError_t embedding_gradient(const MergePlan& plan, const GradientOutput& output, cudaStream_t stream) {
  return launch_merge("embedding_gradient", plan, StoreGradient{output}, stream);
}

}  // namespace cudamoe::kernels
