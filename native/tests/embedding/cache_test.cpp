// Caches of hot rows: the bits of tables without one, whatever their size, and the counters that the rule of the header gives.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <set>

#include "embedding/embedding_case.h"
#include "support/compare.h"

namespace cudamoe::test {
namespace {

constexpr int32_t kOptimizers[] = {CUDAMOE_OPTIMIZER_SGD, CUDAMOE_OPTIMIZER_ADAGRAD, CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD,
                                   CUDAMOE_OPTIMIZER_ROWWISE_ADAM};

bool caches_hold_rows() { return test_device_spec().rfind("cpu", 0) != 0; }

// The steps of a test: the same tables and bags, other ids.
using Ids = std::vector<std::vector<int32_t>>;  // of each feature

std::vector<Ids> random_steps(Random& random, const EmbeddingData& data, int count) {
  std::vector<Ids> steps;
  for (int step = 0; step < count; ++step) {
    Ids ids;
    for (const FeatureData& feature : data.features) {
      const int64_t rows = data.tables[static_cast<size_t>(feature.table)].rows;
      ids.emplace_back();
      // Rows near each other move on from step to step, so that some of a batch were in the last.
      for (size_t i = 0; i < feature.ids.size(); ++i)
        ids.back().push_back(static_cast<int32_t>((random.integer(0, std::min<int64_t>(60, rows - 1)) + 20 * step) % rows));
    }
    steps.push_back(std::move(ids));
  }
  return steps;
}

// Tables in mapped memory with caches, and the operations with them.
class CachedTables {
 public:
  CachedTables(TestDevice& device, const EmbeddingData& data, int32_t optimizer, const std::vector<int64_t>& cache_rows,
               float state = 0.25f)
      : device_(device), data_(data), case_(device, data, optimizer, state, Place::kMapped) {
    for (size_t t = 0; t < data.tables.size(); ++t) {
      cudamoe_embedding_cache cache{nullptr, 0, cache_rows[t % cache_rows.size()], optimizer, 0};
      if (cache.rows > 0) {
        const cudamoe_embedding_cache_flush_args one{sizeof one, 1, &case_.tables()[t], &cache};
        CUDAMOE_EXPECT_OK(cudamoe_embedding_cache_bytes(device.stream(), &one, &cache.bytes));
      }
      memory_.emplace_back(device, std::vector<unsigned char>(static_cast<size_t>(cache.bytes), 0));
      cache.memory = memory_.back().data();
      caches_.push_back(cache);
    }
  }

  EmbeddingCase& tables() { return case_; }
  std::vector<cudamoe_embedding_cache>& caches() { return caches_; }

  void load(const Ids& ids) {
    ids_.clear();
    for (size_t f = 0; f < ids.size(); ++f) {
      ids_.emplace_back(device_, ids[f]);
      case_.features()[f].ids = ids_.back().data();
    }
  }

  cudamoe_embedding_cache_prepare_args prepare_args(int32_t bounds = CUDAMOE_BOUNDS_REPORT) {
    auto args = case_.args<cudamoe_embedding_cache_prepare_args>(bounds);
    args.caches = caches_.data();
    return args;
  }

  void prepare(int32_t bounds = CUDAMOE_BOUNDS_REPORT) {
    auto args = prepare_args(bounds);
    CUDAMOE_ASSERT_OK(cudamoe_embedding_cache_prepare_workspace(device_.stream(), &args, &args.workspace_bytes));
    const Workspace workspace(device_, args.workspace_bytes);
    args.workspace = workspace.data();
    CUDAMOE_EXPECT_OK(cudamoe_embedding_cache_prepare(device_.stream(), &args));
    EXPECT_TRUE(workspace.guards_intact());
  }

  cudamoe_embedding_forward_args forward_args(const Buffer<float>& output, int32_t bounds = CUDAMOE_BOUNDS_REPORT) {
    auto args = case_.args<cudamoe_embedding_forward_args>(bounds);
    args.output = output.data();
    args.output_row_stride = data_.width;
    args.caches = caches_.data();
    return args;
  }

