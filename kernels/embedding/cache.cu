// The cache of a table's hot rows: which rows of a batch are in it, which come in, which leave, and the copies between it and the table in
// host memory.
//
// A batch's look-ups are sorted (sort.cu) not by row but by  place(row) = (row % sets) * rows_of_set + row / sets,  which numbers the rows
// of a set one after the other, so that each set finds its rows of the batch side by side and in ascending order, duplicates in one run.
// For each set then
//   hit     = rows of the batch that a tag names; they stay, with this batch as the time of their last use
//   free    = the other places: empty ones first, then by the time of their last use, the oldest first, the lowest of equals first
//   missing = rows of the batch without a place, ascending: the i-th takes the i-th free place, the row there leaves; it is written back if
//             an update has changed it. Missing rows beyond the free places stay in the table.
// All of it follows from the keys and from what the batches before left, so neither the order of blocks nor of lanes can be seen. Counters
// are sums of integers.
//
// Floor: the rows that come in and go out, read and written once, over the bus where the table is in host memory; ids once (4 bytes a
// look-up), beside the sort: the tags and times of the sets (8 bytes a place) and a key of each run.
// Tiling: ids by blocks of 256 threads, 1024 ids each; sets by groups of kCacheWays lanes, a lane a place, 16 groups a block of 128
// threads. A group skips a run of equal keys by doubling steps. It moves a row by 16 bytes a lane, up to four at a time, where row and
// table are aligned. Shared memory: 20 bytes. No sums of floats.
#include "embedding/bags.cuh"
#include "embedding/cache.cuh"
#include "embedding/search.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kIdsOfBlock = 4 * kEmbeddingThreads;
constexpr int kSetThreads = 128;
constexpr int kSetsOfBlock = kSetThreads / kCacheWays;
constexpr int kInFlight = 4;
constexpr int32_t kNoIncoming = -1;

CUDAMOE_KERNEL(kEmbeddingThreads, 4)
cache_ids_kernel(const CUDAMOE_GRID_CONSTANT CacheFeatures features, const CUDAMOE_GRID_CONSTANT EmbeddingBatch batch) {
  const auto f =
      static_cast<int>(last_at_most(0, features.count - 1, block_x(), [&](int64_t i) { return features.feature[i].first_block; }));
  const CacheFeature& feature = features.feature[f];
  const EmbeddingBags& bags = feature.bags;
  int64_t bagged = bags.lookups;
  if (bags.offsets != nullptr) bagged = load_constant(bags.offsets + batch.batch);
  const int64_t first = int64_t{block_x() - feature.first_block} * kIdsOfBlock;
  CUDAMOE_UNROLL
  for (int i = 0; i < kIdsOfBlock / kEmbeddingThreads; ++i) {
    const int64_t position = first + i * kEmbeddingThreads + thread_x();
    if (position >= bags.lookups) continue;
    const int32_t row = position < bagged ? row_of_id(batch, bags, load_constant(bags.ids + position)) : kBadRow;
    feature.to[position] = row == kBadRow ? kBadRow : row % feature.sets * feature.rows_of_set + row / feature.sets;
  }
}

CUDAMOE_KERNEL(kWarp, 1) cache_advance_kernel(const CUDAMOE_GRID_CONSTANT CacheTables tables) {
  const int t = thread_x();
  if (t < tables.count) ++tables.table[t].counters->batches;
}

CUDAMOE_DEVICE int64_t place_of_key(uint64_t key) { return static_cast<int64_t>(key >> 32); }

// The first key of another row than that of key i.
CUDAMOE_DEVICE int64_t end_of_run(const uint64_t* keys, int64_t count, int64_t i) {
  const int64_t row = place_of_key(keys[i]);
  int64_t step = 1;
  while (i + step < count && place_of_key(keys[i + step]) == row) {
    i += step;
    step *= 2;
  }
  const int64_t high = i + step < count ? i + step - 1 : count - 1;
  return last_at_most(i, high, row, [&](int64_t at) { return place_of_key(keys[at]); }) + 1;
}

// A row by the lanes of a group; `whole`: both begin at a multiple of 16 bytes.
template <class T>
CUDAMOE_DEVICE void copy_row(T* to, const T* from, int elements, bool whole, int lane) {
  constexpr int kN = 16 / static_cast<int>(sizeof(T)), kStep = kCacheWays * kN;
  const int end = whole ? elements / kN * kN : 0;
  for (int base = lane * kN; base < end; base += kInFlight * kStep) {
    Vector<T, kN> piece[kInFlight];
    CUDAMOE_UNROLL
    for (int r = 0; r < kInFlight; ++r) {
      piece[r] = {};
      if (base + r * kStep < end) piece[r] = load<kN>(from + base + r * kStep);
    }
    CUDAMOE_UNROLL
    for (int r = 0; r < kInFlight; ++r) {
      if (base + r * kStep < end) store(to + base + r * kStep, piece[r]);
    }
  }
  for (int i = end + lane; i < elements; i += kCacheWays) to[i] = from[i];
}

