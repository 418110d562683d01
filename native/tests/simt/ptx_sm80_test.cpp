// The layout of each PTX wrapper of the sm_80 path as a table, against plain matrices; and copies that land early or late.
#include "common/ptx/convert.cuh"
#include "common/ptx/cp_async.cuh"
#include "common/ptx/ldmatrix.cuh"
#include "common/ptx/mma.cuh"
#include "simt/harness.h"

namespace cudamoe::test {
namespace {

using namespace kernels;

// ---- ldmatrix ----

template <int kMatrices, bool kTransposed>
CUDAMOE_KERNEL(32, 1)
ldmatrix_kernel(uint32_t* out) {
  CUDAMOE_SHARED_ALIGNED(16, uint16_t, tile, [8 * kMatrices][8]);
  for (int i = thread_x(); i < 64 * kMatrices; i += 32) tile[i / 8][i % 8] = static_cast<uint16_t>(i);
  sync_block();
  uint32_t fragment[kMatrices];
  ptx::ldmatrix<kMatrices, kTransposed>(fragment, &tile[thread_x() % (8 * kMatrices)][0]);
  for (int m = 0; m < kMatrices; ++m) out[m * 32 + thread_x()] = fragment[m];
}

template <int kMatrices, bool kTransposed>
void expect_ldmatrix_layout() {
  Executor executor;
  DeviceArray<uint32_t> out(executor, std::vector<uint32_t>(32 * kMatrices, 0));
  EXPECT_EQ(executor.run({"ldmatrix", {1}, {32}}, ldmatrix_kernel<kMatrices, kTransposed>, out.data()), "");
  const std::vector<uint32_t> have = out.get();
  for (uint32_t m = 0; m < kMatrices; ++m) {
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const uint32_t outer = lane / 4, inner = 2 * (lane % 4);
      const uint32_t low = kTransposed ? 64 * m + 8 * inner + outer : 64 * m + 8 * outer + inner;
      const uint32_t high = kTransposed ? low + 8 : low + 1;
      EXPECT_EQ(have[m * 32 + lane], low | high << 16) << "matrix " << m << " lane " << lane;
    }
  }
}

TEST(SimtPtx, LdmatrixGivesEachLaneItsElements) {
  expect_ldmatrix_layout<1, false>();
  expect_ldmatrix_layout<2, false>();
  expect_ldmatrix_layout<4, false>();
  expect_ldmatrix_layout<1, true>();
  expect_ldmatrix_layout<2, true>();
  expect_ldmatrix_layout<4, true>();
}

// ---- mma ----

CUDAMOE_KERNEL(32, 1) mma_bf16_kernel(const float* a, const float* b, float* d) {
  const int g = lane_id() / 4, t = lane_id() % 4;
  const auto pair = [](const float* low, const float* high) { return ptx::pack_bf16(*low, *high); };
  uint32_t fragment_a[4], fragment_b[2];
  for (int i = 0; i < 4; ++i) {
    const float* at = a + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8;
    fragment_a[i] = pair(at, at + 1);
  }
  for (int i = 0; i < 2; ++i) {
    const float* at = b + (2 * t + 8 * i) * 8 + g;
    fragment_b[i] = pair(at, at + 8);
  }
  float sum[4];
  for (int i = 0; i < 4; ++i) sum[i] = d[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  ptx::mma_m16n8k16_bf16(sum, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

CUDAMOE_KERNEL(32, 1) mma_tf32_kernel(const float* a, const float* b, float* d) {
  const int g = lane_id() / 4, t = lane_id() % 4;
  uint32_t fragment_a[4], fragment_b[2];
  for (int i = 0; i < 4; ++i) fragment_a[i] = ptx::to_tf32(a[(g + i % 2 * 8) * 8 + t + i / 2 * 4]);
  for (int i = 0; i < 2; ++i) fragment_b[i] = ptx::to_tf32(b[(t + 4 * i) * 8 + g]);
  float sum[4];
  for (int i = 0; i < 4; ++i) sum[i] = d[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  ptx::mma_m16n8k8_tf32(sum, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

// Small integers: exact in any order.
void expect_product(void (*kernel)(const float*, const float*, float*), int depth) {
  for (const simt::DeviceOptions& options : all_schedules()) {
    Executor executor(options);
    std::vector<float> a(static_cast<size_t>(16 * depth)), b(static_cast<size_t>(depth * 8)), d(128);
    for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(static_cast<int>(i * 7 % 11) - 5);
    for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(static_cast<int>(i * 5 % 13) - 6);
    for (size_t i = 0; i < d.size(); ++i) d[i] = static_cast<float>(i);
    DeviceArray<float> da(executor, a), db(executor, b), dd(executor, d);
    EXPECT_EQ(executor.run({"mma", {1}, {32}}, kernel, da.data(), db.data(), dd.data()), "");
    const std::vector<float> have = dd.get();
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 8; ++column) {
        float want = d[static_cast<size_t>(row * 8 + column)];
        for (int k = 0; k < depth; ++k) want += a[static_cast<size_t>(row * depth + k)] * b[static_cast<size_t>(k * 8 + column)];
        EXPECT_EQ(have[static_cast<size_t>(row * 8 + column)], want) << row << " " << column;
      }
    }
  }
}

TEST(SimtPtx, MmaBf16MultipliesTheMatricesOfItsFragments) { expect_product(mma_bf16_kernel, 16); }
TEST(SimtPtx, MmaTf32MultipliesTheMatricesOfItsFragments) { expect_product(mma_tf32_kernel, 8); }

CUDAMOE_KERNEL(1, 1) round_kernel(const float* in, uint32_t* out, int count) {
  for (int i = 0; i < count; ++i) {
    out[i] = ptx::to_tf32(in[i]);
    out[count + i] = ptx::pack_bf16(in[i], -in[i]);
  }
}

TEST(SimtPtx, RoundingOfOperands) {
  Executor executor;
  const std::vector<float> values = {1.0f, 1.0f + 0x1p-11f, 1.0f + 0x1p-8f, 1.0f + 3 * 0x1p-8f, 3.4e38f};
  DeviceArray<float> in(executor, values);
  DeviceArray<uint32_t> out(executor, std::vector<uint32_t>(2 * values.size(), 0));
  EXPECT_EQ(executor.run({"round", {1}, {1}}, round_kernel, in.data(), out.data(), static_cast<int>(values.size())), "");
  const std::vector<uint32_t> have = out.get();
  EXPECT_EQ(have[0], 0x3F800000u);
  EXPECT_EQ(have[1], 0x3F802000u);  // a tie goes away from zero
  EXPECT_EQ(have[5], 0xBF803F80u);
  EXPECT_EQ(have[7], 0xBF803F80u);  // a tie goes to even
  EXPECT_EQ(have[8], 0xBF823F82u);
  EXPECT_EQ(have[9], 0xFF803F80u + 0x7F80u - 0x3F80u);  // beyond the largest bf16
}

// ---- cp.async ----

// Three stages in flight over a stream of rows, with a short last row.
CUDAMOE_KERNEL(64, 1) pipeline_kernel(const float* in, int64_t count, float* out) {
  constexpr int kStages = 3, kRow = 256;
  CUDAMOE_SHARED_ALIGNED(16, float, ring, [kStages][kRow]);
  const int t = thread_x();
  const int rows = static_cast<int>((count + kRow - 1) / kRow);
  const auto fetch = [&](int row) {
    if (row < rows) {
      const int64_t at = int64_t{row} * kRow + 4 * t, left = count - at;
      const int bytes = left >= 4 ? 16 : left > 0 ? static_cast<int>(4 * left) : 0;
      ptx::cp_async<16>(&ring[row % kStages][4 * t], in + (bytes > 0 ? at : 0), bytes);
    }
    ptx::cp_async_commit();
  };
  for (int row = 0; row < kStages - 1; ++row) fetch(row);
  float sum = 0;
  for (int row = 0; row < rows; ++row) {
    ptx::cp_async_wait<kStages - 2>();
    sync_block();
    fetch(row + kStages - 1);
    for (int i = 0; i < 4; ++i) sum += ring[row % kStages][(4 * t + 17 + 64 * i) % kRow];
  }
  ptx::cp_async_wait_all();
  out[t] = sum;
}

TEST(SimtPtx, PipelinesOfCopiesAreRightHoweverLateTheyLand) {
  for (const simt::DeviceOptions& options : all_schedules()) {
    Executor executor(options);
    const int64_t count = 5 * 256 + 131;
    std::vector<float> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 97);
    DeviceArray<float> in(executor, values), out(executor, std::vector<float>(64, 0));
    EXPECT_EQ(executor.run({"pipeline", {1}, {64}}, pipeline_kernel, in.data(), count, out.data()), "");
    const std::vector<float> have = out.get();
    for (int t = 0; t < 64; ++t) {
      float want = 0;
      for (int row = 0; row < 6; ++row) {
        for (int i = 0; i < 4; ++i) {
          const auto at = static_cast<size_t>(row * 256 + (4 * t + 17 + 64 * i) % 256);
          want += at < values.size() ? values[at] : 0;
        }
      }
      EXPECT_EQ(have[static_cast<size_t>(t)], want);
    }
  }
}

}  // namespace
}  // namespace cudamoe::test
