// Fragments put together wrongly are no defect that can be seen in the kernel: the executor multiplies what the hardware would, and the
// exact comparison of the result, by which every product is tested, shows it.
#include "common/ptx/ldmatrix.cuh"
#include "common/ptx/mma.cuh"
#include "simt/harness.h"

namespace cudamoe::test {
namespace {

using namespace kernels;

enum class Defect : int { kNone, kSwappedHalvesOfA, kMissingTransposeOfB, kSwappedHalvesOfB };

// D[16, 8] = A[16, 16] B[16, 8], both row-major in shared memory.
CUDAMOE_KERNEL(32, 1) product_kernel(const uint16_t* in_a, const uint16_t* in_b, float* out, Defect defect) {
  CUDAMOE_SHARED_ALIGNED(16, uint16_t, a, [16][16]);
  CUDAMOE_SHARED_ALIGNED(16, uint16_t, b, [16][8]);
  const int lane = lane_id();
  for (int i = lane; i < 256; i += 32) a[i / 16][i % 16] = in_a[i];
  for (int i = lane; i < 128; i += 32) b[i / 8][i % 8] = in_b[i];
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
  float d[4] = {};
  ptx::mma_m16n8k16_bf16(d, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) out[(lane / 4 + i / 2 * 8) * 8 + 2 * (lane % 4) + i % 2] = d[i];
}

TEST(SimtBroken, WrongFragment) {
  std::vector<uint16_t> a(256), b(128);
  std::vector<float> want(128, 0);
  const auto value_a = [](size_t i) { return static_cast<float>(static_cast<int>(i * 7 % 9) - 4); };
  const auto value_b = [](size_t i) { return static_cast<float>(static_cast<int>(i * 5 % 11) - 5); };
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<uint16_t>(__builtin_bit_cast(uint32_t, value_a(i)) >> 16);
  for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<uint16_t>(__builtin_bit_cast(uint32_t, value_b(i)) >> 16);
  for (size_t row = 0; row < 16; ++row) {
    for (size_t column = 0; column < 8; ++column) {
      for (size_t k = 0; k < 16; ++k) want[row * 8 + column] += value_a(row * 16 + k) * value_b(k * 8 + column);
    }
  }
  for (const simt::DeviceOptions& options : all_schedules()) {
    for (const Defect defect : {Defect::kNone, Defect::kSwappedHalvesOfA, Defect::kMissingTransposeOfB, Defect::kSwappedHalvesOfB}) {
      Executor executor(options);
      DeviceArray<uint16_t> in_a(executor, a), in_b(executor, b);
      DeviceArray<float> out(executor, std::vector<float>(128, -1));
      EXPECT_EQ(executor.run({"product", {1}, {32}}, product_kernel, in_a.data(), in_b.data(), out.data(), defect), "");
      EXPECT_EQ(out.get() == want, defect == Defect::kNone) << static_cast<int>(defect);
    }
  }
}

}  // namespace
}  // namespace cudamoe::test
