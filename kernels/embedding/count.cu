// The counts of a pass of the sort (sort.cu): counts[digit, tile] = keys of the tile that have the digit, tiles of a table side by side;
// then the counts of the tiles before each, and the totals.
//
// Floor: the first pass reads the ids (4 bytes a look-up), a later one the keys (8 bytes). Tiling: a block of 512 threads per tile of the
// sort; all keys of a thread are asked for before the first is counted. The scan takes a warp per table and digit, 128 counts at a time,
// all asked for at once.
// Shared memory: 2 KiB of counts. All sums are of integers: the order of the additions cannot be seen.
#include "common/warp_scan.cuh"
#include "embedding/lookups.cuh"
#include "embedding/sort.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kScanWarps = kSortThreads / kWarp;
constexpr int kScanItems = 4;

// The counts of a tile: add_all(add) calls add(digit) for each of the thread's keys.
template <class AddAll>
CUDAMOE_DEVICE void count_digits(const SortPass& pass, const PlanTable& table, const SortTile& tile, AddAll&& add_all) {
  CUDAMOE_SHARED(uint32_t, histogram, [kMaxDigits]);
  histogram[thread_x()] = 0;
  sync_block();
  add_all([&](int digit) { atomic_add(&histogram[digit], 1u); });
  sync_block();
  if (thread_x() < 1 << pass.digit_bits) *count_of(pass, table, tile, thread_x()) = histogram[thread_x()];
}

template <int kItems>
CUDAMOE_KERNEL(kSortThreads, 2)
count_ids_kernel(const CUDAMOE_GRID_CONSTANT EmbeddingPlan plan, const CUDAMOE_GRID_CONSTANT EmbeddingBatch batch,
                 const CUDAMOE_GRID_CONSTANT SortPass pass) {
  const PlanTable table = plan.tables[table_of_sort_tile(plan, block_x())];
  const SortTile tile = sort_tile_of(pass, table, block_x());
  const TileLookups lookups(plan, batch, table, tile);
  // Calls use(row) for a look-up.
  const auto count = [&](const KeyFeature& feature, int64_t bagged, int64_t lookup, int32_t id, auto&& use) {
    const int64_t position = lookup - feature.first_lookup;
    use(position < bagged ? lookups.row<true>(feature, position, id) : table.rows);
  };
  count_digits(pass, table, tile, [&](auto&& add) {
    const auto add_row = [&](uint32_t row) { add(digit_of_row(row, pass)); };
    if (lookups.alone()) {
      const KeyFeature feature = lookups.feature(lookups.first());
      const int64_t bagged = lookups.bagged(feature, lookups.first());
      const int32_t* ids = feature.bags.ids + (tile.begin - feature.first_lookup);
      int32_t id[kItems];
      CUDAMOE_UNROLL
      for (int i = 0; i < kItems; ++i) {
        const int at = i * kSortThreads + thread_x();
        id[i] = at < tile.count ? load_constant(ids + at) : 0;
      }
      CUDAMOE_UNROLL
      for (int i = 0; i < kItems; ++i) {
        const int at = i * kSortThreads + thread_x();
        if (at < tile.count) count(feature, bagged, tile.begin + at, id[i], add_row);
      }
      return;
    }
    for (int at = thread_x(); at < tile.count; at += kSortThreads) {
      const int64_t lookup = tile.begin + at;
      const int f = lookups.feature_of_lookup(lookup);
      const KeyFeature& feature = lookups.feature(f);
      count(feature, lookups.bagged(feature, f), lookup, load_constant(feature.bags.ids + (lookup - feature.first_lookup)), add_row);
    }
  });
}

template <int kItems>
CUDAMOE_KERNEL(kSortThreads, 2)
count_keys_kernel(const CUDAMOE_GRID_CONSTANT EmbeddingPlan plan, const CUDAMOE_GRID_CONSTANT SortPass pass, const uint64_t* keys) {
  const PlanTable& table = plan.tables[table_of_sort_tile(plan, block_x())];
  const SortTile tile = sort_tile_of(pass, table, block_x());
  const uint64_t* from = keys + table.first_lookup + tile.begin;
  uint64_t key[kItems];
  CUDAMOE_UNROLL
  for (int i = 0; i < kItems; ++i) {
    const int at = i * kSortThreads + thread_x();
    key[i] = at < tile.count ? from[at] : 0;
  }
  count_digits(pass, table, tile, [&](auto&& add) {
    CUDAMOE_UNROLL
    for (int i = 0; i < kItems; ++i) {
      if (i * kSortThreads + thread_x() < tile.count) add(digit_of(key[i], pass));
    }
  });
}

CUDAMOE_KERNEL(kSortThreads, 2) scan_kernel(const CUDAMOE_GRID_CONSTANT EmbeddingPlan plan, const CUDAMOE_GRID_CONSTANT SortPass pass) {
  const int64_t line = int64_t{block_x()} * kScanWarps + warp_id(), t = line >> pass.digit_bits;
  if (t >= plan.table_count) return;
  const PlanTable& table = plan.tables[t];
  const int64_t tiles = ceil_divide<int64_t>(table.lookups, pass.tile);
  const auto digit = static_cast<int>(line & ((1 << pass.digit_bits) - 1));
  uint32_t* counts = pass.counts + (int64_t{table.first_sort_tile} << pass.digit_bits) + digit * tiles;
  const uint32_t total = warp_exclusive_sums<kScanItems>(counts, tiles);
  if (lane_id() == 0) pass.totals[line] = total;
}

}  // namespace

cudaError_t embedding_count_ids(const EmbeddingPlan& plan, const EmbeddingBatch& batch, const SortPass& pass, cudaStream_t stream) {
  return with_sort_items(pass, [&](auto items) {
    return launch({.name = "embedding_count_ids", .grid = {pass.tiles}, .block = {kSortThreads}, .stream = stream},
                  count_ids_kernel<decltype(items)::value>, plan, batch, pass);
  });
}

cudaError_t embedding_count_keys(const EmbeddingPlan& plan, const SortPass& pass, const uint64_t* keys, cudaStream_t stream) {
  return with_sort_items(pass, [&](auto items) {
    return launch({.name = "embedding_count_keys", .grid = {pass.tiles}, .block = {kSortThreads}, .stream = stream},
                  count_keys_kernel<decltype(items)::value>, plan, pass, keys);
  });
}

cudaError_t embedding_scan(const EmbeddingPlan& plan, const SortPass& pass, cudaStream_t stream) {
  const int64_t blocks = ceil_divide<int64_t>(int64_t{plan.table_count} << pass.digit_bits, kScanWarps);
  return launch({.name = "embedding_scan", .grid = {static_cast<int>(blocks)}, .block = {kSortThreads}, .stream = stream}, scan_kernel,
                plan, pass);
}

}  // namespace cudamoe::kernels
