// The merged gradient itself: for each table the touched rows in ascending order and the sum of the gradients of each row's look-ups.
//
// Floor: keys (8 bytes a pass, written and read), a gradient row per look-up, the result written once.
// Tiling: kTileKeys sorted keys of a table; a row belongs to the tile where its keys begin. A first pass counts the rows of each tile, so
// that each tile knows where its part of the result begins.
#include <algorithm>

#include "cpu/embedding/embedding.h"
#include "cpu/embedding/merge.h"
#include "cpu/embedding/plan.h"
#include "cpu/embedding/tiles.h"

namespace cudamoe::cpu {
namespace {

constexpr int kGroup = 16;

// Tiles that the plan may have, and therefore counts.
int64_t most_tiles(const cudamoe_embedding_gradient_args& args) {
  int64_t tiles = args.table_count;
  for (int32_t f = 0; f < args.feature_count; ++f) tiles += args.features[f].lookups / kTileKeys + 1;
  return tiles;
}

int64_t count_rows(const TablePlan& table, const KeyRange& range) {
  int64_t rows = 0;
  for (int64_t i = range.begin; i < range.end; ++i) rows += i == 0 || row_of(table.sorted[i]) != row_of(table.sorted[i - 1]);
  return rows;
}

// The rows of one tile go to unique_rows and values from their element 0 on.
void write_rows(const MergeTask& task, const KeyRange& range, int32_t* unique_rows, float* values, int64_t values_row_stride) {
  const MergeRows merge = merge_rows_for(*task.table);
  const RowPrefetch prefetch(task, -1);
  const uint64_t* keys = task.table->sorted;
  const int64_t last = task.table->keys - 1;
  int64_t starts[kGroup + 1];
  prefetch.begin(keys, range);
  for (int64_t i = range.begin; i < range.end;) {
    int count = 0;
    for (; count < kGroup && i < range.end; ++count) {
      starts[count] = i;
      const int64_t row = row_of(keys[i]);
      do {
        prefetch.pass(keys, range, i);
        ++i;
      } while (i <= last && row_of(keys[i]) == row);
      *unique_rows++ = static_cast<int32_t>(row);
    }
    starts[count] = i;
    merge(task, starts, count, values, values_row_stride);
    values += count * values_row_stride;
  }
}

}  // namespace

int64_t embedding_gradient_workspace(void* stream, const cudamoe_embedding_gradient_args& args) {
  return plan_bytes(stream_of(stream).device(), embedding_shape(args)) + 8 * most_tiles(args);
}

cudamoe_status embedding_gradient(void* stream_pointer, const cudamoe_embedding_gradient_args& args) {
  Stream& stream = stream_of(stream_pointer);
  const char* function = "cudamoe_embedding_gradient";
  LookupPlan plan = make_plan(stream, function, embedding_shape(args), args.workspace);
  auto* places = reinterpret_cast<int64_t*>(static_cast<char*>(args.workspace) + plan_bytes(stream.device(), embedding_shape(args)));
  BadIds bad;
  sort_lookups(stream.device(), plan, bad);
  bad.report(stream, function, args.tables, args.features);
  for_key_tiles(stream.device(), plan,
                [&](const TablePlan& table, int64_t tile) { places[table.first_tile + tile] = count_rows(table, tile_keys(table, tile)); });
  int64_t start = 0;
  for (int32_t t = 0; t < plan.table_count; ++t) {
    const TablePlan& table = plan.tables[t];
    int64_t place = start;
    for (int64_t tile = 0; tile < tile_count(table); ++tile) {
      const int64_t rows = places[table.first_tile + tile];
      places[table.first_tile + tile] = place;
      place += rows;
    }
    args.counts[t] = place - start;
    start += table.lookups;
  }
  for_key_tiles(stream.device(), plan, [&](const TablePlan& table, int64_t tile) {
    const int64_t place = places[table.first_tile + tile];
    write_rows({&table, args.gradient, args.gradient_row_stride}, tile_keys(table, tile), args.unique_rows + place,
               args.values + place * args.values_row_stride, args.values_row_stride);
  });
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
