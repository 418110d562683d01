// Quads at every alignment and length.
#include "common/quad.cuh"

#include "simt/harness.h"

namespace cudamoe::test {
namespace {

using namespace kernels;

template <bool kAligned>
CUDAMOE_KERNEL(1, 1)
quad_kernel(const float* in, int64_t left, float* whole, float* out) {
  const Quad quad = load_quad<kAligned>(in, left);
  for (int i = 0; i < 4; ++i) whole[i] = quad[i];
  store_quad<kAligned>(out, quad, left);
}

TEST(SimtLanguage, QuadsMoveWhatIsLeftOfARow) {
  Executor executor;
  for (const bool aligned : {true, false}) {
    for (const int offset : {0, 1, 3}) {
      for (const int left : {-3, 0, 1, 2, 3, 4, 5, 9}) {
        if (aligned && (offset != 0 || (left > 0 && left < 4))) continue;
        DeviceArray<float> in(executor, {1, 2, 3, 4, 5, 6, 7, 8}), whole(executor, std::vector<float>(4, -1)),
            out(executor, std::vector<float>(8, -1));
        EXPECT_EQ(executor.run({"quad", {1}, {1}}, aligned ? quad_kernel<true> : quad_kernel<false>, in.data() + offset, left, whole.data(),
                               out.data() + offset),
                  "");
        for (int i = 0; i < 8; ++i) {
          const float value = static_cast<float>(i + 1);
          const int at = i - offset;
          EXPECT_EQ(out.get()[static_cast<size_t>(i)], at >= 0 && at < 4 && at < left ? value : -1.0f) << offset << " " << left;
        }
        for (int i = 0; i < 4; ++i)
          EXPECT_EQ(whole.get()[static_cast<size_t>(i)], i < left ? static_cast<float>(i + offset + 1) : 0.0f) << offset << " " << left;
      }
    }
  }
}

TEST(SimtLanguage, AnAlignedQuadThatIsNotIsReported) {
  Executor executor;
  DeviceArray<float> in(executor, std::vector<float>(8, 1)), out(executor, std::vector<float>(8, 1));
  EXPECT_NE(executor.run({"quad", {1}, {1}}, quad_kernel<true>, in.data() + 1, 4, out.data(), out.data()).find("misaligned"),
            std::string::npos);
}

}  // namespace
}  // namespace cudamoe::test
