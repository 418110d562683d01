// Tiles of keys: each lies in one table.
#pragma once

#include "common/kernel.cuh"
#include "embedding/embedding.h"
#include "embedding/search.cuh"

namespace cudamoe::kernels {

// The last i of 0 .. count-1 with value(i) <= wanted, where values ascend; 0 when there is none. All threads of the block call it: each
// asks for one value at a time, so that a few thousand need two loads one after the other.
template <int kThreads, class Value>
CUDAMOE_DEVICE int64_t block_last_at_most(int64_t count, int64_t wanted, Value&& value) {
  int64_t low = 0;
  while (count > 1) {
    const int64_t step = ceil_divide<int64_t>(count, kThreads), own = thread_x() * step;
    const int fit = sync_block_count(own < count && (own == 0 || static_cast<int64_t>(value(low + own)) <= wanted) ? 1 : 0);
    const int64_t before = (fit - 1) * step;
    low += before;
    count = count - before < step ? count - before : step;
  }
  return low;
}

struct SortTile {
  int64_t index;  // in its table
  int64_t begin;  // its first key, in its table
  int count;      // its keys
  int64_t tiles;  // of its table
};

CUDAMOE_DEVICE int table_of_sort_tile(const EmbeddingPlan& plan, int64_t tile) {
  return static_cast<int>(
      block_last_at_most<kSortThreads>(plan.table_count, tile, [&](int64_t t) { return plan.tables[t].first_sort_tile; }));
}

CUDAMOE_DEVICE SortTile sort_tile_of(const SortPass& pass, const PlanTable& table, int64_t tile) {
  const int64_t index = tile - table.first_sort_tile, begin = index * pass.tile, left = table.lookups - begin;
  return {index, begin, left < pass.tile ? static_cast<int>(left) : pass.tile, ceil_divide<int64_t>(table.lookups, pass.tile)};
}

}  // namespace cudamoe::kernels
