#include "embedding/embedding_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "support/compare.h"

namespace cudamoe::test {

EmbeddingData make_case(Random& random, const CaseShape& shape) {
  EmbeddingData data;
  data.batch = shape.batch;
  for (size_t t = 0; t < shape.dims.size(); ++t) {
    TableData table;
    table.rows = shape.rows[t % shape.rows.size()];
    table.dim = shape.dims[t];
    table.row_stride = table.dim + shape.stride_extra;
    table.dtype = shape.dtypes[t % shape.dtypes.size()];
    const int64_t count = table.rows * table.row_stride;
    table.weights = shape.integers ? random.integers(count) : random.reals(count);
    if (table.dtype == CUDAMOE_BF16) table.weights = rounded_to_bf16(table.weights);
    data.tables.push_back(std::move(table));
  }
  for (size_t f = 0; f < shape.bag_sizes.size(); ++f) {
    FeatureData feature;
    feature.table =
        shape.feature_tables.empty() ? static_cast<int32_t>(f % data.tables.size()) : shape.feature_tables[f % shape.feature_tables.size()];
    feature.bag_size = shape.bag_sizes[f];
    feature.pooling = shape.poolings[f % shape.poolings.size()];
    const TableData& table = data.tables[static_cast<size_t>(feature.table)];
    int64_t lookups = shape.batch * feature.bag_size;
    if (feature.bag_size == 0) {
      feature.offsets.assign(1, 0);
      for (int64_t b = 0; b < shape.batch; ++b)
        feature.offsets.push_back(feature.offsets.back() + static_cast<int32_t>(random.integer(0, 5)));
      lookups = feature.offsets.back() + random.integer(0, 3);  // some ids behind the last bag
    }
    for (int64_t i = 0; i < lookups; ++i) {
      // Half of the look-ups go to few rows, so that there are duplicates.
      feature.ids.push_back(static_cast<int32_t>(random.integer(0, random.coin() ? std::min<int64_t>(3, table.rows - 1) : table.rows - 1)));
    }
    feature.column = data.width;
    data.width += table.dim + shape.gap;
    data.features.push_back(std::move(feature));
  }
  return data;
}

EmbeddingCase::EmbeddingCase(TestDevice& device, const EmbeddingData& data, int32_t optimizer, float state, Place place)
    : device_(device), data_(data) {
  for (const TableData& table : data_.tables) {
    const int64_t count = static_cast<int64_t>(table.weights.size());
    void* weights;
    if (table.dtype == CUDAMOE_BF16) {
      weights_bf16_.emplace_back(device, to_bf16(table.weights), 0, place);
      weights_f32_.emplace_back(device, 0);
      weights = weights_bf16_.back().data();
    } else {
      weights_f32_.emplace_back(device, table.weights, 0, place);
      weights_bf16_.emplace_back(device, 0);
      weights = weights_f32_.back().data();
    }
    const bool per_row = optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD;
    const bool none = optimizer == CUDAMOE_OPTIMIZER_SGD;
    state1_.emplace_back(device, std::vector<float>(static_cast<size_t>(none ? 0 : per_row ? table.rows : count), state), 0, place);
    state2_.emplace_back(
        device, std::vector<float>(static_cast<size_t>(optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAM ? table.rows : 0), state), 0, place);
    tables_.push_back({weights, table.rows, table.row_stride, none ? nullptr : state1_.back().data(),
                       optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAM ? state2_.back().data() : nullptr, table.dim, table.dtype});
  }
  for (const FeatureData& feature : data_.features) {
    ids_.emplace_back(device, feature.ids);
    offsets_.emplace_back(device, feature.offsets);
    features_.push_back({ids_.back().data(), feature.offsets.empty() ? nullptr : offsets_.back().data(), feature.bag_size, feature.table,
                         feature.pooling, 0, feature.column, static_cast<int64_t>(feature.ids.size())});
  }
}

std::vector<float> EmbeddingCase::weights(int32_t table) const {
  const auto t = static_cast<size_t>(table);
  return data_.tables[t].dtype == CUDAMOE_BF16 ? from_bf16(weights_bf16_[t].get()) : weights_f32_[t].get();
}

bool EmbeddingCase::guards_intact() const {
  bool intact = true;
  const auto check = [&](const auto& buffers) {
    for (const auto& buffer : buffers) intact = intact && buffer.guards_intact();
  };
  check(weights_f32_), check(weights_bf16_), check(state1_), check(state2_), check(ids_), check(offsets_);
  return intact;
}

cudamoe_embedding_update_args EmbeddingCase::update_args(const EmbeddingOptimizer& optimizer, const Buffer<float>& gradient,
                                                         int64_t gradient_row_stride, int32_t bounds) const {
  auto update = args<cudamoe_embedding_update_args>(bounds);
  update.optimizer = optimizer.optimizer;
  update.gradient = gradient.data();
  update.gradient_row_stride = gradient_row_stride;
  update.learning_rate = static_cast<float>(optimizer.learning_rate);
  update.epsilon = static_cast<float>(optimizer.epsilon);
  update.beta1 = static_cast<float>(optimizer.beta1);
  update.beta2 = static_cast<float>(optimizer.beta2);
  update.weight_decay = static_cast<float>(optimizer.weight_decay);
  update.gradient_scale = static_cast<float>(optimizer.gradient_scale);
  update.step = 1;
  return update;
}

cudamoe_status EmbeddingCase::update(cudamoe_embedding_update_args args) const {
  int64_t bytes = -1;
  const cudamoe_status status = cudamoe_embedding_update_workspace(device_.stream(), &args, &bytes);
  if (status != CUDAMOE_OK) return status;
  const Workspace workspace(device_, bytes);
  args.workspace = workspace.data();
  args.workspace_bytes = bytes;
  const cudamoe_status result = cudamoe_embedding_update(device_.stream(), &args);
  EXPECT_TRUE(workspace.guards_intact());
  EXPECT_TRUE(guards_intact());
  return result;
}

EmbeddingCase::Gradient EmbeddingCase::gradient(const Buffer<float>& gradient, int64_t gradient_row_stride, int32_t bounds) const {
  auto merge = args<cudamoe_embedding_gradient_args>(bounds);
  int64_t dim = 0;
  for (const TableData& table : data_.tables) dim = std::max<int64_t>(dim, table.dim);
  Gradient result;
  result.row_stride = dim + 3;
  Buffer<int32_t> rows(device_, data_.lookups());
  Buffer<float> values(device_, data_.lookups() * result.row_stride);
  Buffer<int64_t> counts(device_, static_cast<int64_t>(data_.tables.size()));
  merge.gradient = gradient.data();
  merge.gradient_row_stride = gradient_row_stride;
  merge.unique_rows = rows.data();
  merge.values = values.data();
  merge.values_row_stride = result.row_stride;
  merge.counts = counts.data();
  CUDAMOE_EXPECT_OK(cudamoe_embedding_gradient_workspace(device_.stream(), &merge, &merge.workspace_bytes));
  const Workspace workspace(device_, merge.workspace_bytes);
  merge.workspace = workspace.data();
  CUDAMOE_EXPECT_OK(cudamoe_embedding_gradient(device_.stream(), &merge));
  EXPECT_TRUE(workspace.guards_intact() && rows.guards_intact() && values.guards_intact() && counts.guards_intact() && guards_intact());
  result.counts = counts.get();
  result.rows = rows.get();
  result.values = values.get();
  // What lies behind the counted rows, and behind a row's dim, is as it was.
  int64_t start = 0;
  for (size_t t = 0; t < data_.tables.size(); ++t) {
    int64_t lookups = 0;
    for (const FeatureData& feature : data_.features)
      lookups += feature.table == static_cast<int32_t>(t) ? static_cast<int64_t>(feature.ids.size()) : 0;
    for (int64_t i = 0; i < lookups; ++i) {
      const bool counted = i < result.counts[t];
      EXPECT_EQ(result.rows[static_cast<size_t>(start + i)] >= 0, counted);
      for (int64_t j = counted ? data_.tables[t].dim : 0; j < result.row_stride; ++j) {
        EXPECT_TRUE(std::isnan(result.values[static_cast<size_t>((start + i) * result.row_stride + j)]));
      }
    }
    start += lookups;
  }
  return result;
}

}  // namespace cudamoe::test
