// Rotary positions against plain double arithmetic, and their inverse.
#include <gtest/gtest.h>

#include <cmath>

#include "support/buffer.h"
#include "support/compare.h"
#include "support/random.h"

namespace cudamoe::test {
namespace {

struct Case {
  int32_t heads = 1, head_width = 4, rotary_width = 4;
  bool interleaved = false, inverse = false;
  float base = 10000;
  int64_t rows = 1, positions = 1, first_position = 0, gap = 0, misaligned = 0;
  std::vector<float> x;  // [rows, heads * head_width + gap]

  int64_t stride() const { return int64_t{heads} * head_width + gap; }
};

std::vector<float> run(TestDevice& device, const Case& c) {
  const Buffer<float> x(device, c.x, c.misaligned);
  cudamoe_rotary_args a{};
  a.struct_size = sizeof a;
  a.heads = c.heads;
  a.head_width = c.head_width;
  a.rotary_width = c.rotary_width;
  a.interleaved = c.interleaved;
  a.inverse = c.inverse;
  a.base = c.base;
  a.rows = c.rows;
  a.positions = c.positions;
  a.first_position = c.first_position;
  int64_t bytes = -1;
  CUDAMOE_EXPECT_OK(cudamoe_rotary_workspace(device.stream(), &a, &bytes));
  const Workspace workspace(device, bytes);
  a.x = x.data();
  a.x_row_stride = c.stride();
  a.workspace = workspace.data();
  a.workspace_bytes = bytes;
  CUDAMOE_EXPECT_OK(cudamoe_rotary(device.stream(), &a));
  EXPECT_TRUE(x.guards_intact() && workspace.guards_intact());
  return x.get();
}

std::vector<double> reference(const Case& c) {
  std::vector<double> x(c.x.begin(), c.x.end());
  const int64_t pairs = c.rotary_width / 2;
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t h = 0; h < c.heads; ++h) {
      for (int64_t i = 0; i < pairs; ++i) {
        const double position = static_cast<double>(c.first_position + r % c.positions);
        const double angle =
            position * std::pow(static_cast<double>(c.base), -2.0 * static_cast<double>(i) / c.rotary_width) * (c.inverse ? -1 : 1);
        double* head = &x[r * c.stride() + h * c.head_width];
        double &a = head[c.interleaved ? 2 * i : i], &b = head[c.interleaved ? 2 * i + 1 : i + pairs];
        const double turned = a * std::cos(angle) - b * std::sin(angle);
        b = a * std::sin(angle) + b * std::cos(angle);
        a = turned;
      }
    }
  }
  return x;
}

TEST(Rotary, AgreesWithTheReferenceAndTurnsBack) {
  TestDevice device;
  Random random(98);
  for (const int64_t rows : {0, 1, 7, 100}) {
    for (int variant = 0; variant < 12; ++variant) {
      Case c;
      c.rows = rows;
      c.heads = static_cast<int32_t>(random.integer(1, 4));
      c.head_width = static_cast<int32_t>(random.integer(1, 40));
      c.rotary_width = static_cast<int32_t>(random.integer(0, c.head_width / 2) * 2);
      c.interleaved = random.coin();
      c.inverse = random.coin();
      c.positions = random.integer(1, 12);
      c.first_position = variant == 0 ? (1 << 24) - 12 : random.integer(0, 50);
      c.gap = random.integer(0, 3);
      c.misaligned = random.integer(0, 3);
      c.x = random.reals(rows * c.stride());
      const std::vector<float> have = run(device, c);
      EXPECT_LE(relative_error(have, reference(c)), 4e-7);
      Case back = c;
      back.x = have;
      back.inverse = !c.inverse;
      EXPECT_LE(relative_error(run(device, back), c.x), 4e-7);
    }
  }
}

TEST(Rotary, PositionZeroIsTheSame) {
  TestDevice device;
  Case c;
  c.x = {1, -2, 3, 4};
  EXPECT_EQ(run(device, c), c.x);
}

TEST(Rotary, RefusesBadArguments) {
  TestDevice device;
  const Buffer<float> data(device, std::vector<float>(256, 0.0f));
  const auto refused = [&](auto&& change, const char* words) {
    cudamoe_rotary_args a{};
    a.struct_size = sizeof a;
    a.heads = 2;
    a.head_width = 4;
    a.rotary_width = 4;
    a.base = 10000;
    a.rows = 3;
    a.positions = 3;
    a.x = data.data();
    a.x_row_stride = 8;
    a.workspace = data.data() + 128;
    a.workspace_bytes = 512;
    change(a);
    CUDAMOE_EXPECT_REFUSED(cudamoe_rotary(device.stream(), &a), words);
  };
  refused([](auto& a) { a.rotary_width = 3; }, "rotary_width is 3; it must be even");
  refused([](auto& a) { a.rotary_width = 6; }, "rotary_width is 6");
  refused([](auto& a) { a.base = 0; }, "base is 0");
  refused([](auto& a) { a.positions = 0; }, "positions is 0");
  refused([](auto& a) { a.first_position = 1 << 24; }, "their sum must be at most");
  refused([](auto& a) { a.x_row_stride = 7; }, "x_row_stride is 7");
  refused([](auto& a) { a.x = nullptr; }, "x is null");
  refused([](auto& a) { a.workspace_bytes = 1; }, "workspace_bytes is 1");
}

}  // namespace
}  // namespace cudamoe::test
