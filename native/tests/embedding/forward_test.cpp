// cudamoe_embedding_forward against the double reference.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "embedding/embedding_case.h"
#include "support/compare.h"
#include "support/sparse_memory.h"

namespace cudamoe::test {
namespace {

// Runs a forward with poisoned output; columns of no feature must stay poisoned.
std::vector<float> forward(TestDevice& device, const EmbeddingData& data, const EmbeddingCase& on_device, int32_t bounds,
                           int32_t output_dtype, int64_t stride_extra, int64_t misaligned = 0) {
  auto args = on_device.args<cudamoe_embedding_forward_args>(bounds);
  args.output_dtype = output_dtype;
  args.output_row_stride = data.width + stride_extra;
  const int64_t count = data.batch * args.output_row_stride;
  Buffer<float> f32(device, output_dtype == CUDAMOE_F32 ? count : 0, misaligned);
  Buffer<uint16_t> bf16(device, output_dtype == CUDAMOE_BF16 ? count : 0, misaligned);
  args.output = output_dtype == CUDAMOE_F32 ? static_cast<void*>(f32.data()) : bf16.data();
  CUDAMOE_EXPECT_OK(cudamoe_embedding_forward(device.stream(), &args));
  EXPECT_TRUE(f32.guards_intact() && bf16.guards_intact() && on_device.guards_intact());
  const std::vector<float> all = output_dtype == CUDAMOE_F32 ? f32.get() : from_bf16(bf16.get());
  std::vector<float> output;
  for (int64_t b = 0; b < data.batch; ++b) {
    const auto row = all.begin() + b * args.output_row_stride;
    output.insert(output.end(), row, row + data.width);
    for (int64_t j = data.width; j < args.output_row_stride; ++j) EXPECT_TRUE(std::isnan(row[j])) << "padding was written";
  }
  return output;
}

void expect_same(const std::vector<float>& output, const std::vector<double>& reference) {
  ASSERT_EQ(output.size(), reference.size());
  for (size_t i = 0; i < output.size(); ++i) {
    if (std::isnan(reference[i])) {
      ASSERT_TRUE(std::isnan(output[i])) << "element " << i << " of no feature was written";
    } else {
      ASSERT_EQ(static_cast<double>(output[i]), reference[i]) << "element " << i;
    }
  }
}

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(EmbeddingForward, IntegerDataIsExactForAllDimensionsTypesAndBags) {
  TestDevice device;
  Random random;
  for (const int32_t dim :
       {1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 20, 31, 32, 33, 50, 63, 64, 65, 100, 127, 128, 129, 200, 256, 257, 300, 1100}) {
    for (const int32_t weights : {CUDAMOE_F32, CUDAMOE_BF16}) {
      for (const int32_t output : {CUDAMOE_F32, CUDAMOE_BF16}) {
        CaseShape shape;
        shape.dims = {dim};
        shape.dtypes = {weights};
        shape.bag_sizes = {1, 0, 4, 2, 0, 1};
        shape.poolings = {CUDAMOE_POOLING_SUM, CUDAMOE_POOLING_SUM, CUDAMOE_POOLING_MEAN};
        shape.stride_extra = dim % 3;
        shape.gap = dim % 2;
        // The second feature of bags by offsets is a sum, so that all results are exact.
        shape.poolings = {CUDAMOE_POOLING_SUM,  CUDAMOE_POOLING_SUM, CUDAMOE_POOLING_MEAN,
                          CUDAMOE_POOLING_MEAN, CUDAMOE_POOLING_SUM, CUDAMOE_POOLING_MEAN};
        const EmbeddingData data = make_case(random, shape);
        const EmbeddingCase on_device(device, data);
        SCOPED_TRACE(testing::Message() << "dim " << dim << " weights " << weights << " output " << output);
        expect_same(forward(device, data, on_device, CUDAMOE_BOUNDS_REPORT, output, dim % 4, dim % 5),
                    reference_embedding_forward(data, false, kNan));
      }
    }
  }
}

TEST(EmbeddingForward, RandomDataIsWithinRoundingOfTheReference) {
  TestDevice device;
  Random random(1);
  for (const int32_t dim : {3, 16, 40, 64}) {
    CaseShape shape;
    shape.batch = test_device_is_slow() ? 60 : 300;
    shape.dims = {dim, dim + 1};
    shape.rows = {1000, 37};
    shape.bag_sizes = {1, 0, 20, 0};
    shape.poolings = {CUDAMOE_POOLING_SUM, CUDAMOE_POOLING_MEAN, CUDAMOE_POOLING_MEAN, CUDAMOE_POOLING_SUM};
    shape.integers = false;
    const EmbeddingData data = make_case(random, shape);
    const EmbeddingCase on_device(device, data);
    EXPECT_LE(relative_error(forward(device, data, on_device, CUDAMOE_BOUNDS_REPORT, CUDAMOE_F32, 0),
                             reference_embedding_forward(data, false, kNan)),
              f32_bound(20));
  }
}

TEST(EmbeddingForward, EveryBlockOfALargeBatchIsPooled) {
  TestDevice device(test_device_spec_of("cpu:threads=3", "simt:order=random"));
  Random random(2);
  CaseShape shape;
  shape.batch = test_device_is_slow() ? 1031 : 5003;
  shape.dims = {16, 4, 10};
  shape.rows = {1000, 1, 300};
  shape.bag_sizes = {1, 3, 0, 7};
  shape.feature_tables = {0, 1, 2, 0};
  const EmbeddingData data = make_case(random, shape);
  const EmbeddingCase on_device(device, data);
  expect_same(forward(device, data, on_device, CUDAMOE_BOUNDS_REPORT, CUDAMOE_F32, 0), reference_embedding_forward(data, false, kNan));
}

TEST(EmbeddingForward, AllLookupsInOneBagAndEmptyBags) {
  TestDevice device;
  Random random(3);
  CaseShape shape;
  shape.batch = 9;
  shape.bag_sizes = {0, 0};
  shape.dims = {16, 6};
  EmbeddingData data = make_case(random, shape);
  for (FeatureData& feature : data.features) {
    feature.ids.assign(4000, 7);
    feature.offsets.assign(10, 0);
    for (size_t b = 5; b < 10; ++b) feature.offsets[b] = 4000;
  }
  const EmbeddingCase on_device(device, data);
  expect_same(forward(device, data, on_device, CUDAMOE_BOUNDS_REPORT, CUDAMOE_F32, 0), reference_embedding_forward(data, false, kNan));
}

TEST(EmbeddingForward, EmptyBatchWritesNothing) {
  TestDevice device;
  Random random(4);
  CaseShape shape;
  shape.batch = 0;
  shape.bag_sizes = {1, 0};
  const EmbeddingData data = make_case(random, shape);
  const EmbeddingCase on_device(device, data);
  auto args = on_device.args<cudamoe_embedding_forward_args>();
  args.output_row_stride = data.width;
  CUDAMOE_EXPECT_OK(cudamoe_embedding_forward(device.stream(), &args));
}

EmbeddingData with_bad_ids(Random& random) {
  CaseShape shape;
  shape.batch = 40;
  shape.dims = {16, 9};
  shape.rows = {50, 20};
  shape.bag_sizes = {1, 3, 0, 1};
  EmbeddingData data = make_case(random, shape);
  data.features[1].ids[17] = -1;
  data.features[1].ids[30] = 20;
  data.features[2].ids[0] = std::numeric_limits<int32_t>::min();
  data.features[3].ids[39] = std::numeric_limits<int32_t>::max();
  data.features[0].ids[39] = 50;
  return data;
}

TEST(EmbeddingForward, BadIdsAreLeftOutAndReported) {
  TestDevice device;
  Random random(5);
  const EmbeddingData data = with_bad_ids(random);
  const EmbeddingCase on_device(device, data);
  expect_same(forward(device, data, on_device, CUDAMOE_BOUNDS_REPORT, CUDAMOE_F32, 1), reference_embedding_forward(data, false, kNan));
  EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_ERROR_REPORTED);
  EXPECT_NE(last_error().find("cudamoe_embedding_forward: features[0].ids[39] is 50; tables[0] has 50 rows; 5 ids"), std::string::npos)
      << last_error();
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
}

TEST(EmbeddingForward, BadIdsReadRowZeroWhenClamped) {
  TestDevice device;
  Random random(6);
  const EmbeddingData data = with_bad_ids(random);
  const EmbeddingCase on_device(device, data);
  expect_same(forward(device, data, on_device, CUDAMOE_BOUNDS_CLAMP, CUDAMOE_F32, 1), reference_embedding_forward(data, true, kNan));
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
}

TEST(EmbeddingForward, FeaturesWithBadOffsetsAreLeftOutAndReported) {
  TestDevice device;
  Random random(7);
  CaseShape shape;
  shape.batch = 4;
  shape.bag_sizes = {1, 0};
  shape.dims = {16, 5};
  EmbeddingData data = make_case(random, shape);
  data.features[1].ids.assign(10, 1);
  EmbeddingData left_out = data;
  left_out.features[1].offsets = {0, 0, 0, 0, 0};
  const auto reference = reference_embedding_forward(left_out, false, kNan);
  for (const std::vector<int32_t>& offsets : {std::vector<int32_t>{1, 2, 3, 4, 5},
                                              {0, 5, 3, 8, 9},
                                              {0, 1, 2, 3, 11},
                                              {0, -1, 2, 3, 4},
                                              {0, 1, std::numeric_limits<int32_t>::max(), 3, 4},
                                              {0, 20, 20, 20, 20}}) {
    data.features[1].offsets = offsets;
    const EmbeddingCase on_device(device, data);
    expect_same(forward(device, data, on_device, CUDAMOE_BOUNDS_CLAMP, CUDAMOE_F32, 0), reference);
    EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_ERROR_REPORTED);
    EXPECT_NE(last_error().find("features[1].offsets["), std::string::npos) << last_error();
  }
}