  std::vector<float> forward(int32_t bounds = CUDAMOE_BOUNDS_REPORT) {
    const Buffer<float> output(device_, data_.batch * data_.width);
    const auto args = forward_args(output, bounds);
    CUDAMOE_EXPECT_OK(cudamoe_embedding_forward(device_.stream(), &args));
    EXPECT_TRUE(output.guards_intact());
    return output.get();
  }

  std::vector<uint16_t> forward_bf16() {
    const Buffer<uint16_t> output(device_, data_.batch * data_.width);
    auto args = case_.args<cudamoe_embedding_forward_args>();
    args.output = output.data();
    args.output_dtype = CUDAMOE_BF16;
    args.output_row_stride = data_.width;
    args.caches = caches_.data();
    CUDAMOE_EXPECT_OK(cudamoe_embedding_forward(device_.stream(), &args));
    EXPECT_TRUE(output.guards_intact());
    return output.get();
  }

  void update(int32_t optimizer, int64_t step, const std::vector<float>& gradient, int32_t bounds = CUDAMOE_BOUNDS_REPORT,
              const double* norm = nullptr) {
    const Buffer<float> on_device(device_, gradient);
    EmbeddingOptimizer settings;
    settings.optimizer = optimizer;
    auto args = case_.update_args(settings, on_device, data_.width, bounds);
    args.caches = caches_.data();
    args.step = step;
    args.seed = 9;
    args.norm = norm;
    CUDAMOE_EXPECT_OK(case_.update(args));
  }

  void flush() {
    const cudamoe_embedding_cache_flush_args args{sizeof args, static_cast<int32_t>(caches_.size()), case_.tables().data(), caches_.data()};
    CUDAMOE_EXPECT_OK(cudamoe_embedding_cache_flush(device_.stream(), &args));
  }

  // Tables and states as they lie in host memory.
  std::vector<std::vector<float>> values() const {
    std::vector<std::vector<float>> all;
    for (int32_t t = 0; t < static_cast<int32_t>(data_.tables.size()); ++t) {
      all.push_back(case_.weights(t));
      all.push_back(case_.state1(t));
      all.push_back(case_.state2(t));
    }
    return all;
  }

  cudamoe_embedding_cache_counters counters(size_t table) const {
    const std::vector<unsigned char> bytes = memory_[table].get();
    cudamoe_embedding_cache_counters counters{};
    if (!bytes.empty()) std::memcpy(&counters, bytes.data(), sizeof counters);
    return counters;
  }

  bool guards_intact() const {
    return case_.guards_intact() && std::all_of(memory_.begin(), memory_.end(), [](const auto& memory) { return memory.guards_intact(); });
  }

