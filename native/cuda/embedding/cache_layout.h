// Where everything lies in the memory of a cache: counters, tags, times of last use, dirty marks, then the rows and their states.
#pragma once

#include "cuda/embedding/embedding.h"

namespace cudamoe::cuda {

// What an optimiser keeps beside a row.
struct RowStates {
  bool element1, row1;  // state1 with the shape of the weights, or one a row
  bool row2;            // state2

  explicit RowStates(int32_t optimizer)
      : element1(optimizer == CUDAMOE_OPTIMIZER_ADAGRAD || optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAM),
        row1(optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD),
        row2(optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAM) {}
};

class CacheLayout {
 public:
  CacheLayout(const cudamoe_embedding_table& table, const cudamoe_embedding_cache& cache)
      : memory_(cache.memory), states_(cache.optimizer) {
    const int64_t element = table.dtype == CUDAMOE_BF16 ? 2 : 4, places = cache.rows;
    row_stride_ = kernels::cache_row_stride(table.dim);
    sets_ = static_cast<int32_t>(places / kernels::kCacheWays);
    take(sizeof(kernels::CacheCounters));
    tags_ = take(4 * places);
    stamps_ = take(4 * places);
    dirty_ = take(places);
    weights_ = take(places * row_stride_ * element);
    state1_ = take(states_.element1 ? places * row_stride_ * 4 : states_.row1 ? places * 4 : 0);
    state2_ = take(states_.row2 ? places * 4 : 0);
  }

  int64_t bytes() const { return bytes_; }
  const RowStates& states() const { return states_; }
  kernels::CacheCounters* counters() const { return at<kernels::CacheCounters>(0); }
  uint32_t* stamps() const { return at<uint32_t>(stamps_); }
  kernels::RowCache cache() const {
    return {at<uint32_t>(tags_),
            at<uint8_t>(dirty_),
            at<void>(weights_),
            states_.element1 || states_.row1 ? at<float>(state1_) : nullptr,
            states_.row2 ? at<float>(state2_) : nullptr,
            row_stride_,
            sets_};
  }

 private:
  int64_t take(int64_t bytes) {
    constexpr int64_t kAlignment = 64;
    const int64_t start = bytes_;
    bytes_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return start;
  }
  template <class T>
  T* at(int64_t offset) const {
    return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(memory_) + static_cast<uintptr_t>(offset));
  }

  void* memory_;
  RowStates states_;
  int64_t row_stride_, tags_, stamps_, dirty_, weights_, state1_, state2_, bytes_ = 0;
  int32_t sets_;
};

// The cache of a table as operations see it; all zero where it has none.
inline kernels::RowCache row_cache(const cudamoe_embedding_table& table, const cudamoe_embedding_cache* cache) {
  return cache == nullptr || cache->rows == 0 ? kernels::RowCache{} : CacheLayout(table, *cache).cache();
}

// Whether any table has one.
inline bool any_cache(const cudamoe_embedding_cache* caches, int32_t table_count) {
  for (int32_t t = 0; caches != nullptr && t < table_count; ++t)
    if (caches[t].rows > 0) return true;
  return false;
}

}  // namespace cudamoe::cuda
