#include "cuda/embedding/plan.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "cuda/embedding/cache_layout.h"

namespace cudamoe::cuda {
namespace {

constexpr int64_t kAlignment = 64;

int64_t tiles_of(int64_t keys, int64_t tile) { return (keys + tile - 1) / tile; }

bool aligned(const void* pointer, int64_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(bytes) == 0; }

// Whether rows of weights, and of a state of their shape, can be read four elements at a time.
bool whole_rows(const cudamoe_embedding_table& table) {
  const int64_t element = table.dtype == CUDAMOE_BF16 ? 2 : 4;
  return table.row_stride % 4 == 0 && aligned(table.weights, 4 * element) && aligned(table.state1, 16);
}

}  // namespace

LookupPlan::LookupPlan(const EmbeddingShape& args, const cudamoe_embedding_cache* caches)
    : args_(args), bag_bits_(static_cast<int>(std::bit_width(static_cast<uint64_t>(args.batch)))) {
  plan_features();
  plan_tables();
  if (any_cache(caches, args.table_count)) {
    for (int32_t t = 0; t < args.table_count; ++t) caches_.push_back(row_cache(args.tables[t], caches + t));
  }
  lay_out();
}

// Features in the order of their tables, those of a table in the caller's.
void LookupPlan::plan_features() {
  tables_.resize(static_cast<size_t>(args_.table_count));
  for (int32_t f = 0; f < args_.feature_count; ++f) ++tables_[static_cast<size_t>(args_.features[f].table)].feature_count;
  int32_t before = 0;
  for (kernels::PlanTable& table : tables_) {
    table.first_feature = before;
    before += table.feature_count;
    table.feature_count = 0;
  }
  features_.resize(static_cast<size_t>(args_.feature_count));
  for (int32_t f = 0; f < args_.feature_count; ++f) {
    const cudamoe_embedding_feature& feature = args_.features[f];
    kernels::PlanTable& table = tables_[static_cast<size_t>(feature.table)];
    const auto in_table = static_cast<uint64_t>(table.feature_count++);
    features_[static_cast<size_t>(table.first_feature) + in_table] = {embedding_bags(feature, args_.tables[feature.table], f),
                                                                      feature.column, static_cast<uint32_t>(table.lookups),
                                                                      static_cast<uint32_t>(in_table << bag_bits_)};
    table.lookups += feature.lookups;
    if (feature.pooling == CUDAMOE_POOLING_MEAN) table.mean = 1;
    has_offsets_ = has_offsets_ || feature.offsets != nullptr;
    lookups_ += feature.lookups;
  }
}

void LookupPlan::plan_tables() {
  sort_tile_ = kernels::embedding_sort_tile(lookups_);
  merge_tile_ = kernels::embedding_merge_tile(lookups_);
  int bits = 1;
  int64_t lookups = 0;
  for (int32_t t = 0; t < args_.table_count; ++t) {
    const cudamoe_embedding_table& from = args_.tables[t];
    kernels::PlanTable& table = tables_[static_cast<size_t>(t)];
    table.weights = from.weights;
    table.state1 = from.state1;
    table.state2 = from.state2;
    table.row_stride = from.row_stride;
    table.rows = static_cast<uint32_t>(from.rows);
    table.dim = from.dim;
    table.bf16 = from.dtype == CUDAMOE_BF16 ? 1 : 0;
    table.whole_rows = whole_rows(from) ? 1 : 0;
    table.lane_bits = std::countr_zero(static_cast<uint32_t>(embedding_lanes(from.dim, 4)));
    table.first_lookup = lookups;
    table.first_sort_tile = sort_tiles_;
    table.first_merge_tile = merge_tiles_;
    lookups += table.lookups;
    sort_tiles_ += static_cast<int32_t>(tiles_of(table.lookups, sort_tile_));
    merge_tiles_ += static_cast<int32_t>(tiles_of(table.lookups, merge_tile_));
    lane_bits_ = std::max(lane_bits_, table.lane_bits);
    partial_stride_ = std::max<int64_t>(partial_stride_, (table.dim + 3) / 4 * 4);
    if (table.lookups > 0) bits = std::max(bits, static_cast<int>(std::bit_width(table.rows)));  // of the row behind the last as well
  }
  // The passes of the sort share the bits of a row among them.
  passes_ = (bits + kernels::kMaxDigitBits - 1) / kernels::kMaxDigitBits;
  digit_bits_ = (bits + passes_ - 1) / passes_;
}

int64_t LookupPlan::take(int64_t bytes) {
  const int64_t at = bytes_;
  bytes_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return at;
}

void LookupPlan::lay_out() {
  findings_ = take(sizeof(kernels::EmbeddingFindings));
  bad_offset_ = take(4 * args_.feature_count);
  features_at_ = take(static_cast<int64_t>(features_.size() * sizeof(kernels::KeyFeature)));
  tables_at_ = take(static_cast<int64_t>(tables_.size() * sizeof(kernels::PlanTable)));
  caches_at_ = take(static_cast<int64_t>(caches_.size() * sizeof(kernels::RowCache)));
  keys_[0] = take(8 * lookups_);
  keys_[1] = take(8 * lookups_);
  counts_ = take((4 * int64_t{sort_tiles_}) << digit_bits_);
  totals_ = take((4 * int64_t{args_.table_count}) << digit_bits_);
  partials_ = take(2 * merge_tiles_ * partial_stride_ * 4);
  tile_ranks_ = take(4 * (int64_t{merge_tiles_} + 1));
}

kernels::EmbeddingBatch LookupPlan::batch(void* workspace) const {
  return {args_.batch, args_.bounds == CUDAMOE_BOUNDS_CLAMP ? 1 : 0, part<kernels::EmbeddingFindings>(workspace, findings_),
          part<uint32_t>(workspace, bad_offset_)};
}

kernels::EmbeddingPlan LookupPlan::plan(void* workspace) const {
  return {part<const kernels::PlanTable>(workspace, tables_at_), part<const kernels::KeyFeature>(workspace, features_at_),
          args_.table_count, args_.feature_count, caches_.empty() ? nullptr : part<const kernels::RowCache>(workspace, caches_at_)};
}

cudaError_t LookupPlan::begin(void* workspace, const float* gradient, int64_t gradient_row_stride, cudaStream_t stream) {
  for (kernels::PlanTable& table : tables_) {
    table.whole_gradient = aligned(gradient, 16) && gradient_row_stride % 4 == 0 ? 1 : 0;
    for (int32_t f = 0; f < table.feature_count; ++f)
      if (features_[static_cast<size_t>(table.first_feature + f)].column % 4 != 0) table.whole_gradient = 0;
    plain_ = plain_ && table.whole_gradient != 0 && table.whole_rows != 0 && table.dim % 4 == 0 && table.mean == 0;
  }
  std::vector<char> image(static_cast<size_t>(keys_[0]), 0);
  if (!features_.empty())
    std::memcpy(image.data() + features_at_, static_cast<const void*>(features_.data()), features_.size() * sizeof(features_[0]));
  std::memcpy(image.data() + tables_at_, static_cast<const void*>(tables_.data()), tables_.size() * sizeof(tables_[0]));
  if (!caches_.empty())
    std::memcpy(image.data() + caches_at_, static_cast<const void*>(caches_.data()), caches_.size() * sizeof(caches_[0]));
  const cudaError_t error = kernels::embedding_upload(workspace, image.data(), static_cast<int64_t>(image.size()), stream);
  if (error != cudaSuccess || !has_offsets_) return error;
  return kernels::embedding_check_offsets(plan(workspace), batch(workspace), stream);
}

cudaError_t LookupPlan::sort(void* workspace, cudaStream_t stream) const {
  const kernels::EmbeddingPlan features = plan(workspace);
  auto* from = part<uint64_t>(workspace, keys_[1]);
  auto* to = part<uint64_t>(workspace, keys_[0]);
  kernels::SortPass pass{sort_tiles_, sort_tile_, 0, digit_bits_, part<uint32_t>(workspace, counts_), part<uint32_t>(workspace, totals_)};
  cudaError_t error = cudaSuccess;
  for (int p = 0; p < passes_ && error == cudaSuccess; ++p) {
    pass.shift = p * digit_bits_;
    error = p == 0 ? kernels::embedding_count_ids(features, batch(workspace), pass, stream)
                   : kernels::embedding_count_keys(features, pass, from, stream);
    if (error == cudaSuccess) error = kernels::embedding_scan(features, pass, stream);
    if (error == cudaSuccess)
      error = p == 0 ? kernels::embedding_scatter_ids(features, batch(workspace), pass, to, stream)
                     : kernels::embedding_scatter_keys(features, pass, from, to, stream);
    std::swap(from, to);
  }
  return error;
}

kernels::MergePlan LookupPlan::merge(void* workspace, const float* gradient, int64_t gradient_row_stride) const {
  return {plan(workspace),
          bag_bits_,
          merge_tiles_,
          merge_tile_,
          lane_bits_,
          plain_,
          part<const uint64_t>(workspace, keys_[(passes_ + 1) % 2]),
          gradient,
          gradient_row_stride,
          part<float>(workspace, partials_),
          partial_stride_};
}

cudaError_t LookupPlan::report(void* workspace, kernels::EmbeddingFunction function, kernels::DeviceReport* report,
                               cudaStream_t stream) const {
  if (!has_offsets_ && args_.bounds == CUDAMOE_BOUNDS_CLAMP) return cudaSuccess;
  return kernels::embedding_report(plan(workspace), batch(workspace), function, report, stream);
}

}  // namespace cudamoe::cuda
