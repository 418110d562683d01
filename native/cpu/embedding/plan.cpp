#include "cpu/embedding/plan.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "cpu/embedding/sort.h"

namespace cudamoe::cpu {
namespace {

int64_t round_up(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Hands out consecutive parts of the work space, each aligned to 64 bytes.
class Parts {
 public:
  explicit Parts(void* base) : next_(static_cast<char*>(base)) {}
  template <class T>
  T* take(int64_t count) {
    T* part = reinterpret_cast<T*>(next_);
    next_ += round_up(count * static_cast<int64_t>(sizeof(T)));
    return part;
  }

 private:
  char* next_;
};

FeaturePlan plan_feature(const cudamoe_embedding_feature& feature, int32_t index) {
  const bool mean = feature.pooling == CUDAMOE_POOLING_MEAN;
  const float weight = mean && feature.offsets == nullptr ? 1.0f / static_cast<float>(feature.bag_size) : 1.0f;
  return {feature.ids, feature.offsets, feature.bag_size, feature.column, weight, mean && feature.offsets != nullptr, true, index};
}

// Room for the keys of any one table, a multiple of a cache line.
int64_t scratch_stride(const EmbeddingShape& args) {
  std::vector<int64_t> lookups(static_cast<size_t>(args.table_count), 0);
  for (int32_t f = 0; f < args.feature_count; ++f) lookups[static_cast<size_t>(args.features[f].table)] += args.features[f].lookups;
  return (*std::max_element(lookups.begin(), lookups.end()) + 7) / 8 * 8;
}

int64_t scratch_parts(const Device& device, const EmbeddingShape& args) { return std::min<int64_t>(device.threads(), args.table_count); }

}  // namespace

int64_t plan_bytes(const Device& device, const EmbeddingShape& args) {
  int64_t lookups = 0;
  for (int32_t f = 0; f < args.feature_count; ++f) lookups += args.features[f].lookups;
  return round_up(args.table_count * static_cast<int64_t>(sizeof(TablePlan))) +
         round_up(args.feature_count * static_cast<int64_t>(sizeof(FeaturePlan))) + round_up(parallel_sort_counters(device) * 4) +
         8 * lookups + 64 * args.table_count + 8 * scratch_stride(args) * scratch_parts(device, args);
}

LookupPlan make_plan(Stream& stream, const char* function, const EmbeddingShape& args, void* workspace) {
  Parts parts(workspace);
  LookupPlan plan{parts.take<TablePlan>(args.table_count),
                  args.table_count,
                  args.batch,
                  args.bounds == CUDAMOE_BOUNDS_CLAMP,
                  nullptr,
                  nullptr,
                  scratch_stride(args)};
  FeaturePlan* features = parts.take<FeaturePlan>(args.feature_count);
  plan.counters = parts.take<uint32_t>(parallel_sort_counters(stream.device()));
  plan.scratch = parts.take<uint64_t>(plan.scratch_stride * scratch_parts(stream.device(), args));
  for (int32_t t = 0; t < args.table_count; ++t) {
    plan.tables[t] = {};
    plan.tables[t].table = &args.tables[t];
    plan.tables[t].index = t;
  }
  for (int32_t f = 0; f < args.feature_count; ++f) {
    TablePlan& table = plan.tables[args.features[f].table];
    ++table.feature_count;
    table.lookups += args.features[f].lookups;
  }
  for (int32_t t = 0; t < args.table_count; ++t) {
    TablePlan& table = plan.tables[t];
    table.features = features;
    features += table.feature_count;
    table.feature_count = 0;
    table.sorted = parts.take<uint64_t>(table.lookups);
    table.bag_bits = static_cast<int>(std::bit_width(static_cast<uint64_t>(args.batch)));
  }
  for (int32_t f = 0; f < args.feature_count; ++f) {
    TablePlan& table = plan.tables[args.features[f].table];
    FeaturePlan& feature = table.features[table.feature_count++] = plan_feature(args.features[f], f);
    table.uniform = table.feature_count == 1 && !feature.mean_of_bags;
    feature.good = offsets_are_good(args.features[f], args.batch);
    if (!feature.good) report_bad_offsets(stream, function, f, args.features[f], args.batch);
  }
  return plan;
}

KeyRange tile_keys(const TablePlan& table, int64_t tile) {
  // The first key from `at` on that begins a row.
  const auto row_start = [&](int64_t at) {
    if (at >= table.keys) return table.keys;
    const uint64_t* keys = table.sorted;
    if (at == 0 || row_of(keys[at - 1]) != row_of(keys[at])) return at;
    const uint64_t next_row = (keys[at] | 0xFFFFFFFFu) + 1;
    return static_cast<int64_t>(std::lower_bound(keys + at, keys + table.keys, next_row) - keys);
  };
  return {row_start(tile * kTileKeys), row_start((tile + 1) * kTileKeys)};
}

}  // namespace cudamoe::cpu