// More features than a launch takes; what is bad lies among the last of them.
TEST(EmbeddingForward, ManyFeaturesAreOneOperation) {
  TestDevice device;
  Random random(10);
  CaseShape shape;
  shape.batch = 5;
  shape.dims = {8, 3};
  shape.bag_sizes.clear();
  for (int f = 0; f < 130; ++f) shape.bag_sizes.push_back(f % 3);
  EmbeddingData data = make_case(random, shape);
  {
    const EmbeddingCase on_device(device, data);
    expect_same(forward(device, data, on_device, CUDAMOE_BOUNDS_REPORT, CUDAMOE_F32, 0), reference_embedding_forward(data, false, kNan));
    CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
  }
  data.features[128].ids[1] = 50;
  data.features[121].ids[3] = -7;
  const EmbeddingCase with_bad_ids(device, data);
  expect_same(forward(device, data, with_bad_ids, CUDAMOE_BOUNDS_REPORT, CUDAMOE_F32, 0), reference_embedding_forward(data, false, kNan));
  EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_ERROR_REPORTED);
  EXPECT_NE(last_error().find("features[121].ids[3] is -7; tables[1] has 50 rows; 2 ids"), std::string::npos) << last_error();
  EmbeddingData left_out = data;
  data.features[93].offsets[2] = -1;
  left_out.features[93].offsets.assign(6, 0);
  const EmbeddingCase with_bad_offsets(device, data);
  expect_same(forward(device, data, with_bad_offsets, CUDAMOE_BOUNDS_CLAMP, CUDAMOE_F32, 0),
              reference_embedding_forward(left_out, true, kNan));
  EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_ERROR_REPORTED);
  EXPECT_NE(last_error().find("features[93].offsets[2] is -1"), std::string::npos) << last_error();
  // Nothing stays behind.
  const EmbeddingCase good(device, left_out);
  forward(device, left_out, good, CUDAMOE_BOUNDS_CLAMP, CUDAMOE_F32, 0);
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
}

