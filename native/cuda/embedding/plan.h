// The backward of a look-up, planned on the host: which features read which table, the tiles of each table, and where everything lies in
// the caller's work space.
#pragma once

#include <cstdint>
#include <vector>

#include "core/embedding/checks.h"
#include "cuda/embedding/embedding.h"

namespace cudamoe::cuda {

class LookupPlan {
 public:
  // caches: of each table, or null.
  explicit LookupPlan(const EmbeddingShape& args, const cudamoe_embedding_cache* caches = nullptr);

  int64_t workspace_bytes() const { return bytes_; }
  int64_t lookups() const { return lookups_; }

  // Lays the plan out in the work space, which every call below takes, and checks the offsets.
  cudaError_t begin(void* workspace, const float* gradient, int64_t gradient_row_stride, cudaStream_t stream);
  // Sorts the look-ups by table and row.
  cudaError_t sort(void* workspace, cudaStream_t stream) const;
  // What to merge once they are sorted.
  kernels::MergePlan merge(void* workspace, const float* gradient, int64_t gradient_row_stride) const;
  // Memory for the ranks of a merged gradient.
  uint32_t* tile_ranks(void* workspace) const { return part<uint32_t>(workspace, tile_ranks_); }
  // Tells the host what was found.
  cudaError_t report(void* workspace, kernels::EmbeddingFunction function, kernels::DeviceReport* report, cudaStream_t stream) const;

 private:
  void plan_features();
  void plan_tables();
  void lay_out();
  int64_t take(int64_t bytes);
  kernels::EmbeddingBatch batch(void* workspace) const;
  kernels::EmbeddingPlan plan(void* workspace) const;

  template <class T>
  static T* part(void* workspace, int64_t offset) {
    return reinterpret_cast<T*>(static_cast<char*>(workspace) + offset);
  }

  EmbeddingShape args_;
  std::vector<kernels::KeyFeature> features_;  // in the order of their tables
  std::vector<kernels::PlanTable> tables_;
  std::vector<kernels::RowCache> caches_;  // of each table; empty: none has one
  bool has_offsets_ = false, plain_ = true;
  int bag_bits_ = 0, passes_ = 0, digit_bits_ = 0, sort_tile_ = 0, merge_tile_ = 0, lane_bits_ = 0;
  int32_t sort_tiles_ = 0, merge_tiles_ = 0;
  int64_t lookups_ = 0, partial_stride_ = 0;
  // Offsets of the parts of the work space. The plan proper, up to keys_, is uploaded.
  int64_t findings_ = 0, bad_offset_ = 0, features_at_ = 0, tables_at_ = 0, caches_at_ = 0, keys_[2] = {}, counts_ = 0, totals_ = 0,
          partials_ = 0, tile_ranks_ = 0, bytes_ = 0;
};

}  // namespace cudamoe::cuda