 private:
  TestDevice& device_;
  const EmbeddingData& data_;
  EmbeddingCase case_;
  std::vector<Buffer<unsigned char>> memory_;
  std::vector<cudamoe_embedding_cache> caches_;
  std::vector<Buffer<int32_t>> ids_;
};

void expect_same_bits(const std::vector<std::vector<float>>& expected, const std::vector<std::vector<float>>& actual) {
  ASSERT_EQ(expected.size(), actual.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(expected[i].size(), actual[i].size());
    if (expected[i].empty()) continue;
    ASSERT_EQ(std::memcmp(expected[i].data(), actual[i].data(), expected[i].size() * sizeof(float)), 0) << "result " << i;
  }
}

// Outputs of all steps, then the tables and states at the end.
std::vector<std::vector<float>> train(CachedTables& tables, const EmbeddingData& data, const std::vector<Ids>& steps, int32_t optimizer) {
  Random random(3);
  std::vector<std::vector<float>> results;
  for (size_t step = 0; step < steps.size(); ++step) {
    tables.load(steps[step]);
    tables.prepare();
    results.push_back(tables.forward());
    tables.update(optimizer, static_cast<int64_t>(step) + 1, random.reals(data.batch * data.width));
  }
  tables.flush();
  for (std::vector<float>& values : tables.values()) results.push_back(std::move(values));
  EXPECT_TRUE(tables.guards_intact());
  return results;
}

CaseShape mixed_shape() {
  CaseShape shape;
  shape.batch = test_device_is_slow() ? 12 : 300;
  shape.dims = {16, 5, 24, 40};
  shape.rows = {300, 40, 5000, 70};
  shape.bag_sizes = {1, 0, 4, 2, 0, 1};
  shape.feature_tables = {0, 1, 2, 0, 2, 3};
  shape.poolings = {CUDAMOE_POOLING_SUM, CUDAMOE_POOLING_MEAN};
  shape.dtypes = {CUDAMOE_F32, CUDAMOE_F32, CUDAMOE_BF16, CUDAMOE_F32};
  shape.integers = false;
  return shape;
}

TEST(EmbeddingCache, TrainsToTheBitsOfTablesWithoutOne) {
  Random random(1);
  const EmbeddingData data = make_case(random, mixed_shape());
  const std::vector<Ids> steps = random_steps(random, data, test_device_is_slow() ? 3 : 4);
  // One set, which every batch overflows; some tables without; all rows.
  const std::vector<std::vector<int64_t>> sizes{{8}, {16, 24, 40, 0}, {304, 40, 5000, 72}};
  const auto run = [&](const std::string& spec, int32_t optimizer, const std::vector<int64_t>& rows) {
    TestDevice device(spec);
    CachedTables tables(device, data, optimizer, rows);
    std::vector<std::vector<float>> results = train(tables, data, steps, optimizer);
    CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
    return results;
  };
  size_t turn = 0;
  for (const int32_t optimizer : kOptimizers) {
    const std::vector<std::string> specs = equivalent_device_specs();
    const auto without = run(specs[0], optimizer, {0});
    for (const std::string& spec : specs) {
      const std::vector<int64_t>& rows = sizes[turn++ % sizes.size()];
      SCOPED_TRACE(testing::Message() << "optimizer " << optimizer << " on " << spec << ", cache of " << rows[0]);
      expect_same_bits(without, run(spec, optimizer, rows));
    }
    ++turn;  // another size for each way to open the device
  }
}

TEST(EmbeddingCache, LooksUpInBf16WhatTablesWithoutOneDo) {
  Random random(15);
  const EmbeddingData data = make_case(random, mixed_shape());
  const std::vector<Ids> steps = random_steps(random, data, 2);
  const auto look_up = [&](const std::vector<int64_t>& cache_rows) {
    TestDevice device;
    CachedTables tables(device, data, CUDAMOE_OPTIMIZER_SGD, cache_rows);
    std::vector<uint16_t> all;
    for (const Ids& ids : steps) {
      tables.load(ids);
      tables.prepare();
      const std::vector<uint16_t> rows = tables.forward_bf16();
      all.insert(all.end(), rows.begin(), rows.end());
    }
    return all;
  };
  const std::vector<uint16_t> without = look_up({0});
  EXPECT_EQ(without, look_up({8}));
  EXPECT_EQ(without, look_up({304, 40, 5000, 72}));
}

// Row strides that do not allow accesses of 16 bytes, and weights and states in the rows of one wide matrix.
TEST(EmbeddingCache, RowsOfAnyStride) {
  Random random(2);
  for (const int32_t dim : {1, 3, 8, 17, 64, 130}) {
    CaseShape shape;
    shape.batch = 20;
    shape.dims = {dim, dim};
    shape.rows = {100, 90};
    shape.bag_sizes = {2, 0};
    shape.dtypes = {CUDAMOE_F32, CUDAMOE_BF16};
    shape.stride_extra = dim % 4 + 1;
    shape.integers = false;
    const EmbeddingData data = make_case(random, shape);
    const std::vector<Ids> steps = random_steps(random, data, 3);
    TestDevice device;
    CachedTables without(device, data, CUDAMOE_OPTIMIZER_ROWWISE_ADAM, {0}), with(device, data, CUDAMOE_OPTIMIZER_ROWWISE_ADAM, {16});
    const auto expected = train(without, data, steps, CUDAMOE_OPTIMIZER_ROWWISE_ADAM);
    expect_same_bits(expected, train(with, data, steps, CUDAMOE_OPTIMIZER_ROWWISE_ADAM));
  }
}

// The rule of the header in plain code.
class CacheModel {
 public:
  explicit CacheModel(int64_t rows) : sets_(rows / CUDAMOE_EMBEDDING_CACHE_WAYS), places_(static_cast<size_t>(rows)) {}

