// Look-ups of 26 features, four a sample, in tables of 32 columns of f32, and the row-wise AdaGrad step of their gradient. Ids are drawn
// from 1.5 rows for each sample, so about a third of the look-ups meet a row that no other does; the tables have the rows of the reference
// batch at every batch, so that the sort has as many digits.
#include <algorithm>
#include <memory>

#include "device/cases.h"

namespace cudamoe::bench {
namespace {

constexpr int32_t kFeatures = 26, kBag = 4;
constexpr int64_t kDim = 32, kRows = kReferenceBatch * 3 / 2;

struct Lookups {
  std::vector<cudamoe_embedding_table> tables;
  std::vector<cudamoe_embedding_feature> features;
  double unique = 0;  // rows of all tables that are looked up

  Lookups(DeviceEngine& engine, int64_t batch) {
    Numbers numbers;
    const int64_t used = std::max<int64_t>(batch * 3 / 2, 1), apart = std::max<int64_t>(kRows / used, 1);
    for (int32_t f = 0; f < kFeatures; ++f) {
      std::vector<int32_t> ids;
      for (int64_t i = 0; i < batch * kBag; ++i) ids.push_back(static_cast<int32_t>(std::min(numbers.below(used) * apart, kRows - 1)));
      cudamoe_embedding_table table{};
      table.weights = engine.allocate_of<float>(kRows * kDim);
      table.rows = kRows;
      table.dim = kDim;
      table.row_stride = kDim;
      table.dtype = CUDAMOE_F32;
      table.state1 = engine.allocate_of<float>(kRows);
      tables.push_back(table);
      cudamoe_embedding_feature feature{};
      feature.table = f;
      feature.pooling = CUDAMOE_POOLING_SUM;
      feature.ids = engine.upload(ids);
      feature.bag_size = kBag;
      feature.lookups = batch * kBag;
      feature.column = f * kDim;
      features.push_back(feature);
      std::sort(ids.begin(), ids.end());
      unique += static_cast<double>(std::unique(ids.begin(), ids.end()) - ids.begin());
    }
  }

  template <class Args>
  void give(Args& args, int64_t batch) const {
    args.struct_size = sizeof args;
    args.table_count = args.feature_count = kFeatures;
    args.batch = batch;
    args.tables = tables.data();
    args.features = features.data();
    args.bounds = CUDAMOE_BOUNDS_REPORT;
  }
};

Prepared forward(DeviceEngine& engine, int64_t batch) {
  const auto lookups = std::make_shared<Lookups>(engine, batch);
  cudamoe_embedding_forward_args args{};
  lookups->give(args, batch);
  args.output = engine.allocate_of<float>(batch * kFeatures * kDim);
  args.output_row_stride = kFeatures * kDim;
  const double samples = static_cast<double>(batch * kFeatures);
  return {[&engine, args, lookups] { require(cudamoe_embedding_forward(engine.stream(), &args)); },
          {lookups->unique * 4 * kDim + samples * (4 * kBag + 4 * kDim), 0},
          {}};
}

Prepared update(DeviceEngine& engine, int64_t batch) {
  const auto lookups = std::make_shared<Lookups>(engine, batch);
  cudamoe_embedding_update_args args{};
  lookups->give(args, batch);
  args.optimizer = CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD;
  args.gradient = engine.random(batch * kFeatures * kDim);
  args.gradient_row_stride = kFeatures * kDim;
  args.learning_rate = 1e-3f;
  args.epsilon = 1e-8f;
  args.gradient_scale = 1;
  args.step = 1;
  require(cudamoe_embedding_update_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  // The sort: 22 bits of row in three digits, 8 bytes read and written for each.
  const double samples = static_cast<double>(batch * kFeatures), sort = 3 * 16 * samples * kBag;
  return {[&engine, args, lookups] { require(cudamoe_embedding_update(engine.stream(), &args)); },
          {samples * (4 * kBag + 4 * kDim) + sort + lookups->unique * (8 * kDim + 8), 0},
          {}};
}

}  // namespace

std::vector<Case> embedding_cases() { return {{"look-ups of 26 features", forward}, {"look-ups' gradient, row-wise AdaGrad", update}}; }

}  // namespace cudamoe::bench
