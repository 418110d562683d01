#include "cuda/embedding/plan.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace cudamoe::cuda {
namespace {

constexpr int64_t kAlignment = 64;

// The passes of a sort share the bits of a row among them.
struct Digits {
  explicit Digits(uint32_t rows) {
    const int bits = static_cast<int>(std::bit_width(rows));  // of the sentinel as well
    passes = (bits + kernels::kMaxDigitBits - 1) / kernels::kMaxDigitBits;
    width = (bits + passes - 1) / passes;
  }
  int passes, width;
};

int64_t tiles_of(int64_t keys, int64_t tile) { return (keys + tile - 1) / tile; }

}  // namespace

LookupPlan::LookupPlan(const EmbeddingShape& args)
    : args_(args), bag_bits_(static_cast<int>(std::bit_width(static_cast<uint64_t>(args.batch)))) {
  plan_features();
  plan_groups();
  lay_out();
}

// Features in the order of their tables, those of a table in the caller's.
void LookupPlan::plan_features() {
  tables_.resize(static_cast<size_t>(args_.table_count));
  std::vector<int32_t> place(static_cast<size_t>(args_.table_count) + 1, 0);
  for (int32_t f = 0; f < args_.feature_count; ++f) ++place[static_cast<size_t>(args_.features[f].table) + 1];
  for (size_t t = 1; t < place.size(); ++t) place[t] += place[t - 1];
  for (int32_t t = 0; t < args_.table_count; ++t) {
    const cudamoe_embedding_table& table = args_.tables[t];
    tables_[static_cast<size_t>(t)] = {table.weights,
                                       table.state1,
                                       table.state2,
                                       table.row_stride,
                                       0,
                                       static_cast<uint32_t>(table.rows),
                                       place[static_cast<size_t>(t)],
                                       table.dim,
                                       table.dtype == CUDAMOE_BF16 ? 1 : 0,
                                       t,
                                       embedding_lanes(table.dim, 4),
                                       0};
    partial_stride_ = std::max<int64_t>(partial_stride_, (table.dim + 3) / 4 * 4);
  }
  features_.resize(static_cast<size_t>(args_.feature_count));
  for (int32_t f = 0; f < args_.feature_count; ++f) {
    const cudamoe_embedding_feature& feature = args_.features[f];
    const auto t = static_cast<size_t>(feature.table);
    const int32_t at = place[t]++;
    const auto in_table = static_cast<uint64_t>(at - tables_[t].first_feature);
    features_[static_cast<size_t>(at)] = {embedding_bags(feature, args_.tables[t], f), feature.column, 0,
                                          static_cast<uint32_t>(in_table << bag_bits_), 0};
    has_offsets_ = has_offsets_ || feature.offsets != nullptr;
  }
}

void LookupPlan::plan_groups() {
  constexpr int64_t kMostRows = std::numeric_limits<uint32_t>::max();
  int64_t rows = 0, lookups = 0;
  int32_t f = 0;
  for (int32_t t = 0; t < args_.table_count; ++t) {
    kernels::MergeTable& table = tables_[static_cast<size_t>(t)];
    if (groups_.empty() || rows + int64_t{table.rows} > kMostRows) {
      groups_.push_back({t, 0, f, 0, 0, 0});
      rows = 0;
    }
    TableGroup& group = groups_.back();
    table.first_row = static_cast<uint32_t>(rows);
    table.first_lookup = lookups;
    table.first_feature -= group.first_feature;
    rows += int64_t{table.rows};
    group.rows = static_cast<uint32_t>(rows);
    ++group.table_count;
    for (; f < args_.feature_count && features_[static_cast<size_t>(f)].bags.table == t; ++f) {
      kernels::KeyFeature& feature = features_[static_cast<size_t>(f)];
      feature.first_lookup = static_cast<uint32_t>(group.lookups);
      feature.first_row = table.first_row;
      group.lookups += feature.bags.lookups;
      lookups += feature.bags.lookups;
      ++group.feature_count;
    }
  }
}

int64_t LookupPlan::take(int64_t bytes) {
  const int64_t at = bytes_;
  bytes_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return at;
}

