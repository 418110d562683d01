// The functions of kernels/common whose error is stated, against long double.
#include "common/math.cuh"

#include <cmath>
#include <limits>

#include "simt/harness.h"

namespace cudamoe::test {
namespace {

using namespace kernels;

enum class Function { kErfc, kSinPi, kCosPi };

CUDAMOE_KERNEL(1, 1) function_kernel(Function function, const float* x, int count, float* y) {
  for (int i = 0; i < count; ++i)
    y[i] = function == Function::kErfc ? erfc(x[i]) : function == Function::kSinPi ? sin_pi(x[i]) : cos_pi(x[i]);
}

std::vector<float> run(Function function, const std::vector<float>& x) {
  Executor executor;
  DeviceArray<float> in(executor, x), out(executor, std::vector<float>(x.size(), -7));
  EXPECT_EQ(executor.run({"function", {1}, {1}}, function_kernel, function, in.data(), static_cast<int>(x.size()), out.data()), "");
  return out.get();
}

// The distance in units of the last place that a float of the true value's size has.
double ulps(float have, long double want) {
  const float nearest = std::fabs(static_cast<float>(want));
  const auto unit = static_cast<long double>(std::nextafterf(nearest, std::numeric_limits<float>::infinity()) - nearest);
  return static_cast<double>(std::fabs(static_cast<long double>(have) - want) / unit);
}

// Both signs of values of every size from 1e-40 to `largest`.
std::vector<float> values_up_to(float largest) {
  std::vector<float> values;
  for (double x = 1e-40; x < static_cast<double>(largest); x *= 1.037) {
    values.push_back(static_cast<float>(x));
    values.push_back(static_cast<float>(-x));
  }
  return values;
}

TEST(SimtMath, ErfcIsWithinFourUlp) {
  const std::vector<float> x = values_up_to(10);
  const std::vector<float> y = run(Function::kErfc, x);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_LE(ulps(y[i], std::erfc(static_cast<long double>(x[i]))), 4) << x[i];
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> ends = run(Function::kErfc, {0, inf, -inf, 40, -40, std::nanf("")});
  EXPECT_EQ(std::vector<float>(ends.begin(), ends.end() - 1), (std::vector<float>{1, 0, 2, 0, 2}));
  EXPECT_TRUE(std::isnan(ends.back()));
}

TEST(SimtMath, SineAndCosineOfPiXAreWithinTwoUlp) {
  // Up to 64 a float has bits behind the point enough for every part of a turn; the argument in long double then is exact.
  const std::vector<float> x = values_up_to(64);
  const std::vector<float> sines = run(Function::kSinPi, x), cosines = run(Function::kCosPi, x);
  const long double pi = std::acos(-1.0L);
  for (size_t i = 0; i < x.size(); ++i) {
    const long double turn = std::remainder(static_cast<long double>(x[i]), 2.0L);
    // Beside a zero of the cosine the argument is that of the sine.
    const long double beside = 0.5L - std::fabs(turn);
    EXPECT_LE(ulps(sines[i], std::fabs(turn) > 0.5L ? std::copysign(std::sin(pi * (1 - std::fabs(turn))), turn) : std::sin(pi * turn)), 2)
        << x[i];
    EXPECT_LE(ulps(cosines[i], std::sin(pi * beside)), 2) << x[i];
  }
}

TEST(SimtMath, SineAndCosineOfPiXAreExactAtMultiplesOfAHalf) {
  const std::vector<float> x = {0, 0.5f, 1, 1.5f, 2, 2.5f, -0.5f, -1, -1.5f, 8388607, 8388608, 4194303.5f, 1e30f};
  EXPECT_EQ(run(Function::kSinPi, x), (std::vector<float>{0, 1, 0, -1, 0, 1, -1, 0, 1, 0, 0, -1, 0}));
  EXPECT_EQ(run(Function::kCosPi, x), (std::vector<float>{1, 0, -1, 0, 1, 0, 0, -1, 0, -1, 1, 0, 1}));
  const float inf = std::numeric_limits<float>::infinity();
  for (const float y : run(Function::kSinPi, {inf, -inf, std::nanf("")})) EXPECT_TRUE(std::isnan(y));
}

CUDAMOE_KERNEL(1, 1) ones_kernel(const uint32_t* x, int count, int* ones) {
  for (int i = 0; i < count; ++i) ones[i] = count_ones(x[i]);
}

TEST(SimtMath, OnesAreCounted) {
  std::vector<uint32_t> x = {0, 0xFFFFFFFFu, 0xAAAAAAAAu, 0x80000001u};
  for (int bit = 0; bit < 32; ++bit) {
    x.push_back(1u << bit);
    x.push_back(0xFFFFFFFFu >> bit);
  }
  Executor executor;
  DeviceArray<uint32_t> in(executor, x);
  DeviceArray<int> out(executor, std::vector<int>(x.size(), -1));
  EXPECT_EQ(executor.run({"ones", {1}, {1}}, ones_kernel, in.data(), static_cast<int>(x.size()), out.data()), "");
  std::vector<int> want = {0, 32, 16, 2};
  for (int bit = 0; bit < 32; ++bit) {
    want.push_back(1);
    want.push_back(32 - bit);
  }
  EXPECT_EQ(out.get(), want);
}

}  // namespace
}  // namespace cudamoe::test