  void prepare(const std::set<int64_t>& touched, int64_t row_bytes) {
    ++counters_.batches;
    std::map<int64_t, std::vector<int64_t>> missing;  // by sets
    for (const int64_t row : touched) {
      Entry* entry = find(row);
      if (entry == nullptr) {
        missing[row % sets_].push_back(row);
        continue;
      }
      ++counters_.hits;
      entry->used = counters_.batches;
    }
    for (const auto& [set, rows] : missing) {
      for (const int64_t row : rows) {
        Entry* victim = nullptr;
        for (int64_t way = 0; way < CUDAMOE_EMBEDDING_CACHE_WAYS; ++way) {
          Entry& entry = places_[static_cast<size_t>(set * CUDAMOE_EMBEDDING_CACHE_WAYS + way)];
          if (entry.used == counters_.batches) continue;
          if (victim == nullptr || entry.used < victim->used) victim = &entry;
        }
        if (victim == nullptr) {
          ++counters_.bypasses;
          continue;
        }
        ++counters_.misses;
        counters_.bytes_in += row_bytes;
        if (victim->row >= 0) ++counters_.evictions;
        if (victim->dirty) counters_.bytes_out += row_bytes;
        *victim = {row, counters_.batches, false};
      }
    }
  }
  void update(const std::set<int64_t>& touched) {
    for (const int64_t row : touched) {
      if (Entry* entry = find(row); entry != nullptr) entry->dirty = true;
    }
  }
  void flush(int64_t row_bytes) {
    for (Entry& entry : places_) {
      if (entry.dirty) counters_.bytes_out += row_bytes;
      entry.dirty = false;
    }
  }
  const cudamoe_embedding_cache_counters& counters() const { return counters_; }

 private:
  struct Entry {
    int64_t row = -1, used = 0;
    bool dirty = false;
  };
  Entry* find(int64_t row) {
    for (int64_t way = 0; way < CUDAMOE_EMBEDDING_CACHE_WAYS; ++way) {
      Entry& entry = places_[static_cast<size_t>(row % sets_ * CUDAMOE_EMBEDDING_CACHE_WAYS + way)];
      if (entry.row == row) return &entry;
    }
    return nullptr;
  }

