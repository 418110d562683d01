// Stochastic rounding of bf16 embedding weights.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "cpu/common/philox.h"
#include "embedding/embedding_case.h"
#include "support/compare.h"

namespace cudamoe::test {
namespace {

// The known answers of the generator's authors (Random123, kat_vectors) for zeros, ones and digits of pi.
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(cpu::philox(0, 0, {0, 0, 0, 0}), (cpu::Philox{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(cpu::philox(0xffffffff, 0xffffffff, {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}),
            (cpu::Philox{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(cpu::philox(0xa4093822, 0x299f31d0, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}),
            (cpu::Philox{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// A table of ones moved down by `move` in every element of every row. Between 0.5 and 1 neighbours in bf16 are 2^-8 apart.
struct Moved {
  EmbeddingData data;
  std::vector<float> gradient;
};

Moved moved_rows(int64_t rows, int32_t dim, float move) {
  Moved moved;
  moved.data.batch = rows;
  moved.data.width = dim;
  moved.data.tables.push_back({rows, dim, dim, CUDAMOE_BF16, std::vector<float>(static_cast<size_t>(rows * dim), 1.0f)});
  FeatureData feature;
  for (int64_t r = 0; r < rows; ++r) feature.ids.push_back(static_cast<int32_t>(r));
  moved.data.features.push_back(feature);
  moved.gradient.assign(static_cast<size_t>(rows * dim), move);
  return moved;
}

std::vector<float> updated(TestDevice& device, const Moved& moved, uint64_t seed, int64_t step) {
  const EmbeddingCase on_device(device, moved.data);
  const Buffer<float> gradient(device, moved.gradient);
  EmbeddingOptimizer settings;
  settings.learning_rate = 1;
  auto args = on_device.update_args(settings, gradient, moved.data.width);
  args.seed = seed;
  args.step = step;
  CUDAMOE_EXPECT_OK(on_device.update(args));
  return on_device.weights(0);
}

TEST(EmbeddingRounding, FollowsTheGeneratorBitForBit) {
  TestDevice device;
  const uint64_t seed = 0x123456789abcdef0u;
  const int64_t step = (int64_t{5} << 32) + 77;
  for (const int32_t dim : {1, 4, 8, 13, 16, 20, 32, 64, 100, 128, 300}) {
    const float move = 0.3f * 0x1p-8f;
    const std::vector<float> result = updated(device, moved_rows(37, dim, move), seed, step);
    for (int64_t r = 0; r < 37; ++r) {
      for (int64_t j = 0; j < dim; ++j) {
        const cpu::Philox random = cpu::philox(static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32) ^ 5u,
                                               {static_cast<uint32_t>(r), static_cast<uint32_t>(j / 8), 0, 77});
        const uint32_t bits = (random[static_cast<size_t>(j % 8 / 2)] >> (j % 2 * 16)) & 0xFFFFu;
        const uint32_t rounded = (std::bit_cast<uint32_t>(1.0f - move) + bits) & 0xFFFF0000u;
        ASSERT_EQ(result[static_cast<size_t>(r * dim + j)], std::bit_cast<float>(rounded))
            << "dim " << dim << " row " << r << " element " << j;
      }
    }
  }
}

// Of n roundings of a value that lies a fraction q above the lower neighbour, n q go up, within five standard deviations.
TEST(EmbeddingRounding, IsUnbiased) {
  TestDevice device;
  const int64_t rows = test_device_is_slow() ? 700 : 4000;
  const int32_t dim = 16;
  const double n = static_cast<double>(rows * dim);
  Random random;
  for (const double q : {0.0, 0.01, 0.25, 0.5, 0.9}) {
    const uint64_t seed = random.next();
    const auto move = static_cast<float>((1 - q) * 0x1p-8);
    const std::vector<float> result = updated(device, moved_rows(rows, dim, move), seed, 1);
    double up = 0;
    for (const float value : result) {
      ASSERT_TRUE(value == 1.0f || value == 1.0f - 0x1p-8f) << value;
      up += value == 1.0f;
    }
    EXPECT_LE(std::abs(up - n * q), 5 * std::sqrt(n * q * (1 - q)) + 1e-3 * n * 0x1p-8) << "fraction " << q << ", seed " << seed;
  }
}

TEST(EmbeddingRounding, DependsOnSeedStepTableAndNothingElse) {
  Moved moved = moved_rows(300, 24, 0x1p-9f);
  std::vector<float> first;
  for (const std::string& spec : equivalent_device_specs()) {
    TestDevice device(spec);
    const std::vector<float> result = updated(device, moved, 9, 3);
    if (first.empty()) first = result;
    EXPECT_EQ(result, first) << spec;
    EXPECT_NE(updated(device, moved, 10, 3), first);
    EXPECT_NE(updated(device, moved, uint64_t{9} + (uint64_t{1} << 40), 3), first);
    EXPECT_NE(updated(device, moved, 9, 4), first);
    EXPECT_NE(updated(device, moved, 9, int64_t{3} + (int64_t{1} << 33)), first);
  }
  // The order of look-ups changes nothing; a second table has bits of its own.
  TestDevice device;
  std::reverse(moved.data.features[0].ids.begin(), moved.data.features[0].ids.end());
  EXPECT_EQ(updated(device, moved, 9, 3), first);
  Moved two = moved;
  two.data.tables.push_back(two.data.tables[0]);
  two.data.features[0].table = 1;
  const EmbeddingCase on_device(device, two.data);
  const Buffer<float> gradient(device, two.gradient);
  EmbeddingOptimizer settings;
  settings.learning_rate = 1;
  auto args = on_device.update_args(settings, gradient, two.data.width);
  args.seed = 9;
  args.step = 3;
  CUDAMOE_EXPECT_OK(on_device.update(args));
  EXPECT_NE(on_device.weights(1), first);
  EXPECT_EQ(on_device.weights(0), two.data.tables[0].weights);
}

// What bf16 holds exactly is never moved; infinities and NaNs stay what they are.
TEST(EmbeddingRounding, KeepsExactValuesInfinitiesAndNans) {
  TestDevice device;
  Moved moved = moved_rows(4, 16, 0.0f);
  auto& weights = moved.data.tables[0].weights;
  for (size_t i = 0; i < 16; ++i) {
    weights[i] = 1.0f + 0x1p-7f * static_cast<float>(i);
    weights[16 + i] = std::numeric_limits<float>::infinity();
    weights[32 + i] = -std::numeric_limits<float>::infinity();
    weights[48 + i] = std::numeric_limits<float>::quiet_NaN();
  }
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::vector<float> result = updated(device, moved, seed, 1);
    for (size_t i = 0; i < 48; ++i) ASSERT_EQ(result[i], weights[i]);
    for (size_t i = 48; i < 64; ++i) ASSERT_TRUE(std::isnan(result[i]));
  }
}

// Steps far smaller than the distance of two bf16 numbers add up: the mean of many weights follows the f32 sum.
TEST(EmbeddingRounding, SmallStepsAddUp) {
  TestDevice device;
  const int64_t rows = test_device_is_slow() ? 30 : 500, steps = test_device_is_slow() ? 64 : 256;
  const Moved moved = moved_rows(rows, 32, 0x1p-13f);
  const EmbeddingCase on_device(device, moved.data);
  const Buffer<float> gradient(device, moved.gradient);
  EmbeddingOptimizer settings;
  settings.learning_rate = 1;
  auto args = on_device.update_args(settings, gradient, moved.data.width);
  args.seed = 4;
  for (args.step = 1; args.step <= steps; ++args.step) CUDAMOE_ASSERT_OK(on_device.update(args));
  double mean = 0;
  for (const float value : on_device.weights(0)) mean += static_cast<double>(value) / static_cast<double>(32 * rows);
  EXPECT_NEAR(mean, 1 - static_cast<double>(steps) * 0x1p-13, 5e-4);
}

}  // namespace
}  // namespace cudamoe::test
