// A pass of a stable radix sort of each table's keys by their rows, least significant digit first; only the digits that rows can have are
// sorted, all tables by as many. The first pass makes the keys of the ids (lookups.cuh), so that keys are written once a pass.
//
// Floor: the first pass reads ids (4 bytes) and writes keys (8 bytes), a later one reads and writes keys; the counts (count.cu) read
// ids or keys once more. Tiling: a block of 512 threads per tile of 1024 to 4096 keys (embedding_sort_tile) of one table. A block ranks
// the keys of its tile: those of a warp lie side by side, so lanes ascending within 32 keys ascending is the keys' order; the lanes of a
// digit are found by a vote for each bit. It puts them in the order of their digits in shared memory and writes them from there, so that
// keys of a digit go out side by side.
// Shared memory: 8 bytes a key, at least 16 KiB, and 3 KiB. All sums are of integers; places follow from counts alone.
#include "common/block_scan.cuh"
#include "embedding/lookups.cuh"
#include "embedding/sort.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kWarps = kSortThreads / kWarp;

// Lanes that are valid and have the caller's digit.
CUDAMOE_DEVICE uint32_t lanes_of_digit(int digit, bool valid) {
  uint32_t lanes = ballot(kFullWarp, valid);
  CUDAMOE_UNROLL
  for (int bit = 0; bit < kMaxDigitBits; ++bit) {
    const bool set = (digit >> bit & 1) != 0;
    const uint32_t those = ballot(kFullWarp, set);
    lanes &= set ? those : ~those;
  }
  return lanes;
}

// The key of a thread's item i is the tile's key item_of<kItems>(i).
template <int kItems>
CUDAMOE_DEVICE int item_of(int i) {
  return (warp_id() * kItems + i) * kWarp + lane_id();
}

