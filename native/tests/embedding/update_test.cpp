// cudamoe_embedding_update and cudamoe_embedding_gradient against the double reference.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "embedding/embedding_case.h"
#include "support/compare.h"
#include "support/sparse_memory.h"

namespace cudamoe::test {
namespace {

constexpr int32_t kOptimizers[] = {CUDAMOE_OPTIMIZER_SGD, CUDAMOE_OPTIMIZER_ADAGRAD, CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD,
                                   CUDAMOE_OPTIMIZER_ROWWISE_ADAM};

CaseShape mixed_shape(int32_t dim) {
  CaseShape shape;
  shape.batch = 23;
  shape.dims = {dim, dim + 2, 16};
  shape.rows = {50, 1, 3000};
  shape.bag_sizes = {1, 0, 4, 2, 0, 1, 4};
  shape.feature_tables = {0, 0, 1, 2, 2, 0, 2};
  shape.poolings = {CUDAMOE_POOLING_SUM,  CUDAMOE_POOLING_SUM, CUDAMOE_POOLING_MEAN,
                    CUDAMOE_POOLING_MEAN, CUDAMOE_POOLING_SUM, CUDAMOE_POOLING_MEAN};
  shape.stride_extra = dim % 3;
  shape.gap = dim % 2;
  return shape;
}

// Every merged row, its place and order, and every value.
void expect_gradient(const EmbeddingData& data, const EmbeddingCase::Gradient& result, const std::vector<MergedRows>& reference,
                     double tolerance) {
  int64_t start = 0;
  for (size_t t = 0; t < data.tables.size(); ++t) {
    ASSERT_EQ(result.counts[t], static_cast<int64_t>(reference[t].size()));
    int64_t i = start;
    for (const auto& [row, values] : reference[t]) {
      ASSERT_EQ(result.rows[static_cast<size_t>(i)], row);
      for (size_t j = 0; j < values.size(); ++j) {
        ASSERT_NEAR(static_cast<double>(result.values[static_cast<size_t>(i * result.row_stride) + j]), values[j], tolerance)
            << "row " << row << " column " << j;
      }
      ++i;
    }
    for (const FeatureData& feature : data.features)
      start += feature.table == static_cast<int32_t>(t) ? static_cast<int64_t>(feature.ids.size()) : 0;
  }
}

TEST(EmbeddingGradient, IntegerDataIsExactForAllDimensions) {
  TestDevice device;
  Random random;
  for (const int32_t dim : {1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 32, 33, 50, 64, 100, 128, 129, 200}) {
    const EmbeddingData data = make_case(random, mixed_shape(dim));
    const EmbeddingCase on_device(device, data);
    const int64_t stride = data.width + dim % 4;
    const Buffer<float> gradient(device, random.integers(data.batch * stride), dim % 3);
    SCOPED_TRACE(dim);
    expect_gradient(data, on_device.gradient(gradient, stride), reference_embedding_gradient(data, gradient.get(), stride, false), 0);
  }
}

TEST(EmbeddingGradient, ManyLookupsManyTilesAndLargeTables) {
  std::vector<std::string> specs{test_device_spec_of("cpu:threads=1", "simt:order=random")};
  if (test_device_spec() == "cpu") specs.push_back("cpu:threads=4");
  for (const std::string& spec : specs) {
    TestDevice device(spec);
    Random random(1);
    for (const int64_t rows : {int64_t{1}, int64_t{2}, int64_t{2000}, int64_t{5000}, int64_t{1} << 23}) {
      CaseShape shape;
      shape.batch = test_device_is_slow() ? 700 : 9000;
      shape.dims = {4};
      shape.rows = {std::min<int64_t>(rows, 5000)};
      shape.bag_sizes = {5, 0, 1};
      EmbeddingData data = make_case(random, shape);
      if (rows > 5000) {  // only ids and the number of rows matter to a gradient
        data.tables[0].rows = rows;
        for (FeatureData& feature : data.features) {
          for (int32_t& id : feature.ids) id = static_cast<int32_t>(random.integer(0, rows - 1));
        }
      }
      const EmbeddingCase on_device(device, data);
      const Buffer<float> gradient(device, random.integers(data.batch * data.width));
      SCOPED_TRACE(testing::Message() << spec << ", rows " << rows);
      expect_gradient(data, on_device.gradient(gradient, data.width), reference_embedding_gradient(data, gradient.get(), data.width, false),
                      0);
    }
  }
}

// Many look-ups are sorted in larger tiles on a GPU.
TEST(EmbeddingGradient, AMillionLookupsAndMore) {
  TestDevice device;
  Random random(31);
  for (const int64_t batch : {1 << 16, 1 << 18, 1 << 19}) {
    CaseShape shape;
    shape.batch = batch + 3;
    shape.dims = {1};
    shape.rows = {700};
    shape.bag_sizes = {4};
    const EmbeddingData data = make_case(random, shape);
    const EmbeddingCase on_device(device, data);
    const Buffer<float> gradient(device, random.integers(data.batch * data.width));
    SCOPED_TRACE(batch);
    expect_gradient(data, on_device.gradient(gradient, data.width), reference_embedding_gradient(data, gradient.get(), data.width, false),
                    0);
  }
}

TEST(EmbeddingGradient, OneRowLookedUpAHundredThousandTimes) {
  TestDevice device;
  Random random(2);
  for (const int32_t dim : {16, 5}) {
    CaseShape shape;
    shape.batch = test_device_is_slow() ? 150 : 5000;
    shape.dims = {dim};
    shape.bag_sizes = {20};
    shape.integers = false;
    EmbeddingData data = make_case(random, shape);
    std::fill(data.features[0].ids.begin(), data.features[0].ids.end(), 3);
    const EmbeddingCase on_device(device, data);
    const Buffer<float> gradient(device, random.reals(data.batch * data.width));
    const auto reference = reference_embedding_gradient(data, gradient.get(), data.width, false);
    double norm = 0;
    for (const double value : reference[0].at(3)) norm += value * value;
    expect_gradient(data, on_device.gradient(gradient, data.width), reference, 1e-5 * std::sqrt(norm));
  }
}

// Together more rows than 32 bits count; ids up to the last row of each.
TEST(EmbeddingGradient, TablesOfAnyNumberOfRows) {
  TestDevice device;
  Random random(11);
  CaseShape shape;
  shape.batch = 40;
  shape.dims = {4, 8, 3, 5, 4};
  shape.bag_sizes = {2, 0, 3, 0, 1, 1};
  shape.feature_tables = {0, 1, 2, 4, 4, 0};  // none reads table 3
  EmbeddingData data = make_case(random, shape);
  for (TableData& table : data.tables) table.rows = std::numeric_limits<int32_t>::max();
  for (FeatureData& feature : data.features) {
    for (int32_t& id : feature.ids) {
      if (random.coin()) id = std::numeric_limits<int32_t>::max() - 1 - static_cast<int32_t>(random.integer(0, 5));
    }
  }
  data.features[3].ids[0] = -1;
  const EmbeddingCase on_device(device, data);
  const Buffer<float> gradient(device, random.integers(data.batch * data.width));
  expect_gradient(data, on_device.gradient(gradient, data.width), reference_embedding_gradient(data, gradient.get(), data.width, false), 0);
  EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_ERROR_REPORTED);
  EXPECT_NE(last_error().find("features[3].ids[0] is -1"), std::string::npos) << last_error();
}

// Runs that end at, before and behind the ends of tiles of any size, one after the other.
TEST(EmbeddingGradient, RunsAroundPowersOfTwo) {
  TestDevice device;
  Random random(12);
  for (const int32_t dim : {3, 16, 64}) {
    CaseShape shape;
    shape.dims = {dim};
    EmbeddingData data = make_case(random, shape);
    std::vector<int32_t>& ids = data.features[0].ids;
    ids.clear();
    data.tables[0].rows = 1000;
    int32_t row = 0;
    for (const int64_t length : {1, 31, 32, 33, 31, 64, 63, 65, 1, 127, 128, 129, 255, 1, 256, 257, 2, 500}) {
      ids.insert(ids.end(), static_cast<size_t>(length), row++);
    }
    for (size_t i = ids.size(); i > 1; --i) std::swap(ids[i - 1], ids[static_cast<size_t>(random.integer(0, static_cast<int64_t>(i) - 1))]);
    data.batch = static_cast<int64_t>(ids.size());
    const EmbeddingCase on_device(device, data);
    const Buffer<float> gradient(device, random.integers(data.batch * data.width));
    SCOPED_TRACE(dim);
    expect_gradient(data, on_device.gradient(gradient, data.width), reference_embedding_gradient(data, gradient.get(), data.width, false),
                    0);
  }
}

TEST(EmbeddingGradient, EmptyBatchAndBagsGiveNoRows) {
  TestDevice device;
  Random random(3);
  CaseShape shape;
  shape.batch = 0;
  shape.bag_sizes = {1, 0, 3};
  EmbeddingData data = make_case(random, shape);
  data.features[1].ids.clear();
  data.features[1].offsets = {0};
  const Buffer<float> gradient(device, 0);
  EXPECT_EQ(EmbeddingCase(device, data).gradient(gradient, data.width).counts, std::vector<int64_t>{0});
}

TEST(EmbeddingUpdate, FollowsTheReferenceOverSeveralSteps) {
  TestDevice device;
  Random random(4);
  for (const int32_t optimizer : kOptimizers) {
    // 0: tables and a gradient whose rows allow accesses of 16 bytes, all bags sums.
    for (const int32_t dim : {0, 1, 3, 4, 8, 16, 20, 32, 64, 100, 128, 300}) {
      CaseShape shape = mixed_shape(dim);
      if (dim == 0) {
        shape = {};
        shape.batch = 60;
        shape.dims = {16, 32};
        shape.bag_sizes = {3, 0};
      }
      shape.integers = false;
      const EmbeddingData data = make_case(random, shape);
      const EmbeddingCase on_device(device, data, optimizer);
      EmbeddingOptimizer settings;
      settings.optimizer = optimizer;
      settings.weight_decay = 0.02;
      settings.gradient_scale = 0.75;
      std::vector<TableState> reference;
      for (const TableData& table : data.tables) {
        TableState state;
        state.weights.assign(table.weights.begin(), table.weights.end());
        state.state1.assign(table.weights.size(), 0.0);
        state.state2.assign(static_cast<size_t>(table.rows), 0.0);
        reference.push_back(state);
      }
      for (int64_t step = 1; step <= (test_device_is_slow() ? 2 : 4); ++step) {
        const Buffer<float> gradient(device, random.reals(data.batch * data.width));
        auto args = on_device.update_args(settings, gradient, data.width);
        args.step = step;
        CUDAMOE_ASSERT_OK(on_device.update(args));
        const auto merged = reference_embedding_gradient(data, gradient.get(), data.width, false);
        for (size_t t = 0; t < data.tables.size(); ++t) reference_embedding_step(settings, step, data.tables[t], merged[t], reference[t]);
      }
      for (size_t t = 0; t < data.tables.size(); ++t) {
        SCOPED_TRACE(testing::Message() << "optimizer " << optimizer << " dim " << dim << " table " << t);
        const auto table = static_cast<int32_t>(t);
        EXPECT_LE(relative_error(on_device.weights(table), reference[t].weights), 2e-6);
        if (optimizer != CUDAMOE_OPTIMIZER_SGD) {
          std::vector<double> state = reference[t].state1;
          state.resize(on_device.state1(table).size());
          EXPECT_LE(relative_error(on_device.state1(table), state), 2e-6);
        }
        if (optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAM) {
          EXPECT_LE(relative_error(on_device.state2(table), reference[t].state2), 2e-6);
        }
      }
    }
  }
}

// SGD on small integers with a power of two as the rate is exact; rows that no look-up touches, and padding, keep their bits.
TEST(EmbeddingUpdate, SgdOnIntegersIsExactAndTouchesNothingElse) {
  TestDevice device;
  Random random(5);
  for (const int32_t dim : {1, 4, 8, 13, 16, 32, 64, 65, 128}) {
    const EmbeddingData data = make_case(random, mixed_shape(dim));
    const EmbeddingCase on_device(device, data);
    const Buffer<float> gradient(device, random.integers(data.batch * data.width));
    EmbeddingOptimizer settings;
    settings.learning_rate = 0.5;
    CUDAMOE_ASSERT_OK(on_device.update(on_device.update_args(settings, gradient, data.width)));
    const auto merged = reference_embedding_gradient(data, gradient.get(), data.width, false);
    for (size_t t = 0; t < data.tables.size(); ++t) {
      std::vector<float> expected = data.tables[t].weights;
      for (const auto& [row, values] : merged[t]) {
        for (size_t j = 0; j < values.size(); ++j)
          expected[static_cast<size_t>(row * data.tables[t].row_stride) + j] -= static_cast<float>(0.5 * values[j]);
      }
      EXPECT_EQ(on_device.weights(static_cast<int32_t>(t)), expected) << "dim " << dim << " table " << t;
    }
  }
}

// The update uses the sums of the gradient operation, bit for bit: w - 1 * g for w = 0 is -g.
TEST(EmbeddingUpdate, UsesTheSumsOfTheGradientOperation) {
  TestDevice device;
  Random random(6);
  for (const int32_t dim : {6, 16, 64}) {
    CaseShape shape = mixed_shape(dim);
    shape.batch = test_device_is_slow() ? 90 : 900;
    shape.poolings = {CUDAMOE_POOLING_MEAN, CUDAMOE_POOLING_SUM};
    EmbeddingData data = make_case(random, shape);
    for (TableData& table : data.tables) std::fill(table.weights.begin(), table.weights.end(), 0.0f);
    const EmbeddingCase on_device(device, data);
    const Buffer<float> gradient(device, random.reals(data.batch * data.width));
    const EmbeddingCase::Gradient merged = on_device.gradient(gradient, data.width);
    EmbeddingOptimizer settings;
    settings.learning_rate = 1;
    CUDAMOE_ASSERT_OK(on_device.update(on_device.update_args(settings, gradient, data.width)));
    int64_t start = 0;
    for (size_t t = 0; t < data.tables.size(); ++t) {
      const std::vector<float> weights = on_device.weights(static_cast<int32_t>(t));
      for (int64_t i = start; i < start + merged.counts[t]; ++i) {
        for (int64_t j = 0; j < data.tables[t].dim; ++j) {
          const float value = merged.values[static_cast<size_t>(i * merged.row_stride + j)];
          ASSERT_EQ(weights[static_cast<size_t>(merged.rows[static_cast<size_t>(i)] * data.tables[t].row_stride + j)], -value);
        }
      }
      for (const FeatureData& feature : data.features)
        start += feature.table == static_cast<int32_t>(t) ? static_cast<int64_t>(feature.ids.size()) : 0;
    }
  }
}

EmbeddingData with_bad_ids(Random& random) {
  CaseShape shape = mixed_shape(16);
  EmbeddingData data = make_case(random, shape);
  data.features[0].ids[22] = 50;
  data.features[2].ids[17] = -1;
  data.features[3].ids[5] = std::numeric_limits<int32_t>::min();
  data.features[6].ids[0] = std::numeric_limits<int32_t>::max();
  return data;
}

TEST(EmbeddingUpdate, BadIdsAreLeftOutAndReportedOrClamped) {
  TestDevice device;
  Random random(7);
  const EmbeddingData data = with_bad_ids(random);
  for (const bool clamp : {false, true}) {
    const int32_t bounds = clamp ? CUDAMOE_BOUNDS_CLAMP : CUDAMOE_BOUNDS_REPORT;
    const EmbeddingCase on_device(device, data);
    const Buffer<float> gradient(device, random.integers(data.batch * data.width));
    const auto merged = reference_embedding_gradient(data, gradient.get(), data.width, clamp);
    const auto expect_report = [&](const char* function) {
      if (clamp) {
        CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
        return;
      }
      EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_ERROR_REPORTED);
      EXPECT_NE(last_error().find(std::string(function) + ": features[0].ids[22] is 50; tables[0] has 50 rows; 4 ids"), std::string::npos)
          << last_error();
    };
    expect_gradient(data, on_device.gradient(gradient, data.width, bounds), merged, 0);
    expect_report("cudamoe_embedding_gradient");
    EmbeddingOptimizer settings;
    settings.learning_rate = 1;
    CUDAMOE_ASSERT_OK(on_device.update(on_device.update_args(settings, gradient, data.width, bounds)));
    expect_report("cudamoe_embedding_update");
    for (size_t t = 0; t < data.tables.size(); ++t) {
      const std::vector<float> weights = on_device.weights(static_cast<int32_t>(t));
      for (const auto& [row, values] : merged[t]) {
        for (size_t j = 0; j < values.size(); ++j) {
          const size_t place = static_cast<size_t>(row * data.tables[t].row_stride) + j;
          ASSERT_EQ(static_cast<double>(weights[place]), static_cast<double>(data.tables[t].weights[place]) - values[j]);
        }
      }
    }
  }
}

