// Runs over the sorted look-ups of all tables, and what to ask the memory for while doing so.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/embedding/merge.h"
#include "cpu/embedding/plan.h"

namespace cudamoe::cpu {

// Calls body(table, tile) for every tile of every table; the plan must have been sorted.
template <class Body>
void for_key_tiles(Device& device, LookupPlan& plan, Body&& body) {
  int64_t tiles = 0, keys = 0;
  for (int32_t t = 0; t < plan.table_count; ++t) {
    plan.tables[t].first_tile = tiles;
    tiles += tile_count(plan.tables[t]);
    keys += plan.tables[t].keys;
  }
  const TablePlan* tables = plan.tables;
  const int32_t table_count = plan.table_count;
  device.for_tiles(tiles, 10.0 * static_cast<double>(keys), [&](int64_t tile) {
    const TablePlan* table = std::upper_bound(tables, tables + table_count, tile,
                                              [](int64_t value, const TablePlan& other) { return value < other.first_tile; }) -
                             1;
    body(*table, tile - table->first_tile);
  });
}

// Asks for the gradient of a key and for the weights and states that its row needs.
//
// In two steps, because a core has far more requests open between its second-level cache and the memory than between its first-level
// cache and the second: lines are brought to the second level kFarBytes of rows ahead, and from there to the first shortly before use.
class RowPrefetch {
 public:
  // Without an optimiser (-1) only the gradient is asked for.
  RowPrefetch(const MergeTask& task, int32_t optimizer)
      : gradient_(task.gradient), gradient_stride_(task.gradient_row_stride), plan_(*task.table) {
    const cudamoe_embedding_table& table = *plan_.table;
    gradient_bytes_ = int64_t{4} * table.dim;
    far_ = std::clamp<int64_t>(kFarBytes / gradient_bytes_, 16, 96);
    near_ = far_ / 4;
    if (optimizer < 0) return;
    const int64_t element = table.dtype == CUDAMOE_BF16 ? 2 : 4;
    add(table.weights, table.row_stride * element, table.dim * element);
    if (optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD) add(table.state1, 4, 4);
    if (optimizer == CUDAMOE_OPTIMIZER_ADAGRAD || optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAM)
      add(table.state1, table.row_stride * 4, table.dim * 4);
    if (optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAM) add(table.state2, 4, 4);
  }

  // The keys that come before the first one of a range is worked on.
  void begin(const uint64_t* keys, const KeyRange& range) const {
    for (int64_t i = range.begin; i < std::min(range.begin + far_, range.end); ++i) ask<2>(keys[i]);
    for (int64_t i = range.begin; i < std::min(range.begin + near_, range.end); ++i) ask<3>(keys[i]);
  }
  // What comes due when key `i` is passed.
  void pass(const uint64_t* keys, const KeyRange& range, int64_t i) const {
    if (i + near_ >= range.end) return;
    ask<3>(keys[i + near_]);
    if (i + far_ < range.end) ask<2>(keys[i + far_]);
  }

 private:
  static constexpr int64_t kFarBytes = 6144;

  struct Written {
    uintptr_t base;
    int64_t stride, bytes;
  };

  void add(const void* base, int64_t stride, int64_t bytes) { written_[count_++] = {reinterpret_cast<uintptr_t>(base), stride, bytes}; }

  // kLocality as __builtin_prefetch has it: 3 for the first-level cache, 2 for the second.
  template <int kLocality>
  void ask(uint64_t key) const {
    const uint64_t slot = key & 0xFFFFFFFFu;
    const uint64_t feature = slot >> plan_.bag_bits, bag = slot & ((uint64_t{1} << plan_.bag_bits) - 1);
    lines<kLocality>(reinterpret_cast<uintptr_t>(gradient_ + static_cast<int64_t>(bag) * gradient_stride_ + plan_.features[feature].column),
                     gradient_bytes_);
    for (int i = 0; i < count_; ++i)
      lines<kLocality>(written_[i].base + static_cast<uintptr_t>(row_of(key) * written_[i].stride), written_[i].bytes);
  }

  template <int kLocality>
  static void lines(uintptr_t address, int64_t bytes) {
    const uintptr_t end = address + static_cast<uintptr_t>(bytes);
    for (uintptr_t line = address & ~uintptr_t{63}; line < end; line += 64) {
      __builtin_prefetch(reinterpret_cast<const void*>(line), 0, kLocality);
      // GCC 12 and 13 drop calls of functions that do nothing but prefetch, as if they had no effect (GCC bug 109985).
      __asm__ volatile("");
    }
  }

  const float* gradient_;
  int64_t gradient_stride_, gradient_bytes_, far_, near_;
  const TablePlan& plan_;
  Written written_[3];
  int count_ = 0;
};

}  // namespace cudamoe::cpu
