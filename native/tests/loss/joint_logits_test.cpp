// cudamoe_joint_logits_* against double arithmetic, finite differences, and at logits whose exponentials overflow.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/buffer.h"
#include "support/compare.h"
#include "support/random.h"

namespace cudamoe::test {
namespace {

// The definition, by sums of logarithms that do not overflow.
double joint_of(double a, double b) {
  const double top = std::fmax(std::fmax(-a, -b), -a - b);
  return -(top + std::log(std::exp(-a - top) + std::exp(-b - top) + std::exp(-a - b - top)));
}

// d joint / d a
double slope_of(double a, double b) {
  const double top = std::fmax(std::fmax(-a, -b), -a - b);
  const double own = std::exp(-a - top) + std::exp(-a - b - top);
  return own / (own + std::exp(-b - top));
}

struct Columns {
  int64_t rows, a_stride, b_stride, joint_stride;
  std::vector<float> a, b;
};

// Element r of a strided column; the elements between must hold the poison.
std::vector<float> column(const Buffer<float>& buffer, int64_t stride) {
  const std::vector<float> raw = buffer.get();
  std::vector<float> values;
  for (size_t i = 0; i < raw.size(); ++i) {
    if (i % static_cast<size_t>(stride) == 0) {
      values.push_back(raw[i]);
    } else {
      EXPECT_TRUE(std::isnan(raw[i])) << "written between rows";
    }
  }
  return values;
}

std::vector<float> spread(const std::vector<float>& values, int64_t stride) {
  std::vector<float> out(values.empty() ? 0 : (values.size() - 1) * static_cast<size_t>(stride) + 1,
                         std::numeric_limits<float>::quiet_NaN());
  for (size_t i = 0; i < values.size(); ++i) out[i * static_cast<size_t>(stride)] = values[i];
  return out;
}

std::vector<float> forward(TestDevice& device, const Columns& c) {
  const Buffer<float> a(device, spread(c.a, c.a_stride), 1), b(device, spread(c.b, c.b_stride));
  const Buffer<float> joint(device, c.rows > 0 ? (c.rows - 1) * c.joint_stride + 1 : 0, 3);
  cudamoe_joint_logits_forward_args args{};
  args.struct_size = sizeof args;
  args.rows = c.rows;
  args.a = a.data();
  args.a_stride = c.a_stride;
  args.b = b.data();
  args.b_stride = c.b_stride;
  args.joint = joint.data();
  args.joint_stride = c.joint_stride;
  CUDAMOE_EXPECT_OK(cudamoe_joint_logits_forward(device.stream(), &args));
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
  EXPECT_TRUE(a.guards_intact() && b.guards_intact() && joint.guards_intact());
  return column(joint, c.joint_stride);
}

struct Gradients {
  std::vector<float> da, db;
};

// The gradients for `djoint`; with `accumulate` added to what `da` and `db` hold.
Gradients backward(TestDevice& device, const Columns& c, const std::vector<float>& djoint, const Gradients* accumulate = nullptr) {
  const Buffer<float> a(device, spread(c.a, c.a_stride)), b(device, spread(c.b, c.b_stride), 1);
  const Buffer<float> d(device, spread(djoint, c.joint_stride), 2);
  const int64_t count = c.rows > 0 ? (c.rows - 1) * c.joint_stride + 1 : 0;
  Buffer<float> da(device, count), db(device, count, 1);
  if (accumulate != nullptr) {
    da.set(spread(accumulate->da, c.joint_stride));
    db.set(spread(accumulate->db, c.joint_stride));
  }
  cudamoe_joint_logits_backward_args args{};
  args.struct_size = sizeof args;
  args.accumulate_a = args.accumulate_b = accumulate != nullptr ? 1 : 0;
  args.rows = c.rows;
  args.a = a.data();
  args.a_stride = c.a_stride;
  args.b = b.data();
  args.b_stride = c.b_stride;
  args.djoint = d.data();
  args.djoint_stride = args.da_stride = args.db_stride = c.joint_stride;
  args.da = da.data();
  args.db = db.data();
  CUDAMOE_EXPECT_OK(cudamoe_joint_logits_backward(device.stream(), &args));
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
  EXPECT_TRUE(a.guards_intact() && b.guards_intact() && d.guards_intact() && da.guards_intact() && db.guards_intact());
  return {column(da, c.joint_stride), column(db, c.joint_stride)};
}

TEST(LossJointLogits, AgreesWithDoubleArithmetic) {
  TestDevice device;
  Random random(41);
  for (int64_t rows : {0, 1, 2, 15, 16, 17, 255, 256, 257, 2048, 2049, 5000}) {
    const double range = random.coin() ? 3 : 60;
    const Columns c{rows,
                    random.integer(1, 4),
                    random.integer(1, 4),
                    random.integer(1, 4),
                    random.reals(rows, -range, range),
                    random.reals(rows, -range, range)};
    const std::vector<float> joint = forward(device, c);
    const std::vector<float> djoint = random.reals(rows, -2, 2);
    const Gradients start{random.reals(rows), random.reals(rows)};
    const Gradients plain = backward(device, c, djoint), added = backward(device, c, djoint, &start);
    ASSERT_EQ(joint.size(), static_cast<size_t>(rows));
    for (size_t r = 0; r < joint.size(); ++r) {
      const auto a = static_cast<double>(c.a[r]), b = static_cast<double>(c.b[r]), d = static_cast<double>(djoint[r]);
      // Its largest term is a logit, their sum, or log 3.
      EXPECT_NEAR(static_cast<double>(joint[r]), joint_of(a, b), 4 * 0x1p-24 * (std::fabs(a) + std::fabs(b) + 2)) << a << " " << b;
      EXPECT_LE(joint[r], std::fmin(c.a[r], c.b[r]) + 1e-6f) << "a product is at most its factors";
      // The exponent a - b or a + b is rounded once, which its exponential multiplies by its size; 8 more roundings.
      const double bound = (std::fabs(a) + std::fabs(b) + 8) * 0x1p-24;
      EXPECT_NEAR(static_cast<double>(plain.da[r]), d * slope_of(a, b), bound * std::fabs(d) * slope_of(a, b) + 1e-37) << a << " " << b;
      EXPECT_NEAR(static_cast<double>(plain.db[r]), d * slope_of(b, a), bound * std::fabs(d) * slope_of(b, a) + 1e-37) << a << " " << b;
      EXPECT_EQ(added.da[r], start.da[r] + plain.da[r]);
      EXPECT_EQ(added.db[r], start.db[r] + plain.db[r]);
    }
  }
}

TEST(LossJointLogits, ReferenceMeetsFiniteDifferences) {
  Random random(42);
  for (int i = 0; i < 200; ++i) {
    const double a = random.real(-8, 8), b = random.real(-8, 8), step = 1e-5;
    EXPECT_NEAR(slope_of(a, b), (joint_of(a + step, b) - joint_of(a - step, b)) / (2 * step), 1e-8);
    const double p = 1 / (1 + std::exp(-a)), q = 1 / (1 + std::exp(-b));
    EXPECT_NEAR(joint_of(a, b), std::log(p * q / (1 - p * q)), 1e-9);
  }
}

TEST(LossJointLogits, HugeLogitsAndNan) {
  TestDevice device;
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const Columns c{7, 1, 1, 1, {1e4f, 1e4f, -1e4f, 1e30f, kNan, 2, kNan}, {1e4f, -1e4f, -1e4f, 0, 1, kNan, kNan}};
  const std::vector<float> joint = forward(device, c);
  EXPECT_EQ(joint[0], 1e4f - std::log1p(1.0f));
  EXPECT_EQ(joint[1], -1e4f);
  EXPECT_EQ(joint[2], -2e4f);
  EXPECT_EQ(joint[3], 0.0f - std::log1p(1.0f) + std::log1p(1.0f));
  const Gradients g = backward(device, c, {1, 1, 1, 1, 1, 1, 1});
  EXPECT_EQ(g.da[0], 0.5f);
  EXPECT_EQ(g.db[0], 0.5f);
  EXPECT_EQ(g.da[1], 0.0f);
  EXPECT_EQ(g.db[1], 1.0f);
  EXPECT_EQ(g.da[2], 1.0f);
  EXPECT_EQ(g.db[2], 1.0f);
  EXPECT_EQ(g.da[3], 0.0f);
  EXPECT_EQ(g.db[3], 1.0f);
  for (size_t r = 4; r < 7; ++r) {
    EXPECT_TRUE(std::isnan(joint[r]));
    EXPECT_TRUE(std::isnan(g.da[r]) && std::isnan(g.db[r]));
  }
}

TEST(LossJointLogits, GradientInPlace) {
  TestDevice device;
  Random random(43);
  const int64_t rows = 300;
  const Columns c{rows, 1, 1, 1, random.reals(rows, -3, 3), random.reals(rows, -3, 3)};
  const std::vector<float> djoint = random.reals(rows);
  const Gradients apart = backward(device, c, djoint);
  const Buffer<float> a(device, c.a), b(device, c.b), da(device, djoint), db(device, rows);
  cudamoe_joint_logits_backward_args args{};
  args.struct_size = sizeof args;
  args.rows = rows;
  args.a = a.data();
  args.b = b.data();
  args.djoint = args.da = da.data();
  args.db = db.data();
  args.a_stride = args.b_stride = args.djoint_stride = args.da_stride = args.db_stride = 1;
  CUDAMOE_EXPECT_OK(cudamoe_joint_logits_backward(device.stream(), &args));
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
  EXPECT_EQ(da.get(), apart.da);
  EXPECT_EQ(db.get(), apart.db);
  args.da_stride = 2;
  EXPECT_EQ(cudamoe_joint_logits_backward(device.stream(), &args), CUDAMOE_ERROR_ARGUMENT);
  args.da_stride = 1;
  args.db = args.da;
  EXPECT_EQ(cudamoe_joint_logits_backward(device.stream(), &args), CUDAMOE_ERROR_ARGUMENT);
}

}  // namespace
}  // namespace cudamoe::test