  int64_t sets_;
  std::vector<Entry> places_;
  cudamoe_embedding_cache_counters counters_{};
};

TEST(EmbeddingCache, CountsWhatTheRuleGives) {
  Random random(5);
  CaseShape shape;
  shape.batch = 30;
  shape.dims = {8, 12};
  shape.rows = {400, 100};
  shape.bag_sizes = {2, 0, 3};
  shape.feature_tables = {0, 1, 0};
  shape.dtypes = {CUDAMOE_F32, CUDAMOE_BF16};
  const EmbeddingData data = make_case(random, shape);
  const std::vector<Ids> steps = random_steps(random, data, 6);
  size_t turn = 0;
  const int64_t row_bytes[] = {8 * 4 + 8 * 4 + 4, 12 * 2 + 12 * 4 + 4};
  const std::vector<std::vector<int64_t>> sizes{{8, 16}, {24, 40}, {56, 8}, {400, 104}};
  for (const std::string& spec : equivalent_device_specs()) {
    for (const std::vector<int64_t>& rows : sizes) {
      if (test_device_is_slow() && &rows != &sizes[turn++ % sizes.size()]) continue;
      TestDevice device(spec);
      CachedTables tables(device, data, CUDAMOE_OPTIMIZER_ROWWISE_ADAM, rows);
      std::vector<CacheModel> models{CacheModel(rows[0]), CacheModel(rows[1])};
      for (size_t step = 0; step < steps.size(); ++step) {
        tables.load(steps[step]);
        std::set<int64_t> touched[2];
        EmbeddingData batch = data;
        for (size_t f = 0; f < batch.features.size(); ++f) {
          batch.features[f].ids = steps[step][f];
          const int64_t bagged = batch.bag_end(static_cast<int32_t>(f), batch.batch - 1);
          for (int64_t i = 0; i < bagged; ++i) touched[batch.features[f].table].insert(batch.features[f].ids[static_cast<size_t>(i)]);
        }
        tables.prepare();
        const bool trains = step % 3 != 1;  // other batches are only looked up
        if (trains) tables.update(CUDAMOE_OPTIMIZER_ROWWISE_ADAM, 1, random.reals(data.batch * data.width));
        if (step == 3) tables.flush();
        for (size_t t = 0; t < 2; ++t) {
          models[t].prepare(touched[t], row_bytes[t]);
          if (trains) models[t].update(touched[t]);
          if (step == 3) models[t].flush(row_bytes[t]);
          SCOPED_TRACE(testing::Message() << spec << ", cache of " << rows[t] << ", step " << step << ", table " << t);
          const cudamoe_embedding_cache_counters expected = caches_hold_rows() ? models[t].counters() : cudamoe_embedding_cache_counters{};
          const cudamoe_embedding_cache_counters actual = tables.counters(t);
          EXPECT_EQ(actual.batches, expected.batches);
          EXPECT_EQ(actual.hits, expected.hits);
          EXPECT_EQ(actual.misses, expected.misses);
          EXPECT_EQ(actual.bypasses, expected.bypasses);
          EXPECT_EQ(actual.evictions, expected.evictions);
          EXPECT_EQ(actual.bytes_in, expected.bytes_in);
          EXPECT_EQ(actual.bytes_out, expected.bytes_out);
          EXPECT_EQ(actual.reserved, 0);
        }
      }
    }
  }
}

TEST(EmbeddingCache, BadIdsArePassedOverOrClampedAndReportedByTheLookUp) {
  Random random(6);
  CaseShape shape;
  shape.batch = 9;
  shape.bag_sizes = {3, 0};
  shape.feature_tables = {0, 0};
  shape.integers = false;
  EmbeddingData data = make_case(random, shape);
  std::vector<Ids> steps = random_steps(random, data, 1);
  steps[0][0][4] = 50;
  steps[0][0][5] = -1;
  steps[0][0][6] = std::numeric_limits<int32_t>::min();
  steps[0][0][7] = std::numeric_limits<int32_t>::max();
  const std::vector<float> gradient = random.reals(data.batch * data.width);
  for (const int32_t bounds : {CUDAMOE_BOUNDS_REPORT, CUDAMOE_BOUNDS_CLAMP}) {
    std::vector<std::vector<float>> without;
    for (const int64_t rows : {0, 8, 64}) {
      TestDevice device;
      CachedTables tables(device, data, CUDAMOE_OPTIMIZER_ADAGRAD, {rows});
      tables.load(steps[0]);
      tables.prepare(bounds);
      CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
      std::vector<std::vector<float>> results{tables.forward(bounds)};
      if (bounds == CUDAMOE_BOUNDS_REPORT) {
        EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_ERROR_REPORTED);
        EXPECT_NE(last_error().find("features[0].ids[4] is 50; tables[0] has 50 rows; 4 ids"), std::string::npos) << last_error();
      }
      tables.update(CUDAMOE_OPTIMIZER_ADAGRAD, 1, gradient, bounds);
      EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), bounds == CUDAMOE_BOUNDS_REPORT ? CUDAMOE_ERROR_REPORTED : CUDAMOE_OK);
      tables.flush();
      for (std::vector<float>& values : tables.values()) results.push_back(std::move(values));
      if (without.empty()) without = results;
      expect_same_bits(without, results);
    }
  }
}

