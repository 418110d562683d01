// Pins the accuracy that cpu/common/activation-inl.h states, at the level in use.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gemm/activation_test.cpp"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include "cpu/common/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

// out[i] = function(in[i]) for a multiple of the vector length; `function` as in Function below.
void evaluate_for_test(int function, const float* in, float* out, int64_t count) {
  const F32 d;
  for (int64_t i = 0; i < count; i += kLanes) {
    const VecF32 x = load(d, in + i);
    switch (function) {
      case 0:
        store(d, exp(d, x), out + i);
        break;
      case 1:
        store(d, normal(d, x).cdf, out + i);
        break;
      case 2:
        store(d, normal(d, x).density, out + i);
        break;
      case 3:
        store(d, round_to_bf16(d, x), out + i);
        break;
      default:
        with_activation((function - 10) % 10, [&](auto activation) HWY_ATTR {
          store(d, function < 20 ? activate<activation()>(d, x, 0.25f) : activation_derivative<activation()>(d, x, 0.25f), out + i);
        });
    }
  }
}
bool has_fused_multiply_add() { return HWY_NATIVE_FMA != 0; }

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numbers>
#include <vector>

#include "support/compare.h"

namespace cudamoe::cpu {
HWY_EXPORT(evaluate_for_test);
HWY_EXPORT(has_fused_multiply_add);
namespace {

// Every 1009th f32 of both signs, and the values where rules change.
std::vector<float> sweep() {
  std::vector<float> values;
  for (uint64_t bits = 0; bits < 0x100000000u; bits += 1009) {
    const auto pattern = static_cast<uint32_t>(bits);
    float value;
    std::memcpy(&value, &pattern, sizeof value);
    if (std::isfinite(value)) values.push_back(value);
  }
  while (values.size() % 16 != 0) values.push_back(0.0f);
  return values;
}

bool is_normal(double value) {
  return std::fabs(value) >= std::numeric_limits<float>::min() && std::fabs(value) <= std::numeric_limits<float>::max();
}

// Largest error in units of 2^-24 of the reference, over inputs for which `measured`, a factor of the reference, is a normal f32.
double worst_error(int function, const std::function<double(double)>& reference, const std::function<double(double)>& measured, float* at) {
  const std::vector<float> in = sweep();
  std::vector<float> out(in.size());
  HWY_DYNAMIC_DISPATCH(evaluate_for_test)(function, in.data(), out.data(), static_cast<int64_t>(in.size()));
  double worst = 0;
  for (size_t i = 0; i < in.size(); ++i) {
    const double want = reference(in[i]);
    if (!is_normal(measured(in[i])) || !is_normal(want)) continue;
    const double error = std::fabs(out[i] - want) / std::fabs(want) * 0x1p24;
    if (!(error <= worst)) {
      worst = error;
      *at = in[i];
    }
  }
  return worst;
}

double cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }
double one(double) { return 1; }
double exponential(double x) { return std::exp(x); }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

TEST(Activation, IsAsAccurateAsItSays) {
  struct Case {
    const char* name;
    int function;
    std::function<double(double)> reference, measured;
    double bound, bound_without_fma;
  };
  const Case cases[] = {
      {"exp", 0, exponential, exponential, 3, 3},
      {"cdf", 1, cdf, cdf, 8, 200},
      {"relu", 11, [](double x) { return x > 0 ? x : 0; }, one, 0, 0},
      {"leaky relu", 12, [](double x) { return x > 0 ? x : 0.25 * x; }, one, 0, 0},
      {"gelu", 13, [](double x) { return x * cdf(x); }, cdf, 9, 201},
      {"silu", 14, [](double x) { return x * sigmoid(x); }, sigmoid, 5, 5},
      {"sigmoid", 15, sigmoid, sigmoid, 4, 4},
      {"tanh", 16, [](double x) { return std::tanh(x); }, one, 4, 4},
  };
  const bool fused = HWY_DYNAMIC_DISPATCH(has_fused_multiply_add)();
  for (const Case& test : cases) {
    float at = 0;
    const double worst = worst_error(test.function, test.reference, test.measured, &at);
    EXPECT_LE(worst, fused ? test.bound : test.bound_without_fma) << test.name << " at " << at;
  }
}

TEST(Activation, DerivativesMatchDifferencesOfTheReference) {
  // Activation by number; the value given to the derivative is the output, or the input for GELU (3) and SiLU (4).
  const std::function<double(double)> functions[] = {
      [](double x) { return x; },           [](double x) { return x > 0 ? x : 0; },  [](double x) { return x > 0 ? x : 0.25 * x; },
      [](double x) { return x * cdf(x); },  [](double x) { return x * sigmoid(x); }, sigmoid,
      [](double x) { return std::tanh(x); }};
  for (int activation = 0; activation < 7; ++activation) {
    std::vector<float> in, out(160);
    for (int i = 0; i < 160; ++i) in.push_back(static_cast<float>((i - 79.5) / 16));
    std::vector<float> below = in;
    if (activation != 3 && activation != 4) {
      for (float& value : below) value = static_cast<float>(functions[activation](value));
    }
    HWY_DYNAMIC_DISPATCH(evaluate_for_test)(20 + activation, below.data(), out.data(), 160);
    for (size_t i = 0; i < in.size(); ++i) {
      const double step = 1e-5, x = in[i];
      const double want = (functions[activation](x + step) - functions[activation](x - step)) / (2 * step);
      EXPECT_NEAR(out[i], want, 2e-6) << "activation " << activation << " at " << x;
    }
  }
}

TEST(Activation, SpecialValues) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> in(16, 0.0f), out(16);
  in[0] = nan;
  in[1] = inf;
  in[2] = -inf;
  in[3] = -0.0f;
  for (int function : {0, 1, 2, 11, 12, 13, 14, 15, 16}) {
    HWY_DYNAMIC_DISPATCH(evaluate_for_test)(function, in.data(), out.data(), 16);
    EXPECT_TRUE(std::isnan(out[0])) << function;
  }
  HWY_DYNAMIC_DISPATCH(evaluate_for_test)(0, in.data(), out.data(), 16);
  EXPECT_EQ(out[1], inf);
  EXPECT_EQ(out[2], 0.0f);
  HWY_DYNAMIC_DISPATCH(evaluate_for_test)(15, in.data(), out.data(), 16);
  EXPECT_EQ(out[1], 1.0f);
  EXPECT_EQ(out[2], 0.0f);
  HWY_DYNAMIC_DISPATCH(evaluate_for_test)(16, in.data(), out.data(), 16);
  EXPECT_EQ(out[1], 1.0f);
  EXPECT_EQ(out[2], -1.0f);
  EXPECT_TRUE(std::signbit(out[3]));
}

TEST(Activation, Bf16RoundingMatchesTheReference) {
  std::vector<float> in = sweep(), out(in.size());
  in[0] = std::numeric_limits<float>::infinity();
  in[1] = std::numeric_limits<float>::max();
  in[2] = 1.0f + 0x1p-8f;
  in[3] = 1.0f + 3 * 0x1p-8f;
  HWY_DYNAMIC_DISPATCH(evaluate_for_test)(3, in.data(), out.data(), static_cast<int64_t>(in.size()));
  EXPECT_EQ(out, test::rounded_to_bf16(in));
  for (float value : in) ASSERT_EQ(to_bf16(value).bits, test::to_bf16(value));
}

}  // namespace
}  // namespace cudamoe::cpu
#endif
