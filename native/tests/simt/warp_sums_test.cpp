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

// Sums of small integers, which no order changes, over each kLanes lanes.
template <int kLanes, int kCount>
CUDAMOE_KERNEL(64, 1)
lane_sums_kernel(const float* in, float* sums) {
  constexpr int kHolders = kCount < kLanes ? kCount : kLanes, kLeft = kCount / kHolders;
  float values[kCount];
  for (int k = 0; k < kCount; ++k) values[k] = in[thread_x() * kCount + k];
  lane_sums<kLanes>(values);
  const int group = thread_x() / kLanes, lane = thread_x() % kLanes;
  for (int k = 0; k < kLeft; ++k) sums[(group * kLanes + lane) * kLeft + k] = values[k];
}

template <int kLanes, int kCount>
void compare_lanes(const simt::DeviceOptions& options) {
  constexpr int kHolders = kCount < kLanes ? kCount : kLanes, kLeft = kCount / kHolders;
  Executor executor(options);
  std::vector<float> values(64 * kCount), expected(64 * kLeft, 0);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 7 % 1013);
  for (int thread = 0; thread < 64; ++thread) {
    for (int k = 0; k < kLeft; ++k) {
      const int group = thread / kLanes, value = thread % kLanes % kHolders * kLeft + k;
      for (int lane = 0; lane < kLanes; ++lane) expected[thread * kLeft + k] += values[(group * kLanes + lane) * kCount + value];
    }
  }
  DeviceArray<float> in(executor, values), sums(executor, std::vector<float>(64 * kLeft, -1));
  EXPECT_EQ(executor.run({"sums", {1}, {64}}, lane_sums_kernel<kLanes, kCount>, in.data(), sums.data()), "");
  EXPECT_EQ(sums.get(), expected);
}

TEST(SimtLanguage, LaneSumsAreWhereTheyArePromised) {
  for (const simt::DeviceOptions& options : all_schedules()) {
    compare_lanes<8, 1>(options);
    compare_lanes<8, 2>(options);
    compare_lanes<16, 4>(options);
    compare_lanes<16, 16>(options);
    compare_lanes<8, 16>(options);
    compare_lanes<32, 8>(options);
    compare_lanes<32, 64>(options);
    compare_lanes<1, 4>(options);
  }
}

}  // namespace
}  // namespace cudamoe::test
