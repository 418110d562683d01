// cudamoe_gated_product_* against double arithmetic, finite differences, and bit for bit wherever the rows lie.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "reference/gemm_reference.h"
#include "support/buffer.h"
#include "support/compare.h"
#include "support/random.h"

namespace cudamoe::test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Case {
  int32_t activation = CUDAMOE_ACTIVATION_SILU;
  float slope = 0.2f;
  int64_t rows = 0, width = 0;
  int64_t gap = 0, misaligned = 0;
  bool one_matrix = false;  // a and b are columns of one matrix, and da and db of another
  bool accumulate_a = false, accumulate_b = false;
  std::vector<float> a, b, dy, da, db;
};

struct Result {
  std::vector<float> y, da, db;
};

// Rows of some columns of a matrix, which is NaN elsewhere.
class Columns {
 public:
  Columns(TestDevice& device, const Case& c, int64_t parts)
      : rows_(c.rows),
        width_(c.width),
        stride_(parts * c.width + c.gap),
        values_(rows_ > 0 ? (rows_ - 1) * stride_ + parts * width_ : 0, kNan),
        buffer_(device, values_, c.misaligned) {}

  int64_t stride() const { return stride_; }
  float* data(int64_t part = 0) const { return buffer_.data() + part * width_; }

  void set(const std::vector<float>& rows, int64_t part = 0) {
    for (int64_t i = 0; i < rows_ * width_; ++i) values_[at(i, part)] = rows[i];
    buffer_.set(values_);
  }
  // The rows of a part; what is no part must still hold NaN.
  std::vector<float> get(int64_t part, int64_t parts) const {
    const std::vector<float> all = buffer_.get();
    std::vector<float> rows(rows_ * width_);
    for (int64_t i = 0; i < rows_ * width_; ++i) rows[i] = all[at(i, part)];
    for (size_t i = 0; i < all.size(); ++i) {
      if (static_cast<int64_t>(i) % stride_ >= parts * width_) {
        EXPECT_TRUE(std::isnan(all[i])) << "written between rows";
      }
    }
    EXPECT_TRUE(buffer_.guards_intact());
    return rows;
  }

 private:
  int64_t at(int64_t i, int64_t part) const { return i / width_ * stride_ + part * width_ + i % width_; }

  int64_t rows_, width_, stride_;
  std::vector<float> values_;
  Buffer<float> buffer_;
};

Result run(TestDevice& device, const Case& c) {
  const int64_t parts = c.one_matrix ? 2 : 1, b_part = parts - 1;
  Columns a(device, c, parts), b_alone(device, c, 1), y(device, c, 1), dy(device, c, 1), da(device, c, parts), db_alone(device, c, 1);
  Columns &b = c.one_matrix ? a : b_alone, &db = c.one_matrix ? da : db_alone;
  a.set(c.a);
  b.set(c.b, b_part);
  dy.set(c.dy);
  if (c.accumulate_a) da.set(c.da);
  if (c.accumulate_b) db.set(c.db, b_part);

  cudamoe_gated_product_forward_args f{};
  f.struct_size = sizeof f;
  f.activation = c.activation;
  f.activation_slope = c.slope;
  f.rows = c.rows;
  f.width = c.width;
  f.a = a.data();
  f.a_row_stride = a.stride();
  f.b = b.data(b_part);
  f.b_row_stride = b.stride();
  f.y = y.data();
  f.y_row_stride = y.stride();
  CUDAMOE_EXPECT_OK(cudamoe_gated_product_forward(device.stream(), &f));

  cudamoe_gated_product_backward_args g{};
  g.struct_size = sizeof g;
  g.activation = c.activation;
  g.activation_slope = c.slope;
  g.accumulate_a = c.accumulate_a;
  g.accumulate_b = c.accumulate_b;
  g.rows = c.rows;
  g.width = c.width;
  g.a = f.a;
  g.a_row_stride = f.a_row_stride;
  g.b = f.b;
  g.b_row_stride = f.b_row_stride;
  g.dy = dy.data();
  g.dy_row_stride = dy.stride();
  g.da = da.data();
  g.da_row_stride = da.stride();
  g.db = db.data(b_part);
  g.db_row_stride = db.stride();
  CUDAMOE_EXPECT_OK(cudamoe_gated_product_backward(device.stream(), &g));
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
  EXPECT_EQ(a.get(0, parts), c.a);
  EXPECT_EQ(dy.get(0, 1), c.dy);
  return {y.get(0, 1), da.get(0, parts), db.get(b_part, parts)};
}