// Writes the tile's keys, of which the thread has key[i], to their places.
template <int kItems>
CUDAMOE_DEVICE void scatter(const EmbeddingPlan& plan, const SortPass& pass, int table_index, const SortTile& tile,
                            const uint64_t (&key)[kItems], uint64_t* to) {
  constexpr int kTile = kItems * kSortThreads, kRankKeys = kWarps * kMaxDigits / 4, kOrdered = kTile < kRankKeys ? kRankKeys : kTile;
  // First [kWarps][kMaxDigits] of 16 bits, keys of a digit in the warp so far, then in the warps before; then the keys by their digits.
  CUDAMOE_SHARED(uint64_t, ordered, [kOrdered]);
  CUDAMOE_SHARED(uint16_t, starts, [kMaxDigits]);  // of each digit's keys in `ordered`
  CUDAMOE_SHARED(uint32_t, places, [kMaxDigits]);  // of each digit's keys in the table's, less their place in `ordered`
  const Shared<uint16_t> ranks = shared_cast<uint16_t>(&ordered[0]), own_ranks = ranks + warp_id() * kMaxDigits;
  const int lane = lane_id(), own_digit = thread_x();
  for (int d = lane; d < kMaxDigits; d += kWarp) own_ranks[d] = 0;
  sync_warp();
  // What the thread needs for its digit, asked for before it is waited for.
  uint32_t total = 0, in_tiles_before = 0;
  if (own_digit < 1 << pass.digit_bits) {
    total = pass.totals[(int64_t{table_index} << pass.digit_bits) + own_digit];
    in_tiles_before = *count_of(pass, plan.tables[table_index], tile, own_digit);
  }

  uint32_t rank[kItems / 2] = {};  // two of 16 bits: in the warp's keys of the digit, then in `ordered`
  CUDAMOE_UNROLL
  for (int i = 0; i < kItems; ++i) {
    const bool valid = item_of<kItems>(i) < tile.count;
    const int digit = digit_of(key[i], pass);
    const uint32_t peers = lanes_of_digit(digit, valid);
    const auto below = static_cast<uint32_t>(count_ones(peers & ((1u << lane) - 1)));
    uint32_t before = 0;
    if (valid) before = own_ranks[digit];
    sync_warp();
    if (valid && below == 0) own_ranks[digit] = static_cast<uint16_t>(before + static_cast<uint32_t>(count_ones(peers)));
    sync_warp();
    rank[i / 2] |= (before + below) << (i % 2 * 16);
  }
  sync_block();

  uint32_t keys_of_digit = 0, unused;
  CUDAMOE_UNROLL
  for (int w = 0; w < kWarps; ++w) {
    const uint32_t in_warp = ranks[w * kMaxDigits + own_digit];
    ranks[w * kMaxDigits + own_digit] = static_cast<uint16_t>(keys_of_digit);
    keys_of_digit += in_warp;
  }
  const uint32_t start = block_exclusive_sum<kSortThreads>(keys_of_digit, &unused);
  const uint32_t digits_before = block_exclusive_sum<kSortThreads>(total, &unused);
  starts[own_digit] = static_cast<uint16_t>(start);
  places[own_digit] = digits_before + in_tiles_before - start;
  sync_block();

  CUDAMOE_UNROLL
  for (int i = 0; i < kItems; ++i) {
    if (item_of<kItems>(i) >= tile.count) continue;
    const int digit = digit_of(key[i], pass);
    const uint32_t before = uint32_t{starts[digit]} + own_ranks[digit];
    rank[i / 2] += i % 2 == 0 ? before : before << 16;
  }
  sync_block();
  CUDAMOE_UNROLL
  for (int i = 0; i < kItems; ++i) {
    if (item_of<kItems>(i) < tile.count) ordered[static_cast<int>(i % 2 == 0 ? rank[i / 2] & 0xFFFFu : rank[i / 2] >> 16)] = key[i];
  }
  sync_block();
  uint64_t* out = to + plan.tables[table_index].first_lookup;
  CUDAMOE_UNROLL
  for (int i = 0; i < kItems; ++i) {
    const int at = i * kSortThreads + thread_x();
    if (at >= tile.count) continue;
    const uint64_t moved = ordered[at];
    out[places[digit_of(moved, pass)] + static_cast<uint32_t>(at)] = moved;
  }
}

