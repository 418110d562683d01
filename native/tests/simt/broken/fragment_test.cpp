// Fragments put together wrongly, in kernels that say what their fragments hold.
#include "common/expected_fragment.cuh"
#include "common/ptx/ldmatrix.cuh"
#include "common/ptx/mma.cuh"
#include "simt/harness.h"

namespace cudamoe::test {
namespace {

using namespace kernels;

enum class Defect : int { kNone, kSwappedHalvesOfA, kMissingTransposeOfB, kSwappedHalvesOfB };

// D[16, 8] = A[16, 16] B[16, 8] in bf16, both row-major in shared memory.
CUDAMOE_KERNEL(32, 1) bf16_product_kernel(const uint16_t* in_a, const uint16_t* in_b, float* out, Defect defect) {
  CUDAMOE_SHARED_ALIGNED(16, Bf16, a, [16][16]);
  CUDAMOE_SHARED_ALIGNED(16, Bf16, b, [16][8]);
  const int lane = lane_id();
  for (int i = lane; i < 256; i += 32) a[i / 16][i % 16] = Bf16{in_a[i]};
  for (int i = lane; i < 128; i += 32) b[i / 8][i % 8] = Bf16{in_b[i]};
  sync_warp();
  uint32_t fragment_a[4], fragment_b[2];
  ptx::ldmatrix<4, false>(fragment_a, &a[lane % 16][lane / 16 * 8]);
  if (defect == Defect::kMissingTransposeOfB) {
    ptx::ldmatrix<2, false>(fragment_b, &b[lane % 16][0]);
  } else {
    ptx::ldmatrix<2, true>(fragment_b, &b[lane % 16][0]);
  }
  if (defect == Defect::kSwappedHalvesOfA) {
    const uint32_t kept = fragment_a[1];
    fragment_a[1] = fragment_a[2];
    fragment_a[2] = kept;
  }
  if (defect == Defect::kSwappedHalvesOfB) fragment_b[0] = fragment_b[0] >> 16 | fragment_b[0] << 16;
  expect_left_bf16(fragment_a, [&](int row, int k) -> Bf16 { return a[row][k]; });
  expect_right_bf16(fragment_b, [&](int k, int column) -> Bf16 { return b[k][column]; });
  float d[4] = {};
  ptx::mma_m16n8k16_bf16(d, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) out[(lane / 4 + i / 2 * 8) * 8 + 2 * (lane % 4) + i % 2] = d[i];
}

// D[16, 8] = A[16, 8] B[8, 8] in tf32. The defects are those of single words: A's or B's read at the other place, B by its rows.
CUDAMOE_KERNEL(32, 1) tf32_product_kernel(const float* in_a, const float* in_b, float* out, Defect defect) {
  CUDAMOE_SHARED(float, a, [16][8]);
  CUDAMOE_SHARED(float, b, [8][8]);
  const int lane = lane_id(), group = lane / 4, t = lane % 4;
  for (int i = lane; i < 128; i += 32) a[i / 8][i % 8] = in_a[i];
  for (int i = lane; i < 64; i += 32) b[i / 8][i % 8] = in_b[i];
  sync_warp();
  uint32_t fragment_a[4], fragment_b[2];
  for (int i = 0; i < 4; ++i) {
    const int second_row = defect == Defect::kSwappedHalvesOfA ? i / 2 : i % 2;
    const int second_depth = defect == Defect::kSwappedHalvesOfA ? i % 2 : i / 2;
    fragment_a[i] = bits_of(static_cast<float>(a[group + 8 * second_row][t + 4 * second_depth]));
  }
  for (int i = 0; i < 2; ++i) {
    const int depth = t + 4 * (defect == Defect::kSwappedHalvesOfB ? 1 - i : i);
    fragment_b[i] = bits_of(static_cast<float>(defect == Defect::kMissingTransposeOfB ? b[group][depth] : b[depth][group]));
  }
  expect_left_tf32(fragment_a, [&](int row, int k) { return bits_of(static_cast<float>(a[row][k])); });
  expect_right_tf32(fragment_b, [&](int k, int column) { return bits_of(static_cast<float>(b[k][column])); });
  float d[4] = {};
  ptx::mma_m16n8k8_tf32(d, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) out[(group + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}

// Small integers that two neighbours, and two elements 4 or 8 rows or columns apart, never share.
float value_a(int row, int k) { return static_cast<float>((row * 5 + k * 7) % 97 - 48); }
float value_b(int k, int column) { return static_cast<float>((k * 11 + column * 3) % 89 - 44); }

template <class T, class Kernel, class Convert>
void expect_report(const char* name, Kernel kernel, int depth, Convert convert) {
  std::vector<T> a, b;
  std::vector<float> want(128, 0);
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < depth; ++k) a.push_back(convert(value_a(row, k)));
  }
  for (int k = 0; k < depth; ++k) {
    for (int column = 0; column < 8; ++column) b.push_back(convert(value_b(k, column)));
  }
  for (int i = 0; i < 128; ++i) {
    for (int k = 0; k < depth; ++k) want[static_cast<size_t>(i)] += value_a(i / 8, k) * value_b(k, i % 8);
  }
  for (const simt::DeviceOptions& options : all_schedules()) {
    for (const Defect defect : {Defect::kNone, Defect::kSwappedHalvesOfA, Defect::kMissingTransposeOfB, Defect::kSwappedHalvesOfB}) {
      Executor executor(options);
      DeviceArray<T> in_a(executor, a), in_b(executor, b);
      DeviceArray<float> out(executor, std::vector<float>(128, -1));
      const std::string report = executor.run({name, {1}, {32}}, kernel, in_a.data(), in_b.data(), out.data(), defect);
      if (defect == Defect::kNone) {
        EXPECT_EQ(report, "");
        EXPECT_EQ(out.get(), want);
        continue;
      }
      const std::string operand = defect == Defect::kSwappedHalvesOfA ? "left" : "right";
      EXPECT_EQ(report.rfind(std::string("wrong fragment in kernel ") + name + ": register ", 0), 0u) << report;
      EXPECT_NE(report.find("of the " + operand + " operand in lane "), std::string::npos) << report;
      EXPECT_NE(report.find("fragment_test.cpp:"), std::string::npos) << report;
    }
  }
}

TEST(SimtBroken, WrongFragment) {
  expect_report<uint16_t>("bf16 product", bf16_product_kernel, 16, [](float x) { return to_bf16(x).bits; });
  expect_report<float>("tf32 product", tf32_product_kernel, 8, [](float x) { return x; });
}

}  // namespace
}  // namespace cudamoe::test
