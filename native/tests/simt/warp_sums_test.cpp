// Many sums over a warp: the bits of warp_sum, in the lanes that are promised.
#include "common/warp_sums.cuh"

#include "simt/harness.h"

namespace cudamoe::test {
namespace {

using namespace kernels;

template <int kCount>
CUDAMOE_KERNEL(64, 1)
sums_kernel(const float* in, float* sums, float* single) {
  float values[kCount];
  for (int k = 0; k < kCount; ++k) {
    values[k] = in[thread_x() * kCount + k];
    const float sum = warp_sum(values[k]);
    if (lane_id() == 0) single[warp_id() * kCount + k] = sum;
  }
  warp_sums(values);
  constexpr int kOfLane = kCount / kWarp;
  for (int k = 0; k < kOfLane; ++k) sums[warp_id() * kCount + lane_id() * kOfLane + k] = values[k];
}

template <int kCount>
void compare(const simt::DeviceOptions& options) {
  Executor executor(options);
  std::vector<float> values(64 * kCount);
  for (size_t i = 0; i < values.size(); ++i) values[i] = 1.0f / static_cast<float>(i * 7 % 1013 + 1);
  DeviceArray<float> in(executor, values), sums(executor, std::vector<float>(2 * kCount, -1)),
      single(executor, std::vector<float>(2 * kCount, -2));
  EXPECT_EQ(executor.run({"sums", {1}, {64}}, sums_kernel<kCount>, in.data(), sums.data(), single.data()), "");
  EXPECT_EQ(sums.get(), single.get());
}

TEST(SimtLanguage, WarpSumsHaveTheBitsOfWarpSum) {
  for (const simt::DeviceOptions& options : all_schedules()) {
    compare<32>(options);
    compare<64>(options);
  }
}

}  // namespace
}  // namespace cudamoe::test
