// The merged gradient itself: for each table the touched rows in ascending order and the sum of the gradients of each row's look-ups.
// A row's place is the number of touched rows of its table before it: its rank among all less that of the table's first tile.
//
// Floor: keys (8 bytes) read twice, a gradient row per look-up, the result written once.
// Tiling: ranks are counted by a block per tile of merge.cuh and added up by one block, 1024 tiles at a time. The merging is that of
// merge.cuh, and so is the order of its sums. Shared memory beside the merging's: 128 bytes.
#include "embedding/merge_crossing.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kScanThreads = 1024;

CUDAMOE_KERNEL(kEmbeddingThreads, 4) count_rows_kernel(const CUDAMOE_GRID_CONSTANT MergePlan plan, uint32_t* tile_ranks) {
  const int tile = block_x();
  const PlanTable& table = plan.plan.tables[table_of_merge_tile<kEmbeddingThreads>(plan.plan, tile)];
  const int64_t first = int64_t{tile - table.first_merge_tile} * plan.tile, left = table.lookups - first;
  const uint64_t* keys = plan.keys + table.first_lookup + first;
  int rows = 0;
  for (int base = 0; base < plan.tile; base += kEmbeddingThreads) {
    const int i = base + thread_x();
    bool begins = i < plan.tile && i < left && row_of_key(keys[i]) < table.rows;
    if (begins && first + i > 0) begins = row_of_key(keys[i - 1]) != row_of_key(keys[i]);
    rows += sync_block_count(begins ? 1 : 0);
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

// counts[t] = rows that begin in the tiles of table t.
CUDAMOE_KERNEL(kEmbeddingThreads, 4)
count_tables_kernel(const CUDAMOE_GRID_CONSTANT MergePlan plan, const CUDAMOE_GRID_CONSTANT GradientOutput output) {
  const int64_t t = int64_t{block_x()} * kEmbeddingThreads + thread_x();
  if (t >= plan.plan.table_count) return;
  const int64_t end = t + 1 < plan.plan.table_count ? plan.plan.tables[t + 1].first_merge_tile : plan.tiles;
  output.counts[t] = output.tile_ranks[end] - output.tile_ranks[plan.plan.tables[t].first_merge_tile];
}

struct StoreGradient {
  GradientOutput output;

  static constexpr bool kRowWise = false, kCached = false;
  static constexpr int kBlocks = 6, kPlainBlocks = 8;
  struct Elements {};

  CUDAMOE_DEVICE static bool idle() { return false; }
  CUDAMOE_DEVICE uint32_t first_rank(int64_t tile) const { return output.tile_ranks[tile]; }
  CUDAMOE_DEVICE Elements load(const MergedRow<false>&, int, int) const { return {}; }
  CUDAMOE_DEVICE void apply(const MergedRow<false>& row, int column, int n, Elements, const LaneVector& sum, float) const {
    const int64_t place = row.table.first_lookup + (row.rank - output.tile_ranks[row.table.first_merge_tile]);
    store_lane(output.values + place * output.values_row_stride + column, sum, n, output.whole_values != 0);
    if (column == 0) output.unique_rows[place] = static_cast<int32_t>(row.row);
  }
};

}  // namespace

cudaError_t embedding_rank_rows(const MergePlan& plan, const GradientOutput& output, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  if (plan.tiles > 0)
    error = launch({.name = "embedding_count_rows", .grid = {plan.tiles}, .block = {kEmbeddingThreads}, .stream = stream},
                   count_rows_kernel, plan, output.tile_ranks);
  if (error == cudaSuccess)
    error = launch({.name = "embedding_scan_ranks", .grid = {1}, .block = {kScanThreads}, .stream = stream}, scan_ranks_kernel,
                   output.tile_ranks, int64_t{plan.tiles});
  if (error != cudaSuccess) return error;
  const int blocks = ceil_divide(plan.plan.table_count, kEmbeddingThreads);
  return launch({.name = "embedding_count_tables", .grid = {blocks}, .block = {kEmbeddingThreads}, .stream = stream}, count_tables_kernel,
                plan, output);
}

cudaError_t embedding_gradient(const MergePlan& plan, const GradientOutput& output, cudaStream_t stream) {
  return launch_merge("embedding_gradient", plan, StoreGradient{output}, stream);
}

}  // namespace cudamoe::kernels
