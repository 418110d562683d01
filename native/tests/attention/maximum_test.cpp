// Maxima over sequences and their gradients: against a walk through the positions, finite differences, NaN, ties, and counts out of range.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/buffer.h"
#include "support/random.h"
#include "support/rows.h"

namespace cudamoe::test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Case {
  int64_t sequences, positions, width, x_stride, y_stride;
  std::vector<float> x, dy;
  std::vector<int32_t> counts;  // empty = all positions
};

Case make(Random& random, int64_t sequences, int64_t positions, int64_t width, bool counted) {
  Case c{sequences, positions, width, width + random.integer(0, 3), width + random.integer(0, 3), {}, {}, {}};
  // Few distinct values, so that there are ties.
  c.x = random.coin() ? random.integers(sequences * positions * width) : random.reals(sequences * positions * width, -3, 3);
  c.dy = random.reals(sequences * width);
  for (int64_t s = 0; counted && s < sequences; ++s) c.counts.push_back(static_cast<int32_t>(random.integer(0, positions)));
  return c;
}

struct Result {
  std::vector<float> y, dx;
  std::vector<int32_t> places;
  cudamoe_status status;
};

// Rows are `stride` apart; what lies between must hold the poison.
std::vector<float> rows_of(const Buffer<float>& buffer, int64_t rows, int64_t width, int64_t stride) {
  const std::vector<float> raw = buffer.get();
  for (size_t i = 0; i < raw.size(); ++i) {
    if (static_cast<int64_t>(i) % stride >= width) {
      EXPECT_TRUE(std::isnan(raw[i])) << "written between rows";
    }
  }
  return gathered(raw, rows, width, stride);
}

Result run(TestDevice& device, const Case& c) {
  const auto elements = [](int64_t rows, int64_t width, int64_t stride) { return rows > 0 && width > 0 ? (rows - 1) * stride + width : 0; };
  const int64_t rows = c.sequences * c.positions;
  const Buffer<float> x(device, spread(c.x, rows, c.width, c.x_stride), 1), dy(device, spread(c.dy, c.sequences, c.width, c.y_stride));
  const Buffer<float> y(device, elements(c.sequences, c.width, c.y_stride), 2), dx(device, elements(rows, c.width, c.x_stride), 1);
  const Buffer<int32_t> counts(device, c.counts), places(device, c.sequences * c.width, 1);
  cudamoe_sequence_maximum_forward_args f{};
  f.struct_size = sizeof f;
  f.sequences = c.sequences;
  f.positions = c.positions;
  f.width = c.width;
  f.x = x.data();
  f.x_row_stride = c.x_stride;
  f.counts = c.counts.empty() ? nullptr : counts.data();
  f.y = y.data();
  f.y_row_stride = c.y_stride;
  CUDAMOE_EXPECT_OK(cudamoe_sequence_maximum_forward(device.stream(), &f));
  const std::vector<float> without_places = y.get();
  f.places = places.data();
  CUDAMOE_EXPECT_OK(cudamoe_sequence_maximum_forward(device.stream(), &f));
  Result result{rows_of(y, c.sequences, c.width, c.y_stride), {}, places.get(), cudamoe_stream_synchronize(device.stream())};
  const std::vector<float> before = gathered(without_places, c.sequences, c.width, c.y_stride);
  for (size_t i = 0; i < result.y.size(); ++i) {
    EXPECT_TRUE(before[i] == result.y[i] || (std::isnan(before[i]) && std::isnan(result.y[i])));
  }

  cudamoe_sequence_maximum_backward_args b{};
  b.struct_size = sizeof b;
  b.sequences = c.sequences;
  b.positions = c.positions;
  b.width = c.width;
  b.places = places.data();
  b.dy = dy.data();
  b.dy_row_stride = c.y_stride;
  b.dx = dx.data();
  b.dx_row_stride = c.x_stride;
  CUDAMOE_EXPECT_OK(cudamoe_sequence_maximum_backward(device.stream(), &b));
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
  result.dx = rows_of(dx, rows, c.width, c.x_stride);
  EXPECT_TRUE(x.guards_intact() && dy.guards_intact() && y.guards_intact() && dx.guards_intact() && counts.guards_intact() &&
              places.guards_intact());
  return result;
}

