// The backward of a look-up, planned on the host: which features read which table, which tables are sorted together, and where everything
// lies in the caller's work space.
#pragma once

#include <cstdint>
#include <vector>

#include "core/embedding/checks.h"
#include "cuda/embedding/embedding.h"

namespace cudamoe::cuda {

// Consecutive tables that are sorted together, and their features.
struct TableGroup {
  int32_t first_table, table_count, first_feature, feature_count;
  int64_t lookups;
  uint32_t rows;
};

class LookupPlan {
 public:
  explicit LookupPlan(const EmbeddingShape& args);

  const std::vector<TableGroup>& groups() const { return groups_; }
  bool has_offsets() const { return has_offsets_; }

  int64_t workspace_bytes() const { return bytes_; }

  // Lays the plan out in the work space, which every call below takes, and checks the offsets.
  cudaError_t begin(void* workspace, cudaStream_t stream) const;
  // Sorts the look-ups of a group; what to merge. Groups use the same memory, one after the other.
  cudaError_t sort(const TableGroup& group, void* workspace, const float* gradient, int64_t gradient_row_stride, kernels::MergePlan* merge,
                   cudaStream_t stream) const;
  // Memory for the ranks of a merged gradient.
  uint32_t* tile_ranks(void* workspace) const { return part<uint32_t>(workspace, tile_ranks_); }
  uint32_t* table_ranks(void* workspace) const { return part<uint32_t>(workspace, table_ranks_); }
  // Tells the host what was found.
  cudaError_t report(void* workspace, kernels::EmbeddingFunction function, kernels::DeviceReport* report, cudaStream_t stream) const;

 private:
  void plan_features();
  void plan_groups();
  void lay_out();
  int64_t take(int64_t bytes);
  kernels::EmbeddingBatch batch(void* workspace, int32_t first_feature) const;

  template <class T>
  static T* part(void* workspace, int64_t offset) {
    return reinterpret_cast<T*>(static_cast<char*>(workspace) + offset);
  }

  EmbeddingShape args_;
  std::vector<kernels::KeyFeature> features_;  // in the order of their tables
  std::vector<kernels::MergeTable> tables_;
  std::vector<TableGroup> groups_;
  bool has_offsets_ = false;
  int bag_bits_ = 0;
  int64_t partial_stride_ = 0;
  // Offsets of the parts of the work space. The plan proper, up to keys_, is uploaded.
  int64_t findings_ = 0, bad_offset_ = 0, features_at_ = 0, tables_at_ = 0, keys_[2] = {}, counts_ = 0, totals_ = 0, partials_ = 0,
          tile_ranks_ = 0, table_ranks_ = 0, bytes_ = 0;
};

}  // namespace cudamoe::cuda