// Offsets that are wrong make a feature that is left out by the look-up; whatever prepare brings in for it, nothing is read out of bounds.
TEST(EmbeddingCache, BadOffsetsAreLeftToTheLookUp) {
  Random random(7);
  CaseShape shape;
  shape.batch = 4;
  shape.bag_sizes = {1, 0};
  shape.feature_tables = {0, 0};
  EmbeddingData data = make_case(random, shape);
  data.features[1].ids.assign(10, 1);
  for (const std::vector<int32_t>& offsets :
       {std::vector<int32_t>{1, 2, 3, 4, 5}, {0, 10, 0, 10, 10}, {0, 1, 2, 3, 11}, {0, -1, 2, 3, -4}, {0, 1, 2, 3, 2147483647}}) {
    data.features[1].offsets = offsets;
    TestDevice device;
    CachedTables with(device, data, CUDAMOE_OPTIMIZER_SGD, {8}), without(device, data, CUDAMOE_OPTIMIZER_SGD, {0});
    with.prepare();
    CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
    const std::vector<float> output = with.forward();
    EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_ERROR_REPORTED);
    expect_same_bits({without.forward()}, {output});
    EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_ERROR_REPORTED);
    EXPECT_TRUE(with.guards_intact());
  }
}

// Batches that were never prepared, prepared twice, or looked up long after: rows are found where they are.
TEST(EmbeddingCache, WhatIsPreparedIsNotWhatMustBeUsed) {
  Random random(8);
  CaseShape shape;
  shape.batch = 12;
  shape.rows = {90};
  shape.bag_sizes = {2};
  shape.integers = false;
  const EmbeddingData data = make_case(random, shape);
  const std::vector<Ids> steps = random_steps(random, data, 4);
  const auto run = [&](int64_t rows, const std::string& spec) {
    TestDevice device(spec);
    CachedTables tables(device, data, CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD, {rows});
    Random gradients(4);
    std::vector<std::vector<float>> results;
    for (const int prepared : {0, 2, 2, 1, 3}) {
      tables.load(steps[static_cast<size_t>(prepared)]);
      tables.prepare();
      for (const int used : {1, 0, 3}) {
        tables.load(steps[static_cast<size_t>(used)]);
        results.push_back(tables.forward());
        tables.update(CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD, 1, gradients.reals(data.batch * data.width));
      }
    }
    tables.flush();
    for (std::vector<float>& values : tables.values()) results.push_back(std::move(values));
    return results;
  };
  for (const std::string& spec : equivalent_device_specs()) expect_same_bits(run(0, spec), run(24, spec));
}

