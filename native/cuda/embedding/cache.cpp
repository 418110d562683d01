// Bringing a batch's rows into the caches of their tables, and writing updated rows back.
#include <algorithm>
#include <limits>
#include <vector>

#include "cuda/embedding/cache_layout.h"
#include "cuda/embedding/plan.h"

namespace cudamoe::cuda {
namespace {

using kernels::CacheTable;
using kernels::CacheTables;

constexpr int64_t kMostBlocks = std::numeric_limits<int32_t>::max();

bool aligned(const void* pointer, int64_t stride_bytes) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0 && stride_bytes % 16 == 0; }

int64_t rows_of_set(const cudamoe_embedding_table& table, const cudamoe_embedding_cache& cache) {
  const int64_t sets = cache.rows / kernels::kCacheWays;
  return (table.rows + sets - 1) / sets;
}

CacheTable cache_table(const cudamoe_embedding_table& table, const cudamoe_embedding_cache& cache) {
  const CacheLayout layout(table, cache);
  const RowStates& states = layout.states();
  const int64_t element = table.dtype == CUDAMOE_BF16 ? 2 : 4;
  CacheTable to{};
  to.cache = layout.cache();
  to.counters = layout.counters();
  to.stamps = layout.stamps();
  to.weights = table.weights;
  to.state1 = table.state1;
  to.state2 = table.state2;
  to.row_stride = table.row_stride;
  to.rows_of_set = static_cast<int32_t>(rows_of_set(table, cache));
  to.dim = table.dim;
  to.row_bytes = static_cast<int32_t>(table.dim * (element + (states.element1 ? 4 : 0)) + (states.row1 ? 4 : 0) + (states.row2 ? 4 : 0));
  to.bf16 = table.dtype == CUDAMOE_BF16 ? 1 : 0;
  to.element_state1 = states.element1 ? 1 : 0;
  to.row_state1 = states.row1 ? 1 : 0;
  to.row_state2 = states.row2 ? 1 : 0;
  to.whole_weights = aligned(table.weights, table.row_stride * element) ? 1 : 0;
  to.whole_state1 = aligned(table.state1, table.row_stride * 4) ? 1 : 0;
  return to;
}

// Calls use(list, blocks) with the tables in lists that fit a kernel's parameters.
template <class Use>
cudaError_t for_lists(const std::vector<CacheTable>& tables, Use&& use) {
  cudaError_t error = cudaSuccess;
  for (size_t t = 0; t < tables.size() && error == cudaSuccess;) {
    CacheTables list{};
    int64_t blocks = 0;
    while (t < tables.size() && list.count < kernels::kCacheTables) {
      const int32_t more = kernels::embedding_cache_set_blocks(tables[t].cache.sets);
      if (blocks + more > kMostBlocks) break;
      list.table[list.count] = tables[t++];
      list.table[list.count++].first_block = static_cast<int32_t>(blocks);
      blocks += more;
    }
    error = use(list, static_cast<int32_t>(blocks));
  }
  return error;
}

// The part of a batch that touches tables with a cache, as a backward of tables whose rows stand set by set: its sort is what is needed.
class CachePlan {
 public:
  explicit CachePlan(const cudamoe_embedding_cache_prepare_args& args) : args_(args) {
    std::vector<int32_t> place(static_cast<size_t>(args.table_count), -1);
    for (int32_t t = 0; t < args.table_count; ++t) {
      if (args.caches[t].rows == 0) continue;
      place[static_cast<size_t>(t)] = static_cast<int32_t>(sources_.size());
      sources_.push_back(t);
      cudamoe_embedding_table table{};
      table.rows = args.caches[t].rows / kernels::kCacheWays * rows_of_set(args.tables[t], args.caches[t]);
      table.row_stride = table.dim = 1;
      tables_.push_back(table);
    }
    lookups_.resize(sources_.size());
    for (int32_t f = 0; f < args.feature_count; ++f) {
      const cudamoe_embedding_feature& from = args.features[f];
      const int32_t table = place[static_cast<size_t>(from.table)];
      if (table < 0 || from.lookups == 0) continue;
      cudamoe_embedding_feature feature{};
      feature.ids =
          reinterpret_cast<const int32_t*>(reinterpret_cast<uintptr_t>(args.workspace) + 4 * static_cast<uintptr_t>(all_lookups_));
      feature.bag_size = 1;
      feature.table = table;
      feature.lookups = from.lookups;
      all_lookups_ += from.lookups;
      lookups_[static_cast<size_t>(table)] += from.lookups;
      given_.push_back(f);
      features_.push_back(feature);
    }
    plan_at_ = (4 * all_lookups_ + 63) / 64 * 64;
  }