void fill(Case& c, Random& random, double range = 6) {
  const int64_t n = c.rows * c.width;
  c.a = random.reals(n, -2, 2);
  c.b = random.reals(n, -range, range);
  c.dy = random.reals(n);
  if (c.accumulate_a) c.da = random.reals(n, -3, 3);
  if (c.accumulate_b) c.db = random.reals(n, -3, 3);
}

// The reference takes derivatives from the output but for GELU and SiLU.
double derivative(int32_t activation, double x, double slope) {
  const bool from_input = activation == CUDAMOE_ACTIVATION_GELU || activation == CUDAMOE_ACTIVATION_SILU;
  return reference::activation_derivative(activation, from_input ? x : reference::activate(activation, x, slope), slope);
}

TEST(GatedProduct, AgreesWithDoubleArithmetic) {
  TestDevice device;
  Random random(61);
  for (int32_t activation = CUDAMOE_ACTIVATION_NONE; activation <= CUDAMOE_ACTIVATION_TANH; ++activation) {
    for (const auto& [rows, width] :
         {std::pair<int64_t, int64_t>{0, 4}, {1, 1}, {3, 5}, {33, 16}, {5, 64}, {70, 31}, {2, 1500}, {9, 1024}}) {
      Case c;
      c.activation = activation;
      c.rows = rows;
      c.width = width;
      c.gap = random.coin() ? 0 : random.integer(1, 5);
      c.misaligned = random.integer(0, 3);
      c.one_matrix = random.coin();
      c.accumulate_a = random.coin();
      c.accumulate_b = random.coin();
      fill(c, random);
      SCOPED_TRACE("activation " + std::to_string(activation) + " rows " + std::to_string(rows) + " width " + std::to_string(width));
      const Result have = run(device, c);
      for (size_t i = 0; i < have.y.size(); ++i) {
        const auto a = static_cast<double>(c.a[i]), b = static_cast<double>(c.b[i]), dy = static_cast<double>(c.dy[i]);
        const auto slope = static_cast<double>(c.slope);
        const double value = reference::activate(activation, b, slope);
        const double da = dy * value + (c.accumulate_a ? static_cast<double>(c.da[i]) : 0.0);
        const double db = dy * a * derivative(activation, b, slope) + (c.accumulate_b ? static_cast<double>(c.db[i]) : 0.0);
        // The activation's own error is up to 201 units (GELU without fused multiply-add), most of it far below 0 where values are small.
        const double bound = 40 * 0x1p-24;
        ASSERT_NEAR(static_cast<double>(have.y[i]), a * value, bound * (std::fabs(a * value) + 1e-3)) << "a " << a << " b " << b;
        ASSERT_NEAR(static_cast<double>(have.da[i]), da, bound * (std::fabs(da) + 1)) << "b " << b;
        ASSERT_NEAR(static_cast<double>(have.db[i]), db, bound * (std::fabs(db) + 1)) << "a " << a << " b " << b;
      }
    }
  }
}

// The wide rows take several blocks across and more rows than a grid's first pass would have at this size.
TEST(GatedProduct, PlacesAndAlignmentDoNotChangeBits) {
  TestDevice device;
  Random random(62);
  for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{40, 64}, {300, 4}, {3, 2048}, {11, 100}}) {
    Case c;
    c.rows = rows;
    c.width = width;
    c.accumulate_a = c.accumulate_b = true;
    fill(c, random);
    const Result packed = run(device, c);
    for (int64_t variant = 0; variant < 6; ++variant) {
      Case other = c;
      other.gap = variant % 3 * 4;
      other.misaligned = variant == 5 ? 1 : 0;
      other.one_matrix = variant % 2 == 1;
      const Result have = run(device, other);
      EXPECT_EQ(have.y, packed.y) << variant;
      EXPECT_EQ(have.da, packed.da) << variant;
      EXPECT_EQ(have.db, packed.db) << variant;
    }
  }
}