TEST(EmbeddingCache, FlushMakesTheTableWholeAndKeepsTheRows) {
  Random random(9);
  CaseShape shape;
  shape.batch = 12;
  shape.integers = false;
  const EmbeddingData data = make_case(random, shape);
  TestDevice device;
  CachedTables tables(device, data, CUDAMOE_OPTIMIZER_ADAGRAD, {64}), without(device, data, CUDAMOE_OPTIMIZER_ADAGRAD, {0});
  const auto before = tables.values();
  const std::vector<float> gradient = random.reals(data.batch * data.width);
  tables.prepare();
  tables.update(CUDAMOE_OPTIMIZER_ADAGRAD, 1, gradient);
  without.update(CUDAMOE_OPTIMIZER_ADAGRAD, 1, gradient);
  if (caches_hold_rows()) expect_same_bits(before, tables.values());
  tables.flush();
  expect_same_bits(without.values(), tables.values());
  // Nothing has changed since: nothing is written, and the rows are still there.
  const int64_t written = tables.counters(0).bytes_out, hits = tables.counters(0).hits;
  tables.flush();
  EXPECT_EQ(tables.counters(0).bytes_out, written);
  tables.prepare();
  EXPECT_EQ(tables.counters(0).misses + tables.counters(0).hits, 2 * tables.counters(0).misses + hits);
  expect_same_bits({without.forward()}, {tables.forward()});
  // Who writes the table zeroes the cache.
  CUDAMOE_EXPECT_OK(cudamoe_memory_fill(device.stream(), tables.tables().tables()[0].weights, 0, 4 * 50 * 16));
  CUDAMOE_EXPECT_OK(cudamoe_memory_fill(device.stream(), tables.caches()[0].memory, 0, tables.caches()[0].bytes));
  EXPECT_EQ(tables.forward(), std::vector<float>(static_cast<size_t>(data.batch * data.width), 0.0f));
}

TEST(EmbeddingCache, NormThatIsNotFiniteChangesNothing) {
  Random random(10);
  CaseShape shape;
  const EmbeddingData data = make_case(random, shape);
  TestDevice device;
  CachedTables tables(device, data, CUDAMOE_OPTIMIZER_ADAGRAD, {16});
  const auto before = tables.values();
  const Buffer<double> norm(device, std::vector<double>{std::numeric_limits<double>::infinity()});
  tables.prepare();
  tables.update(CUDAMOE_OPTIMIZER_ADAGRAD, 1, random.reals(data.batch * data.width), CUDAMOE_BOUNDS_REPORT, norm.data());
  tables.flush();
  expect_same_bits(before, tables.values());
  EXPECT_EQ(tables.counters(0).bytes_out, 0);
}

// More tables and features than one launch takes, and some that have nothing to do.
TEST(EmbeddingCache, ManyTablesAndFeatures) {
  Random random(11);
  CaseShape shape;
  shape.batch = 3;
  for (int t = 0; t < 53; ++t) shape.dims.push_back(4 + t % 5);
  shape.rows = {20, 40, 100};
  shape.bag_sizes.clear();
  for (int f = 0; f < 130; ++f) shape.bag_sizes.push_back(f % 3);
  for (int f = 0; f < 130; ++f) shape.feature_tables.push_back(f * 7 % 51);  // none reads the last tables
  shape.integers = false;
  const EmbeddingData data = make_case(random, shape);
  const std::vector<Ids> steps = random_steps(random, data, 2);
  TestDevice device;
  CachedTables without(device, data, CUDAMOE_OPTIMIZER_SGD, {0}), with(device, data, CUDAMOE_OPTIMIZER_SGD, {8, 0, 16, 24});
  const auto expected = train(without, data, steps, CUDAMOE_OPTIMIZER_SGD);
  expect_same_bits(expected, train(with, data, steps, CUDAMOE_OPTIMIZER_SGD));
}

TEST(EmbeddingCache, EmptyBatches) {
  Random random(12);
  CaseShape shape;
  shape.batch = 0;
  shape.bag_sizes = {1, 0};
  shape.feature_tables = {0, 0};
  EmbeddingData data = make_case(random, shape);
  data.features[1].ids.clear();
  TestDevice device;
  CachedTables tables(device, data, CUDAMOE_OPTIMIZER_SGD, {8});
  auto args = tables.prepare_args();
  CUDAMOE_EXPECT_OK(cudamoe_embedding_cache_prepare_workspace(device.stream(), &args, &args.workspace_bytes));
  EXPECT_EQ(args.workspace_bytes, 0);
  CUDAMOE_EXPECT_OK(cudamoe_embedding_cache_prepare(device.stream(), &args));
  tables.flush();
  EXPECT_EQ(tables.counters(0).batches, 0);
}