// In double, of numbers alone.
struct Maximum {
  double value = 0;
  int32_t place = -1;
};
Maximum maximum_of(const std::vector<double>& x, const Case& c, int64_t sequence, int64_t column) {
  Maximum most;
  const int64_t count = c.counts.empty() ? c.positions : c.counts[static_cast<size_t>(sequence)];
  for (int64_t p = 0; p < count; ++p) {
    const double value = x[static_cast<size_t>((sequence * c.positions + p) * c.width + column)];
    if (most.place < 0 || value > most.value) most = {value, static_cast<int32_t>(p)};
  }
  return most;
}

TEST(SequenceMaximum, AgreesWithTheReference) {
  TestDevice device;
  Random random(81);
  for (int64_t sequences : test_device_is_slow() ? std::vector<int64_t>{0, 1, 9} : std::vector<int64_t>{0, 1, 2, 33, 500}) {
    for (int64_t positions : {0, 1, 2, 20}) {
      for (int64_t width : {0, 1, 3, 16, 17, 40}) {
        const Case c = make(random, sequences, positions, width, random.coin());
        SCOPED_TRACE(std::to_string(sequences) + " sequences of " + std::to_string(positions) + " positions, width " +
                     std::to_string(width));
        const Result have = run(device, c);
        EXPECT_EQ(have.status, CUDAMOE_OK);
        const std::vector<double> x = wide(c.x);
        std::vector<float> y, dx(c.x.size(), 0.0f);
        std::vector<int32_t> places;
        for (int64_t i = 0; i < sequences * width; ++i) {
          const Maximum most = maximum_of(x, c, i / width, i % width);
          y.push_back(static_cast<float>(most.value));
          places.push_back(most.place);
          if (most.place >= 0)
            dx[static_cast<size_t>((i / width * positions + most.place) * width + i % width)] = c.dy[static_cast<size_t>(i)];
        }
        EXPECT_EQ(have.y, y);
        EXPECT_EQ(have.places, places);
        EXPECT_EQ(have.dx, dx);
      }
    }
  }
}

TEST(SequenceMaximum, GradientMeetsFiniteDifferences) {
  TestDevice device;
  Random random(82);
  Case c = make(random, 7, 6, 5, true);
  c.x = random.reals(c.sequences * c.positions * c.width, -3, 3);
  const Result have = run(device, c);
  const double step = 1e-7;  // less than half of what two of so many f32 numbers differ by, but with a chance of 1 in 10^4
  for (size_t i = 0; i < c.x.size(); ++i) {
    const auto objective = [&](double change) {
      std::vector<double> x = wide(c.x);
      x[i] += change;
      double sum = 0;
      for (int64_t at = 0; at < c.sequences * c.width; ++at)
        sum += static_cast<double>(c.dy[static_cast<size_t>(at)]) * maximum_of(x, c, at / c.width, at % c.width).value;
      return sum;
    };
    EXPECT_NEAR(static_cast<double>(have.dx[i]), (objective(step) - objective(-step)) / (2 * step), 1e-6);
  }
}

TEST(SequenceMaximum, TheFirstNanWinsAndUnseenPositionsDoNot) {
  TestDevice device;
  Case c{3, 4, 2, 2, 2, {}, std::vector<float>(6, 1.0f), {4, 2, 3}};
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  c.x = {1,          kNan,      5,          2,  kNan, 9,         kNan, kNan,  // NaN at 2, and at 0
         -kInfinity, -7,        -kInfinity, -8, kNan, 9,         100,  kNan,  // only two positions count
         -0.0f,      kInfinity, 0.0f,       3,  -1,   kInfinity, 9,    9};    // equal ones
  const Result have = run(device, c);
  EXPECT_TRUE(std::isnan(have.y[0]) && std::isnan(have.y[1]));
  EXPECT_EQ((std::vector<float>(have.y.begin() + 2, have.y.end())), (std::vector<float>{-kInfinity, -7, 0, kInfinity}));
  EXPECT_EQ(have.places, (std::vector<int32_t>{2, 0, 0, 0, 0, 0}));
}

TEST(SequenceMaximum, CountsOutOfRangeAreReportedAndBounded) {
  TestDevice device;
  Random random(83);
  Case c = make(random, 4, 3, 5, false);
  c.counts = {2, 3, 0, 1};
  const Result want = run(device, c);
  c.counts = {2, 4, -1, 1};
  const Result have = run(device, c);
  EXPECT_EQ(have.status, CUDAMOE_ERROR_REPORTED);
  EXPECT_EQ(have.y, want.y);
  EXPECT_EQ(have.places, want.places);
  EXPECT_EQ(have.dx, want.dx);
}