void LookupPlan::lay_out() {
  int64_t keys = 0, counts = 0, tiles = 0;
  int32_t tables = 0;
  for (const TableGroup& group : groups_) {
    keys = std::max(keys, group.lookups);
    counts = std::max(counts, tiles_of(group.lookups, kernels::embedding_sort_tile(group.lookups)) << Digits(group.rows).width);
    tiles = std::max(tiles, tiles_of(group.lookups, kernels::embedding_merge_tile(group.lookups)));
    tables = std::max(tables, group.table_count);
  }
  findings_ = take(sizeof(kernels::EmbeddingFindings));
  bad_offset_ = take(4 * args_.feature_count);
  features_at_ = take(static_cast<int64_t>(features_.size() * sizeof(kernels::KeyFeature)));
  tables_at_ = take(static_cast<int64_t>(tables_.size() * sizeof(kernels::MergeTable)));
  keys_[0] = take(8 * keys);
  keys_[1] = take(8 * keys);
  counts_ = take(4 * counts);
  totals_ = take(int64_t{4} << kernels::kMaxDigitBits);
  partials_ = take(2 * tiles * partial_stride_ * 4);
  tile_ranks_ = take(4 * (tiles + 1));
  table_ranks_ = take(int64_t{4} * tables);
}

kernels::EmbeddingBatch LookupPlan::batch(void* workspace, int32_t first_feature) const {
  return {args_.batch, args_.bounds == CUDAMOE_BOUNDS_CLAMP ? 1 : 0, part<kernels::EmbeddingFindings>(workspace, findings_),
          part<uint32_t>(workspace, bad_offset_) + first_feature};
}

cudaError_t LookupPlan::begin(void* workspace, cudaStream_t stream) const {
  std::vector<char> image(static_cast<size_t>(keys_[0]), 0);
  if (!features_.empty())
    std::memcpy(image.data() + features_at_, static_cast<const void*>(features_.data()), features_.size() * sizeof(features_[0]));
  std::memcpy(image.data() + tables_at_, static_cast<const void*>(tables_.data()), tables_.size() * sizeof(tables_[0]));
  const cudaError_t error = kernels::embedding_upload(workspace, image.data(), static_cast<int64_t>(image.size()), stream);
  if (error != cudaSuccess || !has_offsets_) return error;
  return kernels::embedding_check_offsets(part<const kernels::KeyFeature>(workspace, features_at_), args_.feature_count,
                                          batch(workspace, 0), stream);
}

cudaError_t LookupPlan::sort(const TableGroup& group, void* workspace, const float* gradient, int64_t gradient_row_stride,
                             kernels::MergePlan* merge, cudaStream_t stream) const {
  const auto* features = part<const kernels::KeyFeature>(workspace, features_at_) + group.first_feature;
  auto* from = part<uint64_t>(workspace, keys_[0]);
  auto* to = part<uint64_t>(workspace, keys_[1]);
  const Digits digits(group.rows);
  kernels::SortPass pass{group.lookups, 0, digits.width, part<uint32_t>(workspace, counts_), part<uint32_t>(workspace, totals_)};
  cudaError_t error = kernels::embedding_keys({features, group.feature_count, static_cast<uint32_t>(group.lookups), group.rows},
                                              batch(workspace, group.first_feature), from, pass, stream);
  for (int p = 0; p < digits.passes && error == cudaSuccess; ++p) {
    pass.shift = p * digits.width;
    if (p > 0) error = kernels::embedding_histogram(pass, from, stream);
    if (error == cudaSuccess) error = kernels::embedding_scan(pass, stream);
    if (error == cudaSuccess) error = kernels::embedding_scatter(pass, from, to, stream);
    std::swap(from, to);
  }
  *merge = {part<const kernels::MergeTable>(workspace, tables_at_) + group.first_table,
            features,
            group.table_count,
            bag_bits_,
            from,
            group.lookups,
            group.rows,
            kernels::embedding_merge_tile(group.lookups),
            gradient,
            gradient_row_stride,
            part<float>(workspace, partials_),
            partial_stride_};
  return error;
}

cudaError_t LookupPlan::report(void* workspace, kernels::EmbeddingFunction function, kernels::DeviceReport* report,
                               cudaStream_t stream) const {
  if (!has_offsets_ && args_.bounds == CUDAMOE_BOUNDS_CLAMP) return cudaSuccess;
  return kernels::embedding_report(part<const kernels::KeyFeature>(workspace, features_at_), args_.feature_count, batch(workspace, 0),
                                   function, report, stream);
}

}  // namespace cudamoe::cuda