TEST(GatedProduct, SmallIntegersAreExact) {
  TestDevice device;
  Random random(63);
  for (const int32_t activation : {CUDAMOE_ACTIVATION_NONE, CUDAMOE_ACTIVATION_RELU, CUDAMOE_ACTIVATION_LEAKY_RELU}) {
    Case c;
    c.activation = activation;
    c.slope = 0.5f;
    c.rows = 19;
    c.width = 21;
    const int64_t n = c.rows * c.width;
    c.a = random.integers(n);
    c.b = random.integers(n);
    c.dy = random.integers(n);
    const Result have = run(device, c);
    for (size_t i = 0; i < have.y.size(); ++i) {
      const float low = activation == CUDAMOE_ACTIVATION_NONE ? 1.0f : activation == CUDAMOE_ACTIVATION_RELU ? 0.0f : 0.5f;
      const float slope = c.b[i] > 0 ? 1.0f : low, value = c.b[i] * slope;
      ASSERT_EQ(have.y[i], c.a[i] * value);
      ASSERT_EQ(have.da[i], c.dy[i] * value);
      ASSERT_EQ(have.db[i], c.dy[i] * c.a[i] * slope);
    }
  }
}

TEST(GatedProduct, ReferenceMeetsFiniteDifferences) {
  Random random(64);
  for (int32_t activation = CUDAMOE_ACTIVATION_NONE; activation <= CUDAMOE_ACTIVATION_TANH; ++activation) {
    for (int i = 0; i < 100; ++i) {
      double x = random.real(-6, 6);
      if (std::fabs(x) < 1e-4) x = 1e-4;  // off the kink of ReLU
      const double step = 1e-5, slope = 0.2;
      const double difference =
          (reference::activate(activation, x + step, slope) - reference::activate(activation, x - step, slope)) / (2 * step);
      EXPECT_NEAR(derivative(activation, x, slope), difference, 1e-8) << activation << " at " << x;
    }
  }
}

TEST(GatedProduct, HugeGatesAndNan) {
  TestDevice device;
  Case c;
  c.rows = 1;
  c.width = 5;
  c.a = {2, 2, 2, 0, 2};
  c.b = {1e30f, -1e30f, kNan, 1, 0};
  c.dy = {1, 1, 1, 1, 3};
  const Result have = run(device, c);
  EXPECT_EQ(have.y[0], 2e30f);
  EXPECT_EQ(have.y[1], 0.0f);
  EXPECT_TRUE(std::isnan(have.y[2]));
  EXPECT_EQ(have.y[3], 0.0f);
  EXPECT_EQ(have.da[0], 1e30f);
  EXPECT_EQ(have.db[0], 2.0f);
  EXPECT_EQ(have.db[1], 0.0f);
  EXPECT_TRUE(std::isnan(have.da[2]) && std::isnan(have.db[2]));
  EXPECT_EQ(have.db[3], 0.0f);
  EXPECT_EQ(have.da[4], 0.0f);
  EXPECT_EQ(have.db[4], 3.0f);
}

TEST(GatedProduct, SameBitsForAnyOrder) {
  Case c;
  c.rows = test_device_is_slow() ? 50 : 3000;
  c.width = 70;
  c.gap = 2;
  c.one_matrix = true;
  Random random(65);
  fill(c, random);
  Result first;
  for (const std::string& spec : repeated_device_specs()) {
    TestDevice device(spec);
    const Result have = run(device, c);
    if (first.y.empty()) first = have;
    ASSERT_EQ(have.y, first.y) << spec;
    ASSERT_EQ(have.da, first.da) << spec;
    ASSERT_EQ(have.db, first.db) << spec;
  }
}