TEST(SequenceMaximum, NamesTheFirstCountOutOfRange) {
  TestDevice device;
  const Buffer<float> x(device, std::vector<float>(2 * 3 * 1, 1.0f)), y(device, 2);
  const Buffer<int32_t> counts(device, std::vector<int32_t>{-2, 4});
  cudamoe_sequence_maximum_forward_args a{};
  a.struct_size = sizeof a;
  a.sequences = 2;
  a.positions = 3;
  a.width = a.x_row_stride = a.y_row_stride = 1;
  a.x = x.data();
  a.y = y.data();
  a.counts = counts.data();
  CUDAMOE_EXPECT_OK(cudamoe_sequence_maximum_forward(device.stream(), &a));
  EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_ERROR_REPORTED);
  EXPECT_NE(last_error().find("counts[0] is -2; it must be 0 to positions, 3"), std::string::npos) << last_error();
}

TEST(SequenceMaximum, SameBitsForAnyOrder) {
  Random random(84);
  const bool slow = test_device_is_slow();
  TestDevice one;
  const Case c = make(random, slow ? 9 : 700, 20, 18, true);
  const Result want = run(one, c);
  for (const std::string& spec : repeated_device_specs()) {
    TestDevice device(spec);
    for (int repeat = 0; repeat < repetitions_of_a_spec(); ++repeat) {
      const Result again = run(device, c);
      ASSERT_TRUE(again.y == want.y && again.dx == want.dx && again.places == want.places);
    }
  }
}

TEST(SequenceMaximum, RefusesBadArguments) {
  TestDevice device;
  const Buffer<float> data(device, std::vector<float>(4096, 0.0f));
  float* p = data.data();
  auto* numbers = reinterpret_cast<int32_t*>(p);
  const auto forward_refused = [&](auto&& change, const char* words) {
    cudamoe_sequence_maximum_forward_args a{};
    a.struct_size = sizeof a;
    a.sequences = 2;
    a.positions = 3;
    a.width = a.x_row_stride = a.y_row_stride = 4;
    a.x = p;
    a.y = p + 128;
    a.counts = numbers + 256;
    a.places = numbers + 384;
    change(a);
    CUDAMOE_EXPECT_REFUSED(cudamoe_sequence_maximum_forward(device.stream(), &a), words);
  };
  forward_refused([](auto& a) { a.struct_size = 1; }, "struct_size");
  forward_refused([](auto& a) { a.reserved = 1; }, "reserved is 1");
  forward_refused([](auto& a) { a.sequences = -1; }, "sequences is -1");
  forward_refused([](auto& a) { a.positions = int64_t{1} << 31; }, "positions is 2147483648");
  forward_refused([](auto& a) { a.width = -1; }, "width is -1");
  forward_refused([](auto& a) { a.sequences = a.width = int64_t{1} << 47; }, "address space");
  forward_refused([](auto& a) { a.x = nullptr; }, "x is null");
  forward_refused([](auto& a) { a.x_row_stride = 3; }, "x_row_stride is 3");
  forward_refused([](auto& a) { a.y = nullptr; }, "y is null");
  forward_refused([](auto& a) { a.y_row_stride = 3; }, "y_row_stride is 3");
  forward_refused([p](auto& a) { a.y = p + 20; }, "overlaps");
  forward_refused([numbers](auto& a) { a.places = numbers + 130; }, "overlaps");
  const auto backward_refused = [&](auto&& change, const char* words) {
    cudamoe_sequence_maximum_backward_args a{};
    a.struct_size = sizeof a;
    a.sequences = 2;
    a.positions = 3;
    a.width = a.dy_row_stride = a.dx_row_stride = 4;
    a.places = numbers;
    a.dy = p + 128;
    a.dx = p + 256;
    change(a);
    CUDAMOE_EXPECT_REFUSED(cudamoe_sequence_maximum_backward(device.stream(), &a), words);
  };
  backward_refused([](auto& a) { a.reserved = 1; }, "reserved is 1");
  backward_refused([](auto& a) { a.places = nullptr; }, "places is null");
  backward_refused([](auto& a) { a.dy = nullptr; }, "dy is null");
  backward_refused([](auto& a) { a.dx = nullptr; }, "dx is null");
  backward_refused([](auto& a) { a.dx_row_stride = 3; }, "dx_row_stride is 3");
  backward_refused([p](auto& a) { a.dx = p + 130; }, "overlaps");
}

}  // namespace
}  // namespace cudamoe::test
