// Look-ups of 26 features and the row-wise AdaGrad step of their gradient:
//   four ids a sample, in tables of 32 columns of f32 or of 64 of bf16. Ids are drawn from 1.5 rows for each sample, so about a third of
//   the look-ups meet a row that no other does; the tables have the rows of the reference batch at every batch, so that the sort has as
//   many digits; bags of 20 ids by offsets, in tables of 100000 rows of 16 columns, an id being rows * u^3 of a uniform u: some rows are
//   looked up by the thousand (the data of benchmarks/configs/embedding-bag20.json).
// With caches: the tables of 32 columns of f32 and their states in host memory, and each with a cache of all its rows, where every row that
// is looked up is; or of half of them, and two batches in turn that have no row in common, so that each brings all of its rows in.
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
  int64_t cached = 0;  // rows of a table's cache; 0: the tables lie in device memory
};

constexpr LookupShape kEven{kReferenceBatch * 3 / 2, 32, 4, CUDAMOE_F32, false, false};
constexpr LookupShape kAllCached{kEven.rows, kEven.dim, kEven.bag, CUDAMOE_F32, false, false, kEven.rows};
constexpr LookupShape kHalfCached{kEven.rows, kEven.dim, kEven.bag, CUDAMOE_F32, false, false, kEven.rows / 2};
constexpr LookupShape kEvenBf16{kReferenceBatch * 3 / 2, 64, 4, CUDAMOE_BF16, false, false};
constexpr LookupShape kSkewed{100000, 16, 20, CUDAMOE_F32, true, true};

int64_t element_bytes(const LookupShape& shape) { return shape.dtype == CUDAMOE_BF16 ? 2 : 4; }

struct Lookups {
  std::vector<cudamoe_embedding_table> tables;
  std::vector<cudamoe_embedding_feature> features;
  std::vector<cudamoe_embedding_cache> caches;
  double unique = 0;  // rows of all tables that are looked up

  Lookups(DeviceEngine& engine, const LookupShape& shape, int64_t batch) {
    Numbers numbers;
    const auto table_memory = [&](int64_t bytes) { return shape.cached > 0 ? engine.allocate_mapped(bytes) : engine.allocate(bytes); };
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
      table.weights = table_memory(shape.rows * shape.dim * element_bytes(shape));
      table.rows = shape.rows;
      table.dim = shape.dim;
      table.row_stride = shape.dim;
      table.dtype = shape.dtype;
      table.state1 = static_cast<float*>(table_memory(4 * shape.rows));
      tables.push_back(table);
      if (shape.cached > 0) {
        cudamoe_embedding_cache cache{nullptr, 0, shape.cached, CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD, 0};
        const cudamoe_embedding_cache_flush_args one{sizeof one, 1, &table, &cache};
        require(cudamoe_embedding_cache_bytes(engine.stream(), &one, &cache.bytes));
        cache.memory = engine.allocate(cache.bytes);
        caches.push_back(cache);
      }
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
    if constexpr (requires { args.caches; }) args.caches = caches.empty() ? nullptr : caches.data();
  }

  cudamoe_embedding_cache_prepare_args prepare_args(DeviceEngine& engine, int64_t batch) const {
    cudamoe_embedding_cache_prepare_args args{};
    give(args, batch);
    require(cudamoe_embedding_cache_prepare_workspace(engine.stream(), &args, &args.workspace_bytes));
    args.workspace = engine.allocate(args.workspace_bytes);
    return args;
  }

  void prepare(DeviceEngine& engine, int64_t batch) const {
    if (caches.empty()) return;
    const auto args = prepare_args(engine, batch);
    require(cudamoe_embedding_cache_prepare(engine.stream(), &args));
    engine.synchronize();
  }
};

// Bytes of ids and offsets.
double id_bytes(const LookupShape& shape, int64_t batch) {
  return static_cast<double>(batch * kFeatures) * (4 * shape.bag + (shape.offsets ? 4 : 0));
}