TEST(EmbeddingUpdate, FeaturesWithBadOffsetsAreLeftOutAndReported) {
  TestDevice device;
  Random random(8);
  CaseShape shape;
  shape.batch = 4;
  shape.bag_sizes = {1, 0};
  shape.feature_tables = {0, 0};
  shape.dims = {16};
  EmbeddingData data = make_case(random, shape);
  data.features[1].ids.assign(10, 1);
  for (const std::vector<int32_t>& offsets :
       {std::vector<int32_t>{1, 2, 3, 4, 5}, {0, 10, 0, 10, 10}, {0, 1, 2, 3, 11}, {0, -1, 2, 3, 4}}) {
    data.features[1].offsets = offsets;
    EmbeddingData left_out = data;
    left_out.features[1].offsets = {0, 0, 0, 0, 0};
    const EmbeddingCase on_device(device, data);
    const Buffer<float> gradient(device, random.integers(data.batch * data.width));
    expect_gradient(data, on_device.gradient(gradient, data.width),
                    reference_embedding_gradient(left_out, gradient.get(), data.width, false), 0);
    EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_ERROR_REPORTED);
    EXPECT_NE(last_error().find("features[1].offsets["), std::string::npos) << last_error();
  }
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

TEST(EmbeddingUpdate, SameBitsForAnyOrderAndRepeats) {
  Random random(9);
  CaseShape shape;
  shape.batch = test_device_is_slow() ? 60 : 4000;
  shape.dims = {16, 24, 8};
  shape.rows = {70000, 300, 9};
  shape.bag_sizes = {20, 0, 6, 1};
  shape.feature_tables = {0, 1, 2, 0};
  shape.poolings = {CUDAMOE_POOLING_SUM, CUDAMOE_POOLING_MEAN};
  shape.dtypes = {CUDAMOE_F32, CUDAMOE_BF16, CUDAMOE_F32};
  shape.integers = false;
  const EmbeddingData data = make_case(random, shape);
  const std::vector<float> gradient_values = random.reals(data.batch * data.width);
  for (const int32_t optimizer : kOptimizers) {
    std::vector<std::vector<float>> first;
    // The sums, whose order is in question, are the same for all optimisers.
    for (const std::string& spec : optimizer == kOptimizers[0] ? repeated_device_specs() : equivalent_device_specs()) {
      TestDevice device(spec);
      const EmbeddingCase on_device(device, data, optimizer);
      const Buffer<float> gradient(device, gradient_values);
      EmbeddingOptimizer settings;
      settings.optimizer = optimizer;
      CUDAMOE_ASSERT_OK(on_device.update(on_device.update_args(settings, gradient, data.width)));
      std::vector<std::vector<float>> result;
      for (int32_t t = 0; t < 3; ++t) {
        result.push_back(on_device.weights(t));
        result.push_back(on_device.state1(t));
        result.push_back(on_device.state2(t));
      }
      if (first.empty()) first = result;
      for (size_t i = 0; i < result.size(); ++i) ASSERT_TRUE(same_bits(first[i], result[i])) << spec;
    }
  }
}