template <int kItems>
CUDAMOE_KERNEL(kSortThreads, 2)
scatter_ids_kernel(const CUDAMOE_GRID_CONSTANT EmbeddingPlan plan, const CUDAMOE_GRID_CONSTANT EmbeddingBatch batch,
                   const CUDAMOE_GRID_CONSTANT SortPass pass, uint64_t* to) {
  const int t = table_of_sort_tile(plan, block_x());
  const PlanTable& table = plan.tables[t];
  const SortTile tile = sort_tile_of(pass, table, block_x());
  const TileLookups lookups(plan, batch, table, tile);
  const uint64_t without = static_cast<uint64_t>(table.rows) << 32;
  uint64_t key[kItems];
  if (lookups.alone()) {
    const KeyFeature feature = lookups.feature(lookups.first());
    const int64_t bagged = lookups.bagged(feature, lookups.first()), begin = tile.begin - feature.first_lookup;
    const int32_t* ids = feature.bags.ids + begin;
    CUDAMOE_UNROLL
    for (int i = 0; i < kItems; ++i) {
      const int at = item_of<kItems>(i);
      key[i] = at < tile.count ? static_cast<uint32_t>(load_constant(ids + at)) : 0;
    }
    // Of equal bags, those of the thread's next item are 32 look-ups on.
    const auto bag_size = static_cast<uint32_t>(feature.bags.offsets == nullptr ? feature.bags.bag_size : 1);
    const auto first = static_cast<uint32_t>(begin) + static_cast<uint32_t>(item_of<kItems>(0));
    int64_t bag = first / bag_size;
    uint32_t in_bag = first % bag_size;
    const uint32_t bags_on = kWarp / bag_size, lookups_on = kWarp % bag_size;
    if (feature.bags.offsets != nullptr && bagged > begin)
      bag = block_last_at_most<kSortThreads>(batch.batch, begin, [&](int64_t b) { return load_constant(feature.bags.offsets + b); });
    CUDAMOE_UNROLL
    for (int i = 0; i < kItems; ++i) {
      const int at = item_of<kItems>(i);
      const int64_t position = begin + at;
      if (feature.bags.offsets == nullptr && i > 0) {
        in_bag += lookups_on;
        bag += bags_on;
        if (in_bag >= bag_size) {
          in_bag -= bag_size;
          ++bag;
        }
      }
      if (at >= tile.count || position >= bagged) {
        key[i] = without;
        continue;
      }
      const uint32_t row = lookups.row<false>(feature, position, static_cast<int32_t>(static_cast<uint32_t>(key[i])));
      if (feature.bags.offsets != nullptr) bag = lookups.bag(feature, position, bag);
      key[i] = static_cast<uint64_t>(row) << 32 | (feature.first_slot | static_cast<uint32_t>(bag));
    }
  } else {
    CUDAMOE_UNROLL
    for (int i = 0; i < kItems; ++i) {
      key[i] = without;
      const int at = item_of<kItems>(i);
      if (at >= tile.count) continue;
      const int64_t lookup = tile.begin + at;
      const int f = lookups.feature_of_lookup(lookup);
      const KeyFeature& feature = lookups.feature(f);
      const int64_t position = lookup - feature.first_lookup;
      if (position >= lookups.bagged(feature, f)) continue;
      const uint32_t row = lookups.row<false>(feature, position, load_constant(feature.bags.ids + position));
      const int64_t bag = feature.bags.offsets != nullptr ? lookups.bag(feature, position, 0)
                                                          : static_cast<uint32_t>(position) / static_cast<uint32_t>(feature.bags.bag_size);
      key[i] = static_cast<uint64_t>(row) << 32 | (feature.first_slot | static_cast<uint32_t>(bag));
    }
  }
  scatter<kItems>(plan, pass, t, tile, key, to);
}

template <int kItems>
CUDAMOE_KERNEL(kSortThreads, 2)
scatter_keys_kernel(const CUDAMOE_GRID_CONSTANT EmbeddingPlan plan, const CUDAMOE_GRID_CONSTANT SortPass pass, const uint64_t* from,
                    uint64_t* to) {
  const int t = table_of_sort_tile(plan, block_x());
  const SortTile tile = sort_tile_of(pass, plan.tables[t], block_x());
  const uint64_t* own = from + plan.tables[t].first_lookup + tile.begin;
  uint64_t key[kItems];
  CUDAMOE_UNROLL
  for (int i = 0; i < kItems; ++i) {
    const int at = item_of<kItems>(i);
    key[i] = at < tile.count ? own[at] : 0;
  }
  scatter<kItems>(plan, pass, t, tile, key, to);
}

}  // namespace

cudaError_t embedding_scatter_ids(const EmbeddingPlan& plan, const EmbeddingBatch& batch, const SortPass& pass, uint64_t* to,
                                  cudaStream_t stream) {
  return with_sort_items(pass, [&](auto items) {
    return launch({.name = "embedding_scatter_ids", .grid = {pass.tiles}, .block = {kSortThreads}, .stream = stream},
                  scatter_ids_kernel<decltype(items)::value>, plan, batch, pass, to);
  });
}

cudaError_t embedding_scatter_keys(const EmbeddingPlan& plan, const SortPass& pass, const uint64_t* from, uint64_t* to,
                                   cudaStream_t stream) {
  return with_sort_items(pass, [&](auto items) {
    return launch({.name = "embedding_scatter_keys", .grid = {pass.tiles}, .block = {kSortThreads}, .stream = stream},
                  scatter_keys_kernel<decltype(items)::value>, plan, pass, from, to);
  });
}

}  // namespace cudamoe::kernels