// A row and its states between its table and a place of the cache.
template <bool kIntoCache>
CUDAMOE_DEVICE void move_row(const CacheTable& table, int32_t row, int64_t place, int lane) {
  const RowCache& cache = table.cache;
  const auto copy = [&](auto* in_table, auto* in_cache, int elements, bool whole) {
    if constexpr (kIntoCache) {
      copy_row(in_cache, in_table, elements, whole, lane);
    } else {
      copy_row(in_table, in_cache, elements, whole, lane);
    }
  };
  const int64_t in_table = row * table.row_stride, in_cache = place * cache.row_stride;
  if (table.bf16 != 0) {
    copy(static_cast<Bf16*>(table.weights) + in_table, static_cast<Bf16*>(cache.weights) + in_cache, table.dim, table.whole_weights != 0);
  } else {
    copy(static_cast<float*>(table.weights) + in_table, static_cast<float*>(cache.weights) + in_cache, table.dim, table.whole_weights != 0);
  }
  if (table.element_state1 != 0)
    copy(table.state1 + in_table, cache.state1 + in_cache, table.dim, table.whole_state1 != 0);
  else if (table.row_state1 != 0)
    copy(table.state1 + row, cache.state1 + place, 1, false);
  if (table.row_state2 != 0) copy(table.state2 + row, cache.state2 + place, 1, false);
}

// What the lanes of the places of a set do. All lanes of the warp move the rows of their groups together.
struct SetLane {
  int64_t place;    // of the lane
  int32_t leaving;  // row that is written back from it, or kNoIncoming
  int32_t incoming;
};

CUDAMOE_DEVICE void move_rows(const CacheTable& table, const SetLane& own) {
  const int lane = lane_id() % kCacheWays, first = lane_id() - lane;
  for (int way = 0; way < kCacheWays; ++way) {
    const int32_t leaving = shuffle(kFullWarp, own.leaving, first + way), incoming = shuffle(kFullWarp, own.incoming, first + way);
    const int64_t place = own.place - lane + way;
    if (leaving != kNoIncoming) move_row<false>(table, leaving, place, lane);
    if (incoming != kNoIncoming) move_row<true>(table, incoming, place, lane);
  }
}

CUDAMOE_DEVICE const CacheTable& table_of_block(const CacheTables& tables, int block) {
  return tables.table[last_at_most(0, tables.count - 1, block, [&](int64_t t) { return tables.table[t].first_block; })];
}

CUDAMOE_DEVICE int64_t set_of_group(const CacheTable& table, int block) {
  return int64_t{block - table.first_block} * kSetsOfBlock + thread_x() / kCacheWays;
}

// The bits of the lane's group.
CUDAMOE_DEVICE uint32_t of_group(uint32_t lanes) { return lanes >> (lane_id() / kCacheWays * kCacheWays) & ((1u << kCacheWays) - 1); }

constexpr int kHits = 0, kMisses = 1, kBypasses = 2, kEvictions = 3, kWritten = 4, kTotals = 5;

// Adds what each lane counted to the counters of the table. All threads of the block.
CUDAMOE_DEVICE void add_totals(const CacheTable& table, const uint32_t (&own)[kTotals]) {
  CUDAMOE_SHARED(uint32_t, totals, [kTotals]);
  if (thread_x() < kTotals) totals[thread_x()] = 0;
  sync_block();
  CUDAMOE_UNROLL
  for (int i = 0; i < kTotals; ++i) {
    const uint32_t sum = reduce_add(kFullWarp, own[i]);
    if (lane_id() == 0 && sum != 0) atomic_add(&totals[i], sum);
  }
  sync_block();
  if (thread_x() != 0) return;
  CacheCounters& counters = *table.counters;
  const auto add = [&](uint64_t& counter, int total, uint32_t factor) {
    const uint32_t sum = totals[total];
    if (sum != 0) atomic_add(&counter, uint64_t{sum} * factor);
  };
  const auto row_bytes = static_cast<uint32_t>(table.row_bytes);
  add(counters.hits, kHits, 1);
  add(counters.misses, kMisses, 1);
  add(counters.bypasses, kBypasses, 1);
  add(counters.evictions, kEvictions, 1);
  add(counters.bytes_in, kMisses, row_bytes);
  add(counters.bytes_out, kWritten, row_bytes);
}