TEST(EmbeddingUpdate, NormThatIsNotFiniteChangesNothing) {
  TestDevice device;
  Random random(11);
  const EmbeddingData data = make_case(random, mixed_shape(16));
  for (const int32_t optimizer : kOptimizers) {
    EmbeddingOptimizer settings;
    settings.optimizer = optimizer;
    for (const double value : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), 1e300}) {
      const EmbeddingCase untouched(device, data, optimizer, 0.5f), without(device, data, optimizer, 0.5f),
          with(device, data, optimizer, 0.5f);
      const Buffer<float> gradient(device, random.integers(data.batch * data.width, 1, 4));
      const Buffer<double> norm(device, std::vector<double>{value});
      CUDAMOE_ASSERT_OK(without.update(without.update_args(settings, gradient, data.width)));
      cudamoe_embedding_update_args args = with.update_args(settings, gradient, data.width);
      args.norm = norm.data();
      CUDAMOE_ASSERT_OK(with.update(args));
      const EmbeddingCase& expected = std::isfinite(value) ? without : untouched;
      for (int32_t t = 0; t < static_cast<int32_t>(data.tables.size()); ++t) {
        EXPECT_FALSE(same_bits(without.weights(t), untouched.weights(t)));
        EXPECT_TRUE(same_bits(with.weights(t), expected.weights(t))) << value;
        EXPECT_TRUE(same_bits(with.state1(t), expected.state1(t))) << value;
        EXPECT_TRUE(same_bits(with.state2(t), expected.state2(t))) << value;
      }
    }
  }
}