// The sort: digits of nine bits, 8 bytes read and written for each.
double sort_bytes(const LookupShape& shape, int64_t batch) {
  const int digits = (std::bit_width(static_cast<uint32_t>(shape.rows)) + 8) / 9;
  return static_cast<double>(batch * kFeatures * shape.bag) * 16 * digits;
}

// Tags, times and marks of all places of the caches.
double place_bytes(const LookupShape& shape) { return static_cast<double>(kFeatures * shape.cached) * 9; }

Prepared forward(DeviceEngine& engine, const LookupShape& shape, int64_t batch) {
  const auto lookups = std::make_shared<Lookups>(engine, shape, batch);
  const int64_t row = shape.dim * element_bytes(shape);
  lookups->prepare(engine, batch);
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
  lookups->prepare(engine, batch);
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
  const double samples = static_cast<double>(batch * kFeatures), row = static_cast<double>(shape.dim * element_bytes(shape));
  return {[&engine, args, lookups] { require(cudamoe_embedding_update(engine.stream(), &args)); },
          {id_bytes(shape, batch) + samples * 4 * shape.dim + sort_bytes(shape, batch) + lookups->unique * (2 * row + 8), 0},
          {}};
}

// The rows that a batch looks up are in the caches.
Prepared prepare_again(DeviceEngine& engine, const LookupShape& shape, int64_t batch) {
  const auto lookups = std::make_shared<Lookups>(engine, shape, batch);
  lookups->prepare(engine, batch);
  const auto args = lookups->prepare_args(engine, batch);
  return {[&engine, args, lookups] { require(cudamoe_embedding_cache_prepare(engine.stream(), &args)); },
          {id_bytes(shape, batch) + sort_bytes(shape, batch) + place_bytes(shape), 0},
          {}};
}

// Two batches in turn: each row of either comes in, unchanged, so none is written back.
Prepared prepare_in_turn(DeviceEngine& engine, const LookupShape& shape, int64_t batch) {
  const auto lookups = std::make_shared<Lookups>(engine, shape, batch);
  const auto other = std::make_shared<std::vector<cudamoe_embedding_feature>>(lookups->features);
  Numbers numbers;
  for (int32_t f = 0; f < kFeatures; ++f) {
    // Of the first batch the rows of the lower half, of the second those of the upper.
    std::vector<bool> met(static_cast<size_t>(shape.rows));
    std::vector<int32_t> low, high;
    const int64_t half = shape.rows / 2, used = std::max<int64_t>(batch * 3 / 4, 1), apart = half / used;
    for (int64_t i = 0; i < batch * shape.bag; ++i) {
      const int64_t id = numbers.below(used) * apart;
      low.push_back(static_cast<int32_t>(id));
      high.push_back(static_cast<int32_t>(half + id));
      met[static_cast<size_t>(id)] = true;
    }
    lookups->features[static_cast<size_t>(f)].ids = engine.upload(low);
    (*other)[static_cast<size_t>(f)].ids = engine.upload(high);
    lookups->unique += f == 0 ? -lookups->unique : 0;
    lookups->unique += static_cast<double>(std::count(met.begin(), met.end(), true));
  }
  const auto first = lookups->prepare_args(engine, batch);
  auto second = first;
  second.features = other->data();
  const double row = static_cast<double>(shape.dim * element_bytes(shape) + 4);
  return {[&engine, first, second, lookups, other] {
            require(cudamoe_embedding_cache_prepare(engine.stream(), &first));
            require(cudamoe_embedding_cache_prepare(engine.stream(), &second));
          },
          {2 * (id_bytes(shape, batch) + sort_bytes(shape, batch) + place_bytes(shape) + lookups->unique * 2 * row), 0},
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
          case_of("look-ups' gradient, skewed bags of 20 ids, row-wise AdaGrad", update, kSkewed),
          case_of("cached rows of 26 features, all there", prepare_again, kAllCached),
          case_of("cached rows of 26 features, two batches in turn", prepare_in_turn, kHalfCached),
          case_of("look-ups of 26 features, cached", forward, kAllCached),
          case_of("look-ups' gradient, cached, row-wise AdaGrad", update, kAllCached)};
}

}  // namespace cudamoe::bench