CUDAMOE_KERNEL(kSetThreads, 4) cache_place_kernel(const CUDAMOE_GRID_CONSTANT CacheTables tables) {
  const CacheTable& table = table_of_block(tables, block_x());
  const int way = lane_id() % kCacheWays, group = lane_id() - way;
  const int64_t set = set_of_group(table, block_x()), place = set * kCacheWays + way;
  const bool live = set < table.cache.sets;
  const auto clock = static_cast<uint32_t>(table.counters->batches);
  uint32_t tag = 0, stamp = 0;
  bool changed = false;
  int64_t i = 0, limit = 0;
  if (live) {
    tag = table.cache.tags[place];
    stamp = table.stamps[place];
    changed = table.cache.dirty[place] != 0;
    const int64_t first = set * table.rows_of_set;
    limit = first + table.rows_of_set;
    i = table.lookups;
    if (place_of_key(table.keys[table.lookups - 1]) >= first) {
      // The first key of the set: behind the last one below it.
      i = last_at_most(0, table.lookups - 1, first - 1, [&](int64_t at) { return place_of_key(table.keys[at]); });
      if (place_of_key(table.keys[i]) < first) ++i;
    }
  }

  // The batch's rows of the set. The lane of way w keeps the w-th that is missing.
  bool used = false;
  int32_t missing = kNoIncoming;
  uint32_t hits = 0, misses = 0;
  while (true) {
    int64_t at = -1;
    if (live && i < table.lookups) at = place_of_key(table.keys[i]);
    const bool more = at >= 0 && at < limit;
    if (!any_lane(kFullWarp, more)) break;
    const auto row = static_cast<int32_t>((at - set * table.rows_of_set) * table.cache.sets + set);
    const bool here = more && tag == static_cast<uint32_t>(row) + 1;
    const bool hit = of_group(ballot(kFullWarp, here)) != 0;
    if (!more) continue;
    used = used || here;
    if (!hit && misses == static_cast<uint32_t>(way)) missing = row;
    hit ? ++hits : ++misses;
    i = end_of_run(table.keys, table.lookups, i);
  }

  // How long the lane's row has not been used: 0 for one that has to stay, the most for an empty place.
  uint32_t age = 0;
  if (live && !used) {
    age = tag == 0 ? ~0u : clock - stamp;
    age = age == 0 ? 1 : age;
  }
  int before = 0;  // free places that are taken before the lane's
  for (int w = 0; w < kCacheWays; ++w) {
    const uint32_t other = shuffle(kFullWarp, age, group + w);
    if (other > age || (other == age && w < way)) ++before;
  }
  const auto free_places = static_cast<uint32_t>(count_ones(of_group(ballot(kFullWarp, age != 0))));
  const int32_t candidate = shuffle(kFullWarp, missing, group + before % kCacheWays);
  const bool takes = age != 0 && static_cast<uint32_t>(before) < misses;
  const bool evicts = takes && tag != 0, writes = evicts && changed;
  const SetLane own{place, writes ? static_cast<int32_t>(tag - 1) : kNoIncoming, takes ? candidate : kNoIncoming};
  move_rows(table, own);
  if (takes) {
    table.cache.tags[place] = static_cast<uint32_t>(candidate) + 1;
    table.cache.dirty[place] = 0;
  }
  if (takes || used) table.stamps[place] = clock;
  const uint32_t once = way == 0 ? 1 : 0;
  const uint32_t counted[kTotals] = {once * hits, takes ? 1u : 0u, once * (misses > free_places ? misses - free_places : 0),
                                     evicts ? 1u : 0u, writes ? 1u : 0u};
  add_totals(table, counted);
}

CUDAMOE_KERNEL(kSetThreads, 4) cache_flush_kernel(const CUDAMOE_GRID_CONSTANT CacheTables tables) {
  const CacheTable& table = table_of_block(tables, block_x());
  const int64_t set = set_of_group(table, block_x()), place = set * kCacheWays + lane_id() % kCacheWays;
  uint32_t tag = 0;
  bool writes = false;
  if (set < table.cache.sets) {
    tag = table.cache.tags[place];
    writes = tag != 0 && table.cache.dirty[place] != 0;
  }
  move_rows(table, {place, writes ? static_cast<int32_t>(tag - 1) : kNoIncoming, kNoIncoming});
  if (writes) table.cache.dirty[place] = 0;
  const uint32_t counted[kTotals] = {0, 0, 0, 0, writes ? 1u : 0u};
  add_totals(table, counted);
}

}  // namespace

int32_t embedding_cache_id_blocks(int64_t lookups) { return static_cast<int32_t>(ceil_divide<int64_t>(lookups, kIdsOfBlock)); }

int32_t embedding_cache_set_blocks(int64_t sets) { return static_cast<int32_t>(ceil_divide<int64_t>(sets, kSetsOfBlock)); }

cudaError_t embedding_cache_ids(const CacheFeatures& features, const EmbeddingBatch& batch, int32_t blocks, cudaStream_t stream) {
  return launch({.name = "embedding_cache_ids", .grid = {blocks}, .block = {kEmbeddingThreads}, .stream = stream}, cache_ids_kernel,
                features, batch);
}

cudaError_t embedding_cache_place(const CacheTables& tables, int32_t blocks, cudaStream_t stream) {
  const cudaError_t error =
      launch({.name = "embedding_cache_advance", .grid = {1}, .block = {kWarp}, .stream = stream}, cache_advance_kernel, tables);
  if (error != cudaSuccess) return error;
  return launch({.name = "embedding_cache_place", .grid = {blocks}, .block = {kSetThreads}, .stream = stream}, cache_place_kernel, tables);
}

cudaError_t embedding_cache_flush(const CacheTables& tables, int32_t blocks, cudaStream_t stream) {
  return launch({.name = "embedding_cache_flush", .grid = {blocks}, .block = {kSetThreads}, .stream = stream}, cache_flush_kernel, tables);
}

}  // namespace cudamoe::kernels
