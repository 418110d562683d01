// Two layers forward and backward through the library against central differences of the same two layers in double precision:
//   loss = sum of c . (W2 h + b2), h = activation(W1 x + b1).
#include <gtest/gtest.h>

#include "gemm/problem.h"

namespace cudamoe::test {
namespace {

constexpr int64_t kRows = 7, kInput = 5, kHidden = 9, kOutput = 4;
constexpr double kSlope = 0.2;

struct Network {
  int32_t activation;
  std::vector<double> x, w1, b1, w2, b2, c;

  double loss() const {
    double sum = 0;
    for (int64_t r = 0; r < kRows; ++r) {
      double h[kHidden];
      for (int64_t i = 0; i < kHidden; ++i) {
        double z = b1[static_cast<size_t>(i)];
        for (int64_t t = 0; t < kInput; ++t) z += x[static_cast<size_t>(r * kInput + t)] * w1[static_cast<size_t>(i * kInput + t)];
        h[i] = reference::activate(activation, z, kSlope);
      }
      for (int64_t j = 0; j < kOutput; ++j) {
        double z = b2[static_cast<size_t>(j)];
        for (int64_t i = 0; i < kHidden; ++i) z += h[i] * w2[static_cast<size_t>(j * kHidden + i)];
        sum += c[static_cast<size_t>(r * kOutput + j)] * z;
      }
    }
    return sum;
  }
  // d loss / d values[i], values being one of this network's vectors.
  std::vector<double> differences(std::vector<double>& values) const {
    std::vector<double> gradient;
    constexpr double kStep = 1e-6;
    for (double& value : values) {
      const double old = value;
      value = old + kStep;
      const double above = loss();
      value = old - kStep;
      const double below = loss();
      value = old;
      gradient.push_back((above - below) / (2 * kStep));
    }
    return gradient;
  }
};

std::vector<double> widen(const std::vector<float>& values) { return {values.begin(), values.end()}; }

class GemmGradient : public ::testing::TestWithParam<int32_t> {};

TEST_P(GemmGradient, BackwardMatchesDifferencesThroughTheActivation) {
  const int32_t activation = GetParam();
  TestDevice device;
  Random random(91);
  const Buffer<float> x(device, random.reals(kRows * kInput)), b1(device, random.reals(kHidden)), b2(device, random.reals(kOutput)),
      c(device, random.reals(kRows * kOutput));
  const GemmShape first{.groups = 1, .rows = kRows, .n = kHidden, .k = kInput},
      second{.groups = 1, .rows = kRows, .n = kOutput, .k = kHidden};
  const PackedWeights w1(device, random, first, 0, CUDAMOE_F32, Data::kReals);
  const PackedWeights w2(device, random, second, 1, CUDAMOE_F32, Data::kReals);
  const Buffer<float> h(device, kRows * kHidden), z(device, kRows * kHidden), dz(device, kRows * kHidden), dw1(device, kHidden * kInput),
      db1(device, kHidden), dw2(device, kOutput * kHidden), db2(device, kOutput);

  cudamoe_gemm_forward_args forward{};
  forward.struct_size = sizeof forward;
  forward.groups = 1;
  forward.rows = kRows;
  forward.n = kHidden;
  forward.k = kInput;
  forward.x = x.data();
  forward.x_row_stride = kInput;
  forward.packed = w1.data();
  forward.bias = b1.data();
  forward.y = h.data();
  forward.y_row_stride = kHidden;
  forward.preactivation = z.data();
  forward.activation = activation;
  forward.activation_slope = static_cast<float>(kSlope);
  const Workspace forward_space = make_workspace(device, forward, cudamoe_gemm_forward_workspace);
  CUDAMOE_ASSERT_OK(cudamoe_gemm_forward(device.stream(), &forward));

  // c is the gradient of the output.
  cudamoe_gemm_dgrad_args dgrad{};
  dgrad.struct_size = sizeof dgrad;
  dgrad.groups = 1;
  dgrad.rows = kRows;
  dgrad.n = kOutput;
  dgrad.k = kHidden;
  dgrad.dz = c.data();
  dgrad.dz_row_stride = kOutput;
  dgrad.packed = w2.data();
  dgrad.dx = dz.data();
  dgrad.dx_row_stride = kHidden;
  dgrad.below = activation == CUDAMOE_ACTIVATION_GELU || activation == CUDAMOE_ACTIVATION_SILU ? z.data() : h.data();
  dgrad.below_row_stride = kHidden;
  dgrad.activation = activation;
  dgrad.activation_slope = static_cast<float>(kSlope);
  const Workspace dgrad_space = make_workspace(device, dgrad, cudamoe_gemm_dgrad_workspace);
  CUDAMOE_ASSERT_OK(cudamoe_gemm_dgrad(device.stream(), &dgrad));

  const auto weight_gradient = [&](const Buffer<float>& gradient, const Buffer<float>& input, int64_t n, int64_t k, const Buffer<float>& dw,
                                   const Buffer<float>& db) {
    cudamoe_gemm_wgrad_args wgrad{};
    wgrad.struct_size = sizeof wgrad;
    wgrad.groups = 1;
    wgrad.rows = kRows;
    wgrad.n = n;
    wgrad.k = k;
    wgrad.dz = gradient.data();
    wgrad.dz_row_stride = n;
    wgrad.x = input.data();
    wgrad.x_row_stride = k;
    wgrad.dw = dw.data();
    wgrad.dw_row_stride = k;
    wgrad.dbias = db.data();
    const Workspace space = make_workspace(device, wgrad, cudamoe_gemm_wgrad_workspace);
    CUDAMOE_ASSERT_OK(cudamoe_gemm_wgrad(device.stream(), &wgrad));
  };
  weight_gradient(dz, x, kHidden, kInput, dw1, db1);
  weight_gradient(c, h, kOutput, kHidden, dw2, db2);

  Network network{activation, widen(x.get()), {}, widen(b1.get()), {}, widen(b2.get()), widen(c.get())};
  for (int64_t i = 0; i < kHidden; ++i) {
    for (int64_t t = 0; t < kInput; ++t) network.w1.push_back(w1.weights().at(0, i, t));
  }
  for (int64_t j = 0; j < kOutput; ++j) {
    for (int64_t i = 0; i < kHidden; ++i) network.w2.push_back(w2.weights().at(0, j, i));
  }
  EXPECT_LE(relative_error(dw1.get(), network.differences(network.w1)), 1e-6);
  EXPECT_LE(relative_error(db1.get(), network.differences(network.b1)), 1e-6);
  EXPECT_LE(relative_error(dw2.get(), network.differences(network.w2)), 1e-6);
  EXPECT_LE(relative_error(db2.get(), network.differences(network.b2)), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Activations, GemmGradient,
                         ::testing::Range(int32_t{CUDAMOE_ACTIVATION_NONE}, int32_t{CUDAMOE_ACTIVATION_TANH} + 1));

}  // namespace
}  // namespace cudamoe::test
