#include "reference/embedding.h"

#include <cmath>

namespace cudamoe::test {
namespace {

size_t at(int64_t index) { return static_cast<size_t>(index); }

}  // namespace

int64_t EmbeddingData::bag_begin(int32_t feature, int64_t bag) const {
  const FeatureData& f = features[at(feature)];
  return f.offsets.empty() ? bag * f.bag_size : f.offsets[at(bag)];
}

int64_t EmbeddingData::lookups() const {
  int64_t sum = 0;
  for (const FeatureData& feature : features) sum += static_cast<int64_t>(feature.ids.size());
  return sum;
}

int64_t EmbeddingData::row(int32_t feature, int64_t position, bool clamp) const {
  const FeatureData& f = features[at(feature)];
  const int64_t id = f.ids[at(position)];
  if (id >= 0 && id < tables[at(f.table)].rows) return id;
  return clamp ? 0 : -1;
}

std::vector<double> reference_embedding_forward(const EmbeddingData& data, bool clamp, double untouched) {
  std::vector<double> output(at(data.batch * data.width), untouched);
  for (int32_t f = 0; f < static_cast<int32_t>(data.features.size()); ++f) {
    const FeatureData& feature = data.features[at(f)];
    const TableData& table = data.tables[at(feature.table)];
    for (int64_t b = 0; b < data.batch; ++b) {
      const int64_t begin = data.bag_begin(f, b), end = data.bag_end(f, b);
      for (int64_t j = 0; j < table.dim; ++j) {
        double sum = 0;
        for (int64_t i = begin; i < end; ++i) {
          const int64_t row = data.row(f, i, clamp);
          if (row >= 0) sum += static_cast<double>(table.weights[at(row * table.row_stride + j)]);
        }
        if (feature.pooling == CUDAMOE_POOLING_MEAN && end > begin) sum /= static_cast<double>(end - begin);
        output[at(b * data.width + feature.column + j)] = sum;
      }
    }
  }
  return output;
}

std::vector<MergedRows> reference_embedding_gradient(const EmbeddingData& data, const std::vector<float>& gradient,
                                                     int64_t gradient_row_stride, bool clamp) {
  std::vector<MergedRows> merged(data.tables.size());
  for (int32_t f = 0; f < static_cast<int32_t>(data.features.size()); ++f) {
    const FeatureData& feature = data.features[at(f)];
    const TableData& table = data.tables[at(feature.table)];
    for (int64_t b = 0; b < data.batch; ++b) {
      const int64_t begin = data.bag_begin(f, b), end = data.bag_end(f, b);
      const double weight = feature.pooling == CUDAMOE_POOLING_MEAN ? 1.0 / static_cast<double>(end - begin) : 1.0;
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = data.row(f, i, clamp);
        if (row < 0) continue;
        std::vector<double>& sum = merged[at(feature.table)].try_emplace(row, at(table.dim), 0.0).first->second;
        for (int64_t j = 0; j < table.dim; ++j)
          sum[at(j)] += weight * static_cast<double>(gradient[at(b * gradient_row_stride + feature.column + j)]);
      }
    }
  }
  return merged;
}

void reference_embedding_step(const EmbeddingOptimizer& o, int64_t step, const TableData& table, const MergedRows& gradient,
                              TableState& state) {
  for (const auto& [row, values] : gradient) {
    double mean_square = 0;
    for (const double value : values) mean_square += std::pow(value * o.gradient_scale, 2) / static_cast<double>(table.dim);
    double row_rate = 0;
    if (o.optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD) {
      state.state1[at(row)] += mean_square;
      row_rate = o.learning_rate / (std::sqrt(state.state1[at(row)]) + o.epsilon);
    }
    if (o.optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAM) {
      double& v = state.state2[at(row)];
      v = o.beta2 * v + (1 - o.beta2) * mean_square;
      row_rate = o.learning_rate / (std::sqrt(v / (1 - std::pow(o.beta2, static_cast<double>(step)))) + o.epsilon);
    }
    for (int64_t j = 0; j < table.dim; ++j) {
      const double g = values[at(j)] * o.gradient_scale;
      const size_t place = at(row * table.row_stride + j);
      double move = 0;
      switch (o.optimizer) {
        case CUDAMOE_OPTIMIZER_SGD:
          move = o.learning_rate * g;
          break;
        case CUDAMOE_OPTIMIZER_ADAGRAD:
          state.state1[place] += g * g;
          move = o.learning_rate * g / (std::sqrt(state.state1[place]) + o.epsilon);
          break;
        case CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD:
          move = row_rate * g;
          break;
        default:
          state.state1[place] = o.beta1 * state.state1[place] + (1 - o.beta1) * g;
          move = row_rate * state.state1[place] / (1 - std::pow(o.beta1, static_cast<double>(step)));
      }
      state.weights[place] = state.weights[place] * (1 - o.learning_rate * o.weight_decay) - move;
    }
  }
}

}  // namespace cudamoe::test
