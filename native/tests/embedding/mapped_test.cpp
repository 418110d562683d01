// Tables and states in mapped host memory: the bits of those in device memory.
#include <gtest/gtest.h>

#include <cstring>

#include "embedding/embedding_case.h"
#include "support/compare.h"

namespace cudamoe::test {
namespace {

constexpr int32_t kOptimizers[] = {CUDAMOE_OPTIMIZER_SGD, CUDAMOE_OPTIMIZER_ADAGRAD, CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD,
                                   CUDAMOE_OPTIMIZER_ROWWISE_ADAM};

// All that a few training steps compute: the outputs of the look-ups, and the tables and states at the end.
std::vector<std::vector<float>> train(TestDevice& device, const EmbeddingData& data, int32_t optimizer, Place place) {
  const EmbeddingCase on_device(device, data, optimizer, 0.25f, place);
  EmbeddingOptimizer settings;
  settings.optimizer = optimizer;
  Random random(20);
  std::vector<std::vector<float>> results;
  Buffer<float> output(device, data.batch * data.width);
  for (int64_t step = 1; step <= 3; ++step) {
    auto forward = on_device.args<cudamoe_embedding_forward_args>();
    forward.output = output.data();
    forward.output_row_stride = data.width;
    CUDAMOE_EXPECT_OK(cudamoe_embedding_forward(device.stream(), &forward));
    results.push_back(output.get());
    const Buffer<float> gradient(device, random.reals(data.batch * data.width));
    auto update = on_device.update_args(settings, gradient, data.width);
    update.step = step;
    update.seed = 5;
    CUDAMOE_EXPECT_OK(on_device.update(update));
  }
  for (int32_t t = 0; t < static_cast<int32_t>(data.tables.size()); ++t) {
    results.push_back(on_device.weights(t));
    results.push_back(on_device.state1(t));
    results.push_back(on_device.state2(t));
  }
  EXPECT_TRUE(on_device.guards_intact() && output.guards_intact());
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
  return results;
}

TEST(EmbeddingMapped, TrainsToTheBitsOfDeviceMemory) {
  Random random(1);
  CaseShape shape;
  shape.batch = test_device_is_slow() ? 20 : 900;
  shape.dims = {16, 5, 24};
  shape.rows = {300, 40, 5000};
  shape.bag_sizes = {1, 0, 4, 2};
  shape.feature_tables = {0, 1, 2, 0};
  shape.poolings = {CUDAMOE_POOLING_SUM, CUDAMOE_POOLING_MEAN};
  shape.dtypes = {CUDAMOE_F32, CUDAMOE_F32, CUDAMOE_BF16};
  shape.integers = false;
  const EmbeddingData data = make_case(random, shape);
  size_t turn = 0;
  for (const std::string& spec : equivalent_device_specs()) {
    for (const int32_t optimizer : kOptimizers) {
      if (test_device_is_slow() && optimizer != kOptimizers[turn % 4]) continue;
      std::vector<std::vector<float>> first;
      TestDevice device(spec);
      for (const Place place : {Place::kDevice, Place::kMapped}) {
        const std::vector<std::vector<float>> results = train(device, data, optimizer, place);
        if (first.empty()) first = results;
        ASSERT_EQ(first.size(), results.size());
        for (size_t i = 0; i < results.size(); ++i) {
          ASSERT_EQ(first[i].size(), results[i].size());
          if (first[i].empty()) continue;
          EXPECT_EQ(std::memcmp(first[i].data(), results[i].data(), first[i].size() * sizeof(float)), 0)
              << "optimizer " << optimizer << " on " << spec << ", result " << i;
        }
      }
      EXPECT_EQ(device.info().mapped_bytes, 0);
    }
    ++turn;
  }
}

}  // namespace
}  // namespace cudamoe::test
