// Layer normalisation against the double-precision reference.
#include "reference/layer_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/buffer.h"
#include "support/compare.h"
#include "support/random.h"
#include "support/rows.h"

namespace cudamoe::test {
namespace {

struct Case {
  int64_t rows = 0, width = 0;
  int64_t x_gap = 0, y_gap = 0, misaligned = 0;
  bool scaled = true, statistics = true, sums = true, accumulate = false, in_place = false;
  float epsilon = 1e-5f;
  std::vector<float> x, gamma, beta, dy, dgamma, dbeta;
};

struct Result {
  std::vector<float> y, mean, reciprocal, dx, dgamma, dbeta;
};

Result run(TestDevice& device, const Case& c) {
  const int64_t x_stride = c.width + c.x_gap, y_stride = c.in_place ? x_stride : c.width + c.y_gap;
  const int64_t span = c.rows > 0 ? (c.rows - 1) * y_stride + c.width : 0;
  const Buffer<float> x(device, spread(c.x, c.rows, c.width, x_stride), c.misaligned), copy(device, x.get(), c.misaligned);
  const Buffer<float> gamma(device, c.gamma, c.misaligned), beta(device, c.beta);
  const Buffer<float> y(device, span), mean(device, c.rows), reciprocal(device, c.rows);
  cudamoe_layer_norm_forward_args f{};
  f.struct_size = sizeof f;
  f.epsilon = c.epsilon;
  f.rows = c.rows;
  f.width = c.width;
  f.x_row_stride = x_stride;
  f.x = x.data();
  f.gamma = c.scaled ? gamma.data() : nullptr;
  f.beta = c.scaled ? beta.data() : nullptr;
  f.y = y.data();
  f.y_row_stride = y_stride;
  f.mean = mean.data();
  f.reciprocal_deviation = reciprocal.data();
  CUDAMOE_EXPECT_OK(cudamoe_layer_norm_forward(device.stream(), &f));
  Result result;
  result.y = gathered(y.get(), c.rows, c.width, y_stride);
  result.mean = mean.get();
  result.reciprocal = reciprocal.get();
  if (c.in_place) {
    f.x = f.y = copy.data();
    if (!c.statistics) f.mean = f.reciprocal_deviation = nullptr;
    CUDAMOE_EXPECT_OK(cudamoe_layer_norm_forward(device.stream(), &f));
    EXPECT_EQ(gathered(copy.get(), c.rows, c.width, y_stride), result.y);
  }

  const Buffer<float> dy(device, spread(c.dy, c.rows, c.width, y_stride)), dx(device, span);
  Buffer<float> dgamma(device, c.sums ? c.width : 0), dbeta(device, c.sums ? c.width : 0);
  if (c.accumulate) {
    dgamma.set(c.dgamma);
    dbeta.set(c.dbeta);
  }
  cudamoe_layer_norm_backward_args b{};
  b.struct_size = sizeof b;
  b.accumulate = c.accumulate;
  b.rows = c.rows;
  b.width = c.width;
  int64_t bytes = -1;
  CUDAMOE_EXPECT_OK(cudamoe_layer_norm_backward_workspace(device.stream(), &b, &bytes));
  const Workspace workspace(device, bytes);
  b.x = x.data();
  b.x_row_stride = x_stride;
  b.gamma = f.gamma;
  b.mean = mean.data();
  b.reciprocal_deviation = reciprocal.data();
  b.dy = dy.data();
  b.dy_row_stride = y_stride;
  b.dx = c.in_place ? dy.data() : dx.data();
  b.dx_row_stride = y_stride;
  b.dgamma = c.sums ? dgamma.data() : nullptr;
  b.dbeta = c.sums ? dbeta.data() : nullptr;
  b.workspace = workspace.data();
  b.workspace_bytes = bytes;
  CUDAMOE_EXPECT_OK(cudamoe_layer_norm_backward(device.stream(), &b));
  result.dx = gathered(c.in_place ? dy.get() : dx.get(), c.rows, c.width, y_stride);
  result.dgamma = dgamma.get();
  result.dbeta = dbeta.get();
  EXPECT_TRUE(y.guards_intact() && copy.guards_intact() && dx.guards_intact() && dy.guards_intact());
  EXPECT_TRUE(dgamma.guards_intact() && dbeta.guards_intact() && workspace.guards_intact());
  return result;
}

void fill(Case& c, Random& random) {
  c.x = random.reals(c.rows * c.width, -3, 5);
  c.dy = random.reals(c.rows * c.width);
  if (c.scaled) c.gamma = random.reals(c.width, 0.5, 2);
  if (c.scaled) c.beta = random.reals(c.width);
  if (c.accumulate) c.dgamma = random.reals(c.width, -9, 9);
  if (c.accumulate) c.dbeta = random.reals(c.width, -9, 9);
}

TEST(LayerNorm, AgreesWithTheReference) {
  TestDevice device;
  Random random(31);
  for (int64_t width : {2, 3, 15, 16, 17, 64, 65, 100, 256, 300, 515, 1024, 1028, 3000}) {
    for (int64_t rows : {0, 1, 3, 32, 33, 300}) {
      Case c;
      c.rows = rows;
      c.width = width;
      c.x_gap = random.integer(0, 5);
      c.y_gap = random.integer(0, 5);
      c.misaligned = random.integer(0, 3);
      c.scaled = random.coin();
      c.statistics = random.coin();
      c.sums = random.integer(0, 3) > 0;
      c.accumulate = c.sums && random.coin();
      c.in_place = random.coin();
      c.epsilon = width < 8 ? 0.5f : 1e-5f;  // few columns can all but agree; then 1 / deviation amplifies the rounding of the mean
      fill(c, random);
      SCOPED_TRACE("rows " + std::to_string(rows) + " width " + std::to_string(width) + (c.in_place ? " in place" : ""));
      const Result have = run(device, c);
      const reference::LayerNorm want =
          reference::layer_norm(wide(c.x), wide(c.gamma), wide(c.beta), rows, width, static_cast<double>(c.epsilon));
      const double bound = f32_bound(width);
      EXPECT_LE(relative_error(have.mean, want.mean), bound);
      EXPECT_LE(relative_error(have.reciprocal, want.reciprocal_deviation), bound);
      EXPECT_LE(relative_error(have.y, want.y), bound);
      reference::LayerNormGradient gradient = reference::layer_norm_gradient(wide(c.x), wide(c.gamma), want, wide(c.dy), rows, width);
      for (int64_t j = 0; c.accumulate && j < width; ++j) {
        gradient.dgamma[j] += static_cast<double>(c.dgamma[j]);
        gradient.dbeta[j] += static_cast<double>(c.dbeta[j]);
      }
      // dx is what is left of its terms, of which r g is the largest: with few columns nearly nothing.
      double difference = 0, terms = 0;
      for (int64_t i = 0; i < rows * width; ++i) {
        const double term = want.reciprocal_deviation[i / width] * static_cast<double>(c.dy[i]) *
                            (c.scaled ? static_cast<double>(c.gamma[i % width]) : 1.0);
        difference += std::pow(static_cast<double>(have.dx[i]) - gradient.dx[i], 2);
        terms += term * term;
      }
      EXPECT_LE(std::sqrt(difference), bound * std::sqrt(terms));
      if (c.sums) {
        EXPECT_LE(relative_error(have.dgamma, gradient.dgamma), f32_bound(rows));
        EXPECT_LE(relative_error(have.dbeta, gradient.dbeta), f32_bound(rows));
      }
      // Where the rows lie does not change the sums.
      Case packed = c;
      packed.x_gap = packed.y_gap = packed.misaligned = 0;
      const Result same = run(device, packed);
      EXPECT_EQ(same.y, have.y);
      EXPECT_EQ(same.dx, have.dx);
      EXPECT_EQ(same.dgamma, have.dgamma);
      EXPECT_EQ(same.dbeta, have.dbeta);
    }
  }
}

TEST(LayerNorm, OneColumnIsBeta) {
  TestDevice device;
  Case c;
  c.rows = 3;
  c.width = 1;
  c.x = {5, -7, 1e20f};
  c.gamma = {2};
  c.beta = {0.5f};
  c.dy = {1, 2, 3};
  const Result have = run(device, c);
  EXPECT_EQ(have.y, (std::vector<float>{0.5f, 0.5f, 0.5f}));
  EXPECT_EQ(have.dx, (std::vector<float>{0, 0, 0}));
  EXPECT_EQ(have.dbeta, (std::vector<float>{6}));
}

TEST(LayerNorm, LargeMeanDoesNotCancel) {
  TestDevice device;
  Case c;
  c.rows = 4;
  c.width = 64;
  c.scaled = false;
  Random random(32);
  fill(c, random);
  for (float& x : c.x) x = static_cast<float>(random.integer(-4, 4)) + 4096.0f;
  const Result have = run(device, c);
  const reference::LayerNorm want = reference::layer_norm(wide(c.x), {}, {}, c.rows, c.width, static_cast<double>(c.epsilon));
  EXPECT_LE(relative_error(have.reciprocal, want.reciprocal_deviation), 1e-6);
}

TEST(LayerNorm, DerivativeOfTheReferenceIsRight) {
  Random random(33);
  const int64_t rows = 2, width = 5;
  std::vector<double> x = wide(random.reals(rows * width)), gamma = wide(random.reals(width)), beta = wide(random.reals(width));
  const std::vector<double> dy = wide(random.reals(rows * width));
  const auto forward = [&] { return reference::layer_norm(x, gamma, beta, rows, width, 1e-3); };
  const auto value = [&] {
    const reference::LayerNorm f = forward();
    double sum = 0;
    for (size_t i = 0; i < dy.size(); ++i) sum += dy[i] * f.y[i];
    return sum;
  };
  const reference::LayerNormGradient g = reference::layer_norm_gradient(x, gamma, forward(), dy, rows, width);
  const auto compare = [&](std::vector<double>& variable, const std::vector<double>& gradient) {
    for (size_t i = 0; i < variable.size(); ++i) {
      const double at = variable[i], step = 1e-6;
      variable[i] = at + step;
      const double above = value();
      variable[i] = at - step;
      const double below = value();
      variable[i] = at;
      EXPECT_NEAR(gradient[i], (above - below) / (2 * step), 1e-6);
    }
  };
  compare(x, g.dx);
  compare(gamma, g.dgamma);
  compare(beta, g.dbeta);
}

TEST(LayerNorm, SameBitsForAnyOrder) {
  for (const int64_t width : {70, 1100}) {
    Case c;
    c.rows = test_device_is_slow() ? 40 : 700;
    c.width = width;
    Random random(34);
    fill(c, random);
    Result first;
    for (const std::string& spec : repeated_device_specs()) {
      TestDevice device(spec);
      for (int repeat = 0; repeat < repetitions_of_a_spec(); ++repeat) {
        const Result have = run(device, c);
        if (first.y.empty()) first = have;
        ASSERT_EQ(have.y, first.y) << spec;
        ASSERT_EQ(have.dx, first.dx) << spec;
        ASSERT_EQ(have.dgamma, first.dgamma) << spec;
        ASSERT_EQ(have.dbeta, first.dbeta) << spec;
      }
    }
  }
}

TEST(LayerNorm, ForwardRefusesBadArguments) {
  TestDevice device;
  const Buffer<float> data(device, std::vector<float>(512, 0.0f));
  float* p = data.data();
  const auto refused = [&](auto&& change, const char* words) {
    cudamoe_layer_norm_forward_args a{};
    a.struct_size = sizeof a;
    a.epsilon = 1e-5f;
    a.rows = 2;
    a.width = 4;
    a.x = p;
    a.y = p + 32;
    a.x_row_stride = a.y_row_stride = 4;
    a.mean = p + 64;
    a.reciprocal_deviation = p + 80;
    change(a);
    CUDAMOE_EXPECT_REFUSED(cudamoe_layer_norm_forward(device.stream(), &a), words);
  };
  refused([](auto& a) { a.struct_size = 0; }, "struct_size");
  refused([](auto& a) { a.epsilon = 0; }, "epsilon is 0");
  refused([](auto& a) { a.epsilon = -1; }, "epsilon is -1");
  refused([](auto& a) { a.epsilon = NAN; }, "epsilon is nan");
  refused([](auto& a) { a.rows = -1; }, "rows is -1");
  refused([](auto& a) { a.width = 0; }, "width is 0");
  refused([](auto& a) { a.x = nullptr; }, "x is null");
  refused([](auto& a) { a.y = nullptr; }, "y is null");
  refused([](auto& a) { a.x_row_stride = 3; }, "x_row_stride is 3");
  refused([](auto& a) { a.y_row_stride = 3; }, "y_row_stride is 3");
  refused([](auto& a) { a.y = const_cast<float*>(a.x) + 1; }, "overlaps");
  refused([](auto& a) { a.y = const_cast<float*>(a.x), a.y_row_stride = 5; }, "in place");
  refused([](auto& a) { a.mean = a.y; }, "overlaps");
  refused([](auto& a) { a.gamma = reinterpret_cast<const float*>(2); }, "gamma");
}

TEST(LayerNorm, BackwardRefusesBadArguments) {
  TestDevice device;
  const Buffer<float> data(device, std::vector<float>(512, 0.0f));
  const Workspace workspace(device, 4096);
  float* p = data.data();
  const auto refused = [&](auto&& change, const char* words) {
    cudamoe_layer_norm_backward_args a{};
    a.struct_size = sizeof a;
    a.rows = 2;
    a.width = 4;
    a.x = p;
    a.dy = p + 32;
    a.dx = p + 64;
    a.mean = p + 96;
    a.reciprocal_deviation = p + 100;
    a.x_row_stride = a.dy_row_stride = a.dx_row_stride = 4;
    a.dgamma = p + 128;
    a.dbeta = p + 160;
    a.workspace = workspace.data();
    a.workspace_bytes = workspace.size();
    change(a);
    CUDAMOE_EXPECT_REFUSED(cudamoe_layer_norm_backward(device.stream(), &a), words);
  };
  refused([](auto& a) { a.accumulate = 2; }, "accumulate is 2");
  refused([](auto& a) { a.mean = nullptr; }, "mean is null");
  refused([](auto& a) { a.reciprocal_deviation = nullptr; }, "reciprocal_deviation is null");
  refused([](auto& a) { a.dy = nullptr; }, "dy is null");
  refused([](auto& a) { a.dx = nullptr; }, "dx is null");
  refused([](auto& a) { a.dx = const_cast<float*>(a.x); }, "overlaps");
  refused([](auto& a) { a.dbeta = a.dgamma; }, "overlaps");
  refused([](auto& a) { a.dx_row_stride = 2; }, "dx_row_stride is 2");
  refused([](auto& a) { a.workspace_bytes = 1; }, "workspace_bytes is 1");
  refused([](auto& a) { a.workspace = nullptr; }, "workspace is null");
}

}  // namespace
}  // namespace cudamoe::test
