// The backward of a look-up, planned: which features read which table, and the look-ups of each table sorted by row.
//
// A look-up becomes a 64-bit key, row << 32 | slot, where the slot says whose gradient it takes: feature of the table << bag_bits |
// bag. The keys of a table are made in ascending (feature, look-up) order and sorted stably by row, so a row's look-ups stand in that
// order. The result does not depend on how the sort was carried out.
//
// All arrays lie in the caller's work space.
#pragma once

#include <cstdint>

#include "core/embedding/checks.h"
#include "cpu/device.h"
#include "cpu/embedding/bad_data.h"

namespace cudamoe::cpu {

// A feature as the backward sees it.
struct FeaturePlan {
  const int32_t* ids;
  const int32_t* offsets;  // null: bag_size
  int64_t bag_size;
  int64_t column;
  float weight;       // of a look-up's gradient: 1, or 1 / bag_size for a mean
  bool mean_of_bags;  // the weight is 1 / |bag| instead
  bool good;          // its offsets are; else it has no look-ups
  int32_t index;      // in the caller's list
};

struct TablePlan {
  const cudamoe_embedding_table* table;
  int32_t index;
  int32_t feature_count;
  FeaturePlan* features;
  int64_t lookups;   // of all its features: room for as many keys
  uint64_t* sorted;  // [lookups]
  int64_t keys;      // sorted look-ups: without bad ids, and without ids behind the last offset
  int bag_bits;
  bool uniform;        // one feature, one weight: the gradient row of a key is at slot * stride
  int64_t first_tile;  // set by for_key_tiles
};

struct LookupPlan {
  TablePlan* tables;
  int32_t table_count;
  int64_t batch;
  bool clamp;
  uint32_t* counters;  // of a sort by all threads
  // Keys between two passes of a sort. Each worker that sorts a table has a part of its own, which stays in its cache from table to table.
  uint64_t* scratch;
  int64_t scratch_stride;
};

// Bytes of work space for the plan, a multiple of 64.
int64_t plan_bytes(const Device& device, const EmbeddingShape& args);
// Lays the plan out in the work space. Bad offsets are reported to the stream.
LookupPlan make_plan(Stream& stream, const char* function, const EmbeddingShape& args, void* workspace);
// Sorts the look-ups of all tables: fills `sorted`, sets `keys`. Bad ids are noted.
void sort_lookups(Device& device, const LookupPlan& plan, BadIds& bad);

// Sorted keys lie in tiles of this many; a row belongs to the tile of its first key.
inline constexpr int64_t kTileKeys = 2048;

inline int64_t row_of(uint64_t key) { return static_cast<int64_t>(key >> 32); }

// The keys whose rows begin in tile `tile` of the table: from `begin`, rows starting before `end`.
struct KeyRange {
  int64_t begin, end;
};
KeyRange tile_keys(const TablePlan& table, int64_t tile);
inline int64_t tile_count(const TablePlan& table) { return (table.keys + kTileKeys - 1) / kTileKeys; }

}  // namespace cudamoe::cpu
