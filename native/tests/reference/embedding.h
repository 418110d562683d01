// Embedding look-ups, merged gradients and row updates in plain double precision.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "cudamoe.h"

namespace cudamoe::test {

struct TableData {
  int64_t rows = 1;
  int32_t dim = 1;
  int64_t row_stride = 1;
  int32_t dtype = CUDAMOE_F32;
  std::vector<float> weights;  // [rows, row_stride]; of bf16 tables the values that bf16 holds
};

struct FeatureData {
  std::vector<int32_t> ids;
  std::vector<int32_t> offsets;  // empty: bag_size ids a bag
  int32_t bag_size = 1;
  int32_t table = 0;
  int32_t pooling = CUDAMOE_POOLING_SUM;
  int64_t column = 0;
};

struct EmbeddingData {
  int64_t batch = 0;
  int64_t width = 0;  // of the output
  std::vector<TableData> tables;
  std::vector<FeatureData> features;

  int64_t bag_begin(int32_t feature, int64_t bag) const;
  int64_t bag_end(int32_t feature, int64_t bag) const { return bag_begin(feature, bag + 1); }
  int64_t lookups() const;
  // The row that a look-up reads, -1 when it is left out.
  int64_t row(int32_t feature, int64_t position, bool clamp) const;
};

// Output [batch, width]; columns of no feature hold `untouched`.
std::vector<double> reference_embedding_forward(const EmbeddingData& data, bool clamp, double untouched);

// For each table: touched row -> the sum of its look-ups' gradients.
using MergedRows = std::map<int64_t, std::vector<double>>;
std::vector<MergedRows> reference_embedding_gradient(const EmbeddingData& data, const std::vector<float>& gradient,
                                                     int64_t gradient_row_stride, bool clamp);

// Weights and states of a table in double precision; states as the optimiser shapes them, with the table's row stride.
struct TableState {
  std::vector<double> weights, state1, state2;
};

struct EmbeddingOptimizer {
  int32_t optimizer = CUDAMOE_OPTIMIZER_SGD;
  double learning_rate = 0.1, epsilon = 1e-6, beta1 = 0.9, beta2 = 0.99, weight_decay = 0, gradient_scale = 1;
};

// One step of the touched rows of one table.
void reference_embedding_step(const EmbeddingOptimizer& optimizer, int64_t step, const TableData& table, const MergedRows& gradient,
                              TableState& state);

}  // namespace cudamoe::test