  bool empty() const { return all_lookups_ == 0; }
  int64_t workspace_bytes() const { return empty() ? 0 : plan_at_ + plan().workspace_bytes(); }

  cudaError_t run(const Stream& stream) const {
    cudaError_t error = write_ids(stream.get());
    LookupPlan sorting = plan();
    void* workspace = static_cast<char*>(args_.workspace) + plan_at_;
    if (error == cudaSuccess) error = sorting.begin(workspace, nullptr, 0, stream.get());
    if (error == cudaSuccess) error = sorting.sort(workspace, stream.get());
    if (error != cudaSuccess) return error;
    const uint64_t* keys = sorting.merge(workspace, nullptr, 0).keys;
    std::vector<CacheTable> tables;
    for (size_t i = 0; i < sources_.size(); ++i) {
      CacheTable table = cache_table(args_.tables[sources_[i]], args_.caches[sources_[i]]);
      table.keys = keys;
      table.lookups = lookups_[i];
      keys += lookups_[i];
      if (table.lookups > 0) tables.push_back(table);
    }
    return for_lists(tables,
                     [&](const CacheTables& list, int32_t blocks) { return kernels::embedding_cache_place(list, blocks, stream.get()); });
  }

 private:
  // Bad ids of the sort's features are those that were bad in the caller's: nothing is reported here.
  LookupPlan plan() const {
    return LookupPlan({static_cast<int32_t>(tables_.size()), static_cast<int32_t>(features_.size()), args_.batch, tables_.data(),
                       features_.data(), CUDAMOE_BOUNDS_REPORT});
  }

  cudaError_t write_ids(cudaStream_t stream) const {
    const kernels::EmbeddingBatch batch{args_.batch, args_.bounds == CUDAMOE_BOUNDS_CLAMP ? 1 : 0, nullptr, nullptr};
    cudaError_t error = cudaSuccess;
    for (size_t f = 0; f < features_.size() && error == cudaSuccess;) {
      kernels::CacheFeatures list{};
      int64_t blocks = 0;
      while (f < features_.size() && list.count < kernels::kCacheFeatures) {
        const int32_t more = kernels::embedding_cache_id_blocks(features_[f].lookups);
        if (blocks + more > kMostBlocks) break;
        const cudamoe_embedding_feature& from = args_.features[given_[f]];
        const int32_t source = sources_[static_cast<size_t>(features_[f].table)];
        const cudamoe_embedding_table& table = args_.tables[source];
        const cudamoe_embedding_cache& cache = args_.caches[source];
        list.feature[list.count++] = {embedding_bags(from, table, given_[f]), const_cast<int32_t*>(features_[f].ids),
                                      static_cast<int32_t>(cache.rows / kernels::kCacheWays),
                                      static_cast<int32_t>(rows_of_set(table, cache)), static_cast<int32_t>(blocks)};
        blocks += more;
        ++f;
      }
      error = kernels::embedding_cache_ids(list, batch, static_cast<int32_t>(blocks), stream);
    }
    return error;
  }

  cudamoe_embedding_cache_prepare_args args_;
  std::vector<int32_t> sources_;  // of the tables, in the caller's list
  std::vector<int64_t> lookups_;
  std::vector<int32_t> given_;  // of the features
  std::vector<cudamoe_embedding_table> tables_;
  std::vector<cudamoe_embedding_feature> features_;
  int64_t all_lookups_ = 0, plan_at_ = 0;
};

}  // namespace

int64_t embedding_cache_bytes(void*, const cudamoe_embedding_cache_flush_args& args) {
  return CacheLayout(args.tables[0], args.caches[0]).bytes();
}

int64_t embedding_cache_prepare_workspace(void*, const cudamoe_embedding_cache_prepare_args& args) {
  return CachePlan(args).workspace_bytes();
}

cudamoe_status embedding_cache_prepare(void* handle, const cudamoe_embedding_cache_prepare_args& args) {
  const Stream& stream = stream_of(handle);
  const CachePlan plan(args);
  return stream.check(plan.empty() ? cudaSuccess : plan.run(stream), "cudamoe_embedding_cache_prepare");
}

cudamoe_status embedding_cache_flush(void* handle, const cudamoe_embedding_cache_flush_args& args) {
  const Stream& stream = stream_of(handle);
  std::vector<CacheTable> tables;
  for (int32_t t = 0; t < args.table_count; ++t)
    if (args.caches[t].rows > 0) tables.push_back(cache_table(args.tables[t], args.caches[t]));
  const cudaError_t error = for_lists(
      tables, [&](const CacheTables& list, int32_t blocks) { return kernels::embedding_cache_flush(list, blocks, stream.get()); });
  return stream.check(error, "cudamoe_embedding_cache_flush");
}

}  // namespace cudamoe::cuda