TEST(GatedProduct, ForwardRefusesBadArguments) {
  TestDevice device;
  const Buffer<float> data(device, std::vector<float>(512, 0.0f));
  float* p = data.data();
  const auto refused = [&](auto&& change, const char* words) {
    cudamoe_gated_product_forward_args a{};
    a.struct_size = sizeof a;
    a.activation = CUDAMOE_ACTIVATION_SILU;
    a.rows = 2;
    a.width = 4;
    a.a = p;
    a.b = p + 4;
    a.y = p + 64;
    a.a_row_stride = a.b_row_stride = 8;
    a.y_row_stride = 4;
    change(a);
    CUDAMOE_EXPECT_REFUSED(cudamoe_gated_product_forward(device.stream(), &a), words);
  };
  refused([](auto& a) { a.struct_size = 0; }, "struct_size");
  refused([](auto& a) { a.activation = 7; }, "activation is 7");
  refused([](auto& a) { a.activation = -1; }, "activation is -1");
  refused([](auto& a) { a.activation = CUDAMOE_ACTIVATION_LEAKY_RELU, a.activation_slope = -1; }, "activation_slope is -1");
  refused([](auto& a) { a.activation = CUDAMOE_ACTIVATION_LEAKY_RELU, a.activation_slope = NAN; }, "activation_slope is nan");
  refused([](auto& a) { a.reserved = 1; }, "reserved is 1");
  refused([](auto& a) { a.rows = -1; }, "rows is -1");
  refused([](auto& a) { a.width = 0; }, "width is 0");
  refused([](auto& a) { a.a = nullptr; }, "a is null");
  refused([](auto& a) { a.b = nullptr; }, "b is null");
  refused([](auto& a) { a.y = nullptr; }, "y is null");
  refused([](auto& a) { a.b = reinterpret_cast<const float*>(2); }, "b is");
  refused([](auto& a) { a.a_row_stride = 3; }, "a_row_stride is 3");
  refused([](auto& a) { a.b_row_stride = 3; }, "b_row_stride is 3");
  refused([](auto& a) { a.y_row_stride = 3; }, "y_row_stride is 3");
  refused([](auto& a) { a.y = const_cast<float*>(a.a) + 3, a.y_row_stride = 8; }, "overlaps");
  refused([](auto& a) { a.y = const_cast<float*>(a.b), a.y_row_stride = 8; }, "overlaps");
  refused([](auto& a) { a.y = const_cast<float*>(a.a) + 8, a.y_row_stride = 4; }, "overlaps");
}

TEST(GatedProduct, BackwardRefusesBadArguments) {
  TestDevice device;
  const Buffer<float> data(device, std::vector<float>(512, 0.0f));
  float* p = data.data();
  const auto refused = [&](auto&& change, const char* words) {
    cudamoe_gated_product_backward_args a{};
    a.struct_size = sizeof a;
    a.activation = CUDAMOE_ACTIVATION_GELU;
    a.rows = 2;
    a.width = 4;
    a.a = p;
    a.b = p + 4;
    a.dy = p + 32;
    a.da = p + 64;
    a.db = p + 68;
    a.a_row_stride = a.b_row_stride = a.da_row_stride = a.db_row_stride = 8;
    a.dy_row_stride = 4;
    change(a);
    CUDAMOE_EXPECT_REFUSED(cudamoe_gated_product_backward(device.stream(), &a), words);
  };
  refused([](auto& a) { a.struct_size = 8; }, "struct_size");
  refused([](auto& a) { a.activation = 99; }, "activation is 99");
  refused([](auto& a) { a.accumulate_a = 2; }, "accumulate_a is 2");
  refused([](auto& a) { a.accumulate_b = -1; }, "accumulate_b is -1");
  refused([](auto& a) { a.reserved = 5; }, "reserved is 5");
  refused([](auto& a) { a.rows = int64_t{1} << 60; }, "rows is");
  refused([](auto& a) { a.dy = nullptr; }, "dy is null");
  refused([](auto& a) { a.da = nullptr; }, "da is null");
  refused([](auto& a) { a.db = nullptr; }, "db is null");
  refused([](auto& a) { a.dy_row_stride = 1; }, "dy_row_stride is 1");
  refused([](auto& a) { a.da_row_stride = 1; }, "da_row_stride is 1");
  refused([](auto& a) { a.db_row_stride = 1; }, "db_row_stride is 1");
  refused([](auto& a) { a.db = a.da; }, "overlaps");
  refused([](auto& a) { a.db = a.da + 2; }, "overlaps");
  refused([](auto& a) { a.da = const_cast<float*>(a.dy), a.da_row_stride = 4; }, "overlaps");
  refused([](auto& a) { a.da = const_cast<float*>(a.a); }, "overlaps");
  refused([](auto& a) { a.db = const_cast<float*>(a.b) + 1; }, "overlaps");
}

}  // namespace
}  // namespace cudamoe::test
