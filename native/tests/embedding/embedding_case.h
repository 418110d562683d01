// Embedding data of a test on a device: tables, features and the argument structs that name them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "reference/embedding.h"
#include "support/buffer.h"
#include "support/random.h"
#include "support/test_device.h"

namespace cudamoe::test {

// What a random case is made of.
struct CaseShape {
  int64_t batch = 7;
  std::vector<int32_t> dims{16};        // one table each
  std::vector<int64_t> rows{50};        // cycled over the tables
  std::vector<int32_t> bag_sizes{1};    // one feature each; 0: bags of 0 .. 5 by offsets
  std::vector<int32_t> feature_tables;  // cycled over the features; empty: feature f reads table f % tables
  std::vector<int32_t> poolings{CUDAMOE_POOLING_SUM};
  std::vector<int32_t> dtypes{CUDAMOE_F32};
  int64_t stride_extra = 0;  // row_stride - dim
  int64_t gap = 0;           // columns between features
  bool integers = true;
};

EmbeddingData make_case(Random& random, const CaseShape& shape);

// The data in device memory, tables and states at `place`. `state1` and `state2` have the shapes that `optimizer` wants and start at
// `state` in all elements.
class EmbeddingCase {
 public:
  EmbeddingCase(TestDevice& device, const EmbeddingData& data, int32_t optimizer = CUDAMOE_OPTIMIZER_SGD, float state = 0,
                Place place = Place::kDevice);

  const std::vector<cudamoe_embedding_table>& tables() const { return tables_; }
  const std::vector<cudamoe_embedding_feature>& features() const { return features_; }
  std::vector<cudamoe_embedding_table>& tables() { return tables_; }
  std::vector<cudamoe_embedding_feature>& features() { return features_; }

  std::vector<float> weights(int32_t table) const;
  std::vector<float> state1(int32_t table) const { return state1_[static_cast<size_t>(table)].get(); }
  std::vector<float> state2(int32_t table) const { return state2_[static_cast<size_t>(table)].get(); }
  bool guards_intact() const;

  // Sets the members that the three operations share.
  template <class Args>
  Args args(int32_t bounds = CUDAMOE_BOUNDS_REPORT) const {
    Args args{};
    args.struct_size = sizeof args;
    args.table_count = static_cast<int32_t>(tables_.size());
    args.feature_count = static_cast<int32_t>(features_.size());
    args.batch = data_.batch;
    args.tables = tables_.data();
    args.features = features_.data();
    args.bounds = bounds;
    return args;
  }
  cudamoe_embedding_update_args update_args(const EmbeddingOptimizer& optimizer, const Buffer<float>& gradient, int64_t gradient_row_stride,
                                            int32_t bounds = CUDAMOE_BOUNDS_REPORT) const;

  // One update with a work space of exactly the size asked for.
  cudamoe_status update(cudamoe_embedding_update_args args) const;

  struct Gradient {
    std::vector<int64_t> counts;
    std::vector<int32_t> rows;
    std::vector<float> values;
    int64_t row_stride = 0;
  };
  // The merged gradient; guards and untouched parts are checked.
  Gradient gradient(const Buffer<float>& gradient, int64_t gradient_row_stride, int32_t bounds = CUDAMOE_BOUNDS_REPORT) const;

 private:
  TestDevice& device_;
  EmbeddingData data_;
  std::vector<Buffer<float>> weights_f32_, state1_, state2_;
  std::vector<Buffer<uint16_t>> weights_bf16_;
  std::vector<Buffer<int32_t>> ids_, offsets_;
  std::vector<cudamoe_embedding_table> tables_;
  std::vector<cudamoe_embedding_feature> features_;
};

}  // namespace cudamoe::test