// One row many thousand times, beside others of its set.
TEST(EmbeddingCache, LongRunsOfOneRow) {
  Random random(13);
  CaseShape shape;
  shape.batch = test_device_is_slow() ? 700 : 20000;
  shape.rows = {1000};
  shape.dims = {4};
  shape.bag_sizes = {3};
  shape.integers = false;
  EmbeddingData data = make_case(random, shape);
  for (size_t i = 0; i < data.features[0].ids.size(); ++i) {
    if (i % 50 != 0) data.features[0].ids[i] = static_cast<int32_t>(i % 3 * 5);
  }
  const std::vector<Ids> steps{{data.features[0].ids}, {data.features[0].ids}};
  TestDevice device;
  CachedTables without(device, data, CUDAMOE_OPTIMIZER_SGD, {0}), with(device, data, CUDAMOE_OPTIMIZER_SGD, {40});
  const auto expected = train(without, data, steps, CUDAMOE_OPTIMIZER_SGD);
  expect_same_bits(expected, train(with, data, steps, CUDAMOE_OPTIMIZER_SGD));
}

TEST(EmbeddingCache, StepsAreCaptured) {
  Random random(14);
  CaseShape shape;
  shape.batch = 10;
  shape.rows = {80};
  shape.bag_sizes = {2};
  shape.integers = false;
  const EmbeddingData data = make_case(random, shape);
  const std::vector<Ids> steps = random_steps(random, data, 4);
  TestDevice device;
  CachedTables with(device, data, CUDAMOE_OPTIMIZER_SGD, {16}), without(device, data, CUDAMOE_OPTIMIZER_SGD, {0});
  const Buffer<int32_t> ids(device, steps[0][0]);
  const Buffer<float> output(device, data.batch * data.width);
  with.tables().features()[0].ids = ids.data();
  auto prepare = with.prepare_args();
  CUDAMOE_ASSERT_OK(cudamoe_embedding_cache_prepare_workspace(device.stream(), &prepare, &prepare.workspace_bytes));
  const Workspace workspace(device, prepare.workspace_bytes);
  prepare.workspace = workspace.data();
  cudamoe_capture* capture = nullptr;
  CUDAMOE_ASSERT_OK(cudamoe_capture_begin(device.stream()));
  {
    // Arrays on the host are read when the calls are made.
    const std::vector<cudamoe_embedding_cache> caches = with.caches();
    const std::vector<cudamoe_embedding_table> tables = with.tables().tables();
    const cudamoe_embedding_cache_flush_args flush{sizeof flush, 1, tables.data(), caches.data()};
    auto forward = with.forward_args(output);
    forward.caches = prepare.caches = caches.data();
    CUDAMOE_EXPECT_OK(cudamoe_embedding_cache_prepare(device.stream(), &prepare));
    CUDAMOE_EXPECT_OK(cudamoe_embedding_forward(device.stream(), &forward));
    CUDAMOE_EXPECT_OK(cudamoe_embedding_cache_flush(device.stream(), &flush));
  }
  CUDAMOE_ASSERT_OK(cudamoe_capture_end(device.stream(), &capture));
  for (const Ids& step : steps) {
    CUDAMOE_EXPECT_OK(
        cudamoe_memory_copy(device.stream(), ids.data(), step[0].data(), static_cast<int64_t>(4 * step[0].size()), CUDAMOE_HOST_TO_DEVICE));
    CUDAMOE_EXPECT_OK(cudamoe_capture_launch(capture));
    without.load(step);
    expect_same_bits({without.forward()}, {output.get()});
  }
  if (caches_hold_rows()) {
    EXPECT_EQ(with.counters(0).batches, 4);
    EXPECT_GT(with.counters(0).evictions, 0);
  }
  CUDAMOE_EXPECT_OK(cudamoe_capture_destroy(capture));
}

}  // namespace
}  // namespace cudamoe::test
