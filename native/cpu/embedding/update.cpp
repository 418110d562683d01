// The backward of look-ups with the optimiser fused: sort the look-ups by row, sum the gradients of each row, update the row.
//
// Floor: keys (8 bytes a pass, written and read), a gradient row per look-up, weights and state of each touched row read and written once.
// Tiling: kTileKeys sorted keys of a table; a row belongs to the tile where its keys begin, so each row has one owner: no locks, no
// atomics, and the result does not depend on which thread takes which tile. Rows ascend within a tile; gradient, weights and state
// of keys to come are asked for.
#include "cpu/embedding/update.h"

#include <algorithm>

#include "core/optimizer/step_numbers.h"
#include "cpu/embedding/embedding.h"
#include "cpu/embedding/merge.h"
#include "cpu/embedding/plan.h"
#include "cpu/embedding/tiles.h"

namespace cudamoe::cpu {
namespace {

UpdateStep make_step(const cudamoe_embedding_update_args& args) {
  const cudamoe_step_numbers now = current_step(args);
  const RoundingKey key = rounding_key(args.seed, now.step);
  return {
      args.optimizer,      now.learning_rate, args.epsilon,    args.beta1, args.beta2, decay_factor(now.learning_rate, args.weight_decay),
      args.gradient_scale, now.correction1,   now.correction2, key.key0,   key.key1,   key.step};
}

class TableUpdate {
 public:
  TableUpdate(const UpdateStep& step, const MergeTask& task)
      : step_(step),
        task_(task),
        table_(*task.table->table),
        merge_(merge_rows_for(*task.table)),
        update_(update_rows_for(step.optimizer, table_)),
        prefetch_(task, step.optimizer) {}

  void run(const KeyRange& range) const {
    alignas(64) float sums[kGroupFloats];
    const int64_t stride = (table_.dim + 15) / 16 * 16;
    const int group_rows = static_cast<int>(std::clamp<int64_t>(kGroupFloats / 2 / stride, 1, kGroupRows));
    const uint64_t* keys = task_.table->sorted;
    const int64_t last = task_.table->keys - 1;
    int64_t starts[kGroupRows + 1], rows[kGroupRows];
    prefetch_.begin(keys, range);
    for (int64_t i = range.begin; i < range.end;) {
      int count = 0;
      while (count < group_rows && i < range.end) {
        starts[count] = i;
        rows[count] = row_of(keys[i]);
        do {
          prefetch_.pass(keys, range, i);
          ++i;
        } while (i <= last && row_of(keys[i]) == rows[count]);
        ++count;
      }
      starts[count] = i;
      merge_(task_, starts, count, sums, stride);
      update_(step_, {&table_, static_cast<uint32_t>(task_.table->index), count, rows, sums, stride});
    }
  }

 private:
  const UpdateStep& step_;
  const MergeTask& task_;
  const cudamoe_embedding_table& table_;
  MergeRows merge_;
  UpdateRows update_;
  RowPrefetch prefetch_;
};

}  // namespace

int64_t embedding_update_workspace(void* stream, const cudamoe_embedding_update_args& args) {
  return plan_bytes(stream_of(stream).device(), embedding_shape(args));
}

cudamoe_status embedding_update(void* stream_pointer, const cudamoe_embedding_update_args& args) {
  Stream& stream = stream_of(stream_pointer);
  const char* function = "cudamoe_embedding_update";
  LookupPlan plan = make_plan(stream, function, embedding_shape(args), args.workspace);
  BadIds bad;
  sort_lookups(stream.device(), plan, bad);
  bad.report(stream, function, args.tables, args.features);
  if (args.norm != nullptr && !std::isfinite(*args.norm)) return CUDAMOE_OK;
  const UpdateStep step = make_step(args);
  for_key_tiles(stream.device(), plan, [&](const TablePlan& table, int64_t tile) {
    const MergeTask task{&table, args.gradient, args.gradient_row_stride};
    TableUpdate(step, task).run(tile_keys(table, tile));
  });
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