TEST(EmbeddingUpdate, NumbersInDeviceMemoryGiveTheBitsOfArguments) {
  TestDevice device;
  Random random(12);
  CaseShape shape = mixed_shape(16);
  shape.dtypes = {CUDAMOE_F32, CUDAMOE_BF16, CUDAMOE_BF16};
  const EmbeddingData data = make_case(random, shape);
  Buffer<cudamoe_step_numbers> numbers(device, 1);
  for (const int32_t optimizer : kOptimizers) {
    EmbeddingOptimizer settings;
    settings.optimizer = optimizer;
    settings.weight_decay = 0.07;
    const EmbeddingCase by_arguments(device, data, optimizer, 0.5f), by_memory(device, data, optimizer, 0.5f);
    for (const int64_t step : {int64_t{1}, int64_t{2}, (int64_t{5} << 32) + 3}) {
      const Buffer<float> gradient(device, random.reals(data.batch * data.width));
      cudamoe_embedding_update_args args = by_arguments.update_args(settings, gradient, data.width);
      args.learning_rate = 0.3f / static_cast<float>(step);
      args.step = step;
      args.seed = 0x123456789ABCDEF0u;
      cudamoe_step_numbers current{};
      CUDAMOE_ASSERT_OK(cudamoe_step_numbers_make(args.learning_rate, args.beta1, args.beta2, step, &current));
      numbers.set({current});
      CUDAMOE_ASSERT_OK(by_arguments.update(args));
      args = by_memory.update_args(settings, gradient, data.width);
      args.learning_rate = std::numeric_limits<float>::quiet_NaN();
      args.step = 0;
      args.seed = 0x123456789ABCDEF0u;
      args.numbers = numbers.data();
      CUDAMOE_ASSERT_OK(by_memory.update(args));
    }
    EXPECT_TRUE(numbers.guards_intact());
    for (int32_t t = 0; t < static_cast<int32_t>(data.tables.size()); ++t) {
      EXPECT_TRUE(same_bits(by_memory.weights(t), by_arguments.weights(t))) << "optimizer " << optimizer << " table " << t;
      EXPECT_TRUE(same_bits(by_memory.state1(t), by_arguments.state1(t))) << "optimizer " << optimizer << " table " << t;
      EXPECT_TRUE(same_bits(by_memory.state2(t), by_arguments.state2(t))) << "optimizer " << optimizer << " table " << t;
    }
  }
}

