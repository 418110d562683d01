// Look-ups of 26 features and the row-wise AdaGrad step of their gradient:
//   four ids a sample, in tables of 32 columns of f32 or of 64 of bf16. Ids are drawn from 1.5 rows for each sample, so about a third of
//   the look-ups meet a row that no other does; the tables have the rows of the reference batch at every batch, so that the sort has as
//   many digits; bags of 20 ids by offsets, in tables of 100000 rows of 16 columns, an id being rows * u^3 of a uniform u: some rows are
//   looked up by the thousand (the data of benchmarks/configs/embedding-bag20.json).
#include <algorithm>
#include <bit>
#include <memory>

#include "device/cases.h"

namespace cudamoe::bench {
namespace {

constexpr int32_t kFeatures = 26;

struct LookupShape {
  int64_t rows;
  int32_t dim, bag, dtype;
  bool skewed, offsets;
};

constexpr LookupShape kEven{kReferenceBatch * 3 / 2, 32, 4, CUDAMOE_F32, false, false};
constexpr LookupShape kEvenBf16{kReferenceBatch * 3 / 2, 64, 4, CUDAMOE_BF16, false, false};
constexpr LookupShape kSkewed{100000, 16, 20, CUDAMOE_F32, true, true};

int64_t element_bytes(const LookupShape& shape) { return shape.dtype == CUDAMOE_BF16 ? 2 : 4; }

struct Lookups {
  std::vector<cudamoe_embedding_table> tables;
  std::vector<cudamoe_embedding_feature> features;
  double unique = 0;  // rows of all tables that are looked up

  Lookups(DeviceEngine& engine, const LookupShape& shape, int64_t batch) {
    Numbers numbers;
    const int64_t used = std::max<int64_t>(batch * 3 / 2, 1), apart = std::max<int64_t>(shape.rows / used, 1);
    const auto draw = [&] {
      if (!shape.skewed) return std::min(numbers.below(used) * apart, shape.rows - 1);
      const double u = static_cast<double>(numbers.next()) * 0x1p-32;
      return static_cast<int64_t>(static_cast<double>(shape.rows) * (u * u * u));
    };
    std::vector<int32_t> offsets;
    for (int64_t b = 0; b <= batch; ++b) offsets.push_back(static_cast<int32_t>(b * shape.bag));
    for (int32_t f = 0; f < kFeatures; ++f) {
      std::vector<bool> met(static_cast<size_t>(shape.rows));
      std::vector<int32_t> ids;
      for (int64_t i = 0; i < batch * shape.bag; ++i) {
        const int64_t id = draw();
        unique += met[static_cast<size_t>(id)] ? 0 : 1;
        met[static_cast<size_t>(id)] = true;
        ids.push_back(static_cast<int32_t>(id));
      }
      cudamoe_embedding_table table{};
      table.weights = engine.allocate(shape.rows * shape.dim * element_bytes(shape));
      table.rows = shape.rows;
      table.dim = shape.dim;
      table.row_stride = shape.dim;
      table.dtype = shape.dtype;
      table.state1 = engine.allocate_of<float>(shape.rows);
      tables.push_back(table);
      cudamoe_embedding_feature feature{};
      feature.table = f;
      feature.pooling = CUDAMOE_POOLING_SUM;
      feature.ids = engine.upload(ids);
      feature.offsets = shape.offsets ? engine.upload(offsets) : nullptr;
      feature.bag_size = shape.bag;
      feature.lookups = batch * shape.bag;
      feature.column = f * shape.dim;
      features.push_back(feature);
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

// Bytes of ids and offsets.
double id_bytes(const LookupShape& shape, int64_t batch) {
  return static_cast<double>(batch * kFeatures) * (4 * shape.bag + (shape.offsets ? 4 : 0));
}

Prepared forward(DeviceEngine& engine, const LookupShape& shape, int64_t batch) {
  const auto lookups = std::make_shared<Lookups>(engine, shape, batch);
  const int64_t row = shape.dim * element_bytes(shape);
  cudamoe_embedding_forward_args args{};
  lookups->give(args, batch);
  args.output = engine.allocate(batch * kFeatures * row);
  args.output_dtype = shape.dtype;
  args.output_row_stride = kFeatures * shape.dim;
  return {[&engine, args, lookups] { require(cudamoe_embedding_forward(engine.stream(), &args)); },
          {lookups->unique * static_cast<double>(row) + id_bytes(shape, batch) + static_cast<double>(batch * kFeatures * row), 0},
          {}};
}

Prepared update(DeviceEngine& engine, const LookupShape& shape, int64_t batch) {
  const auto lookups = std::make_shared<Lookups>(engine, shape, batch);
  cudamoe_embedding_update_args args{};
  lookups->give(args, batch);
  args.optimizer = CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD;
  args.gradient = engine.random(batch * kFeatures * shape.dim);
  args.gradient_row_stride = kFeatures * shape.dim;
  args.learning_rate = 1e-3f;
  args.epsilon = 1e-8f;
  args.gradient_scale = 1;
  args.step = 1;
  require(cudamoe_embedding_update_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  // The sort: digits of nine bits, 8 bytes read and written for each.
  const double samples = static_cast<double>(batch * kFeatures), digits = (std::bit_width(static_cast<uint32_t>(shape.rows)) + 8) / 9;
  const double row = static_cast<double>(shape.dim * element_bytes(shape));
  return {[&engine, args, lookups] { require(cudamoe_embedding_update(engine.stream(), &args)); },
          {id_bytes(shape, batch) + samples * (4 * shape.dim + digits * 16 * shape.bag) + lookups->unique * (2 * row + 8), 0},
          {}};
}

using Prepare = Prepared (*)(DeviceEngine&, const LookupShape&, int64_t);

Case case_of(const char* name, Prepare prepare, const LookupShape& shape) {
  return {name, [prepare, &shape](DeviceEngine& engine, int64_t batch) { return prepare(engine, shape, batch); }};
}

}  // namespace

std::vector<Case> embedding_cases() {
  return {case_of("look-ups of 26 features", forward, kEven),
          case_of("look-ups of 26 features, bf16", forward, kEvenBf16),
          case_of("look-ups of skewed bags of 20 ids", forward, kSkewed),
          case_of("look-ups' gradient, row-wise AdaGrad", update, kEven),
          case_of("look-ups' gradient, bf16, row-wise AdaGrad", update, kEvenBf16),
          case_of("look-ups' gradient, skewed bags of 20 ids, row-wise AdaGrad", update, kSkewed)};
}

}  // namespace cudamoe::bench