TEST(EmbeddingForward, NanAndInfinityOfOneRowStayInTheirBags) {
  TestDevice device;
  Random random(8);
  CaseShape shape;
  shape.bag_sizes = {2};
  EmbeddingData data = make_case(random, shape);
  data.features[0].ids.assign(14, 5);
  data.features[0].ids[4] = 9;
  for (int64_t j = 0; j < 16; ++j) data.tables[0].weights[static_cast<size_t>(9 * 16 + j)] = std::numeric_limits<float>::quiet_NaN();
  const EmbeddingCase on_device(device, data);
  const std::vector<float> output = forward(device, data, on_device, CUDAMOE_BOUNDS_REPORT, CUDAMOE_BF16, 0);
  for (int64_t b = 0; b < 7; ++b) {
    for (int64_t j = 0; j < 16; ++j) EXPECT_EQ(std::isnan(output[static_cast<size_t>(b * 16 + j)]), b == 2);
  }
}

// Rows times stride is beyond 2^31 elements; the memory between the rows is never touched, so the system need not have it.
TEST(EmbeddingForward, RowStrideBeyond32Bits) {
  TestDevice device;
  if (!test_device_reaches_host_memory()) GTEST_SKIP() << "needs memory mapped on the host";
  const int64_t rows = 5, stride = int64_t{1} << 30;
  const SparseMemory memory(rows * stride);
  if (!memory.ok()) GTEST_SKIP() << "this machine does not give that much address space";
  float* weights = memory.data();
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < 16; ++j) weights[r * stride + j] = static_cast<float>(100 * r + j);
  }
  const std::vector<int32_t> ids{4, 0, 3, 2, 1, 4};
  Buffer<int32_t> device_ids(device, ids);
  Buffer<float> output(device, 6 * 16);
  const cudamoe_embedding_table table{weights, rows, stride, nullptr, nullptr, 16, CUDAMOE_F32};
  const cudamoe_embedding_feature feature{device_ids.data(), nullptr, 1, 0, CUDAMOE_POOLING_SUM, 0, 0, 6};
  cudamoe_embedding_forward_args args{};
  args.struct_size = sizeof args;
  args.table_count = args.feature_count = 1;
  args.batch = 6;
  args.tables = &table;
  args.features = &feature;
  args.output = output.data();
  args.output_row_stride = 16;
  CUDAMOE_EXPECT_OK(cudamoe_embedding_forward(device.stream(), &args));
  const std::vector<float> values = output.get();
  for (size_t b = 0; b < 6; ++b) {
    for (size_t j = 0; j < 16; ++j) EXPECT_EQ(values[b * 16 + j], static_cast<float>(100 * ids[b]) + static_cast<float>(j));
  }
}

// Pooled sums have one order on all backends.
TEST(EmbeddingForward, SameBitsForAnyOrderAndOnTheCpu) {
  Random random(9);
  CaseShape shape;
  shape.batch = test_device_is_slow() ? 200 : 3000;
  shape.dims = {16, 24};
  shape.rows = {700};
  shape.bag_sizes = {1, 0, 6, 1};
  shape.poolings = {CUDAMOE_POOLING_SUM, CUDAMOE_POOLING_MEAN};
  shape.integers = false;
  const EmbeddingData data = make_case(random, shape);
  std::vector<float> first;
  std::vector<std::string> specs = repeated_device_specs();
  specs.push_back("cpu");
  for (const std::string& spec : specs) {
    TestDevice device(spec);
    const EmbeddingCase on_device(device, data);
    const std::vector<float> output = forward(device, data, on_device, CUDAMOE_BOUNDS_REPORT, CUDAMOE_F32, 0);
    if (first.empty()) first = output;
    ASSERT_EQ(std::memcmp(first.data(), output.data(), output.size() * sizeof(float)), 0) << spec;
  }
}

}  // namespace
}  // namespace cudamoe::test