// Weights and a state kept in one wide row: the rows of the two interleave.
TEST(EmbeddingUpdate, StateMayLieBesideTheWeights) {
  TestDevice device;
  Random random(10);
  CaseShape shape;
  shape.stride_extra = 16;
  const EmbeddingData data = make_case(random, shape);
  EmbeddingCase on_device(device, data, CUDAMOE_OPTIMIZER_ADAGRAD);
  on_device.tables()[0].state1 = static_cast<float*>(on_device.tables()[0].weights) + 16;
  const Buffer<float> gradient(device, random.integers(data.batch * data.width, 1, 4));
  EmbeddingOptimizer settings;
  settings.optimizer = CUDAMOE_OPTIMIZER_ADAGRAD;
  CUDAMOE_EXPECT_OK(on_device.update(on_device.update_args(settings, gradient, data.width)));
  on_device.tables()[0].state1 = static_cast<float*>(on_device.tables()[0].weights) + 15;
  CUDAMOE_EXPECT_REFUSED(on_device.update(on_device.update_args(settings, gradient, data.width)), "overlaps");
}

TEST(EmbeddingUpdate, RowStrideBeyond32Bits) {
  TestDevice device;
  if (!test_device_reaches_host_memory()) GTEST_SKIP() << "needs memory mapped on the host";
  const int64_t rows = 5, stride = int64_t{1} << 30;
  const SparseMemory memory(rows * stride);
  if (!memory.ok()) GTEST_SKIP() << "this machine does not give that much address space";
  float* weights = memory.data();
  const std::vector<int32_t> ids{4, 0, 3, 2, 1, 4};
  EmbeddingData data;
  data.batch = 6;
  data.width = 16;
  data.features.resize(1);
  data.features[0].ids = ids;
  data.tables.resize(1);
  EmbeddingCase on_device(device, data);
  on_device.tables()[0] = {weights, rows, stride, nullptr, nullptr, 16, CUDAMOE_F32};
  const Buffer<float> gradient(device, std::vector<float>(6 * 16, 1.0f));
  EmbeddingOptimizer settings;
  settings.learning_rate = 1;
  CUDAMOE_EXPECT_OK(on_device.update(on_device.update_args(settings, gradient, 16)));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < 16; ++j) EXPECT_EQ(weights[r * stride + j], r == 4 ? -2.0f : -1.0f);
  }
}

}  // namespace
}  // namespace cudamoe::test
