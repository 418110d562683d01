// Defects in the use of global memory, which the sanitizers find: AddressSanitizer accesses out of bounds, ThreadSanitizer races. In builds
// without them there is nothing here.
#include <cstdlib>

#include "simt/harness.h"

namespace cudamoe::test {
namespace {

using namespace kernels;

[[maybe_unused]] void run_and_exit(const LaunchShape& shape, void (*kernel)(float*)) {
  Executor executor;
  DeviceArray<float> memory(executor, std::vector<float>(64, 0));
  executor.run(shape, kernel, memory.data());
  std::exit(0);
}

#if defined(__SANITIZE_ADDRESS__)

CUDAMOE_KERNEL(64, 1) past_the_end_kernel(float* memory) { memory[thread_x() + 1] = 0; }
CUDAMOE_KERNEL(64, 1) local_array_kernel(float* memory) {
  float local[4] = {};
  volatile int n = 4;
  memory[thread_x()] = local[n];
}

TEST(SimtBroken, GlobalIndexOutOfBounds) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(run_and_exit({"past the end", {1}, {64}}, past_the_end_kernel), "heap-buffer-overflow(.|\n)*past_the_end_kernel");
  EXPECT_DEATH(run_and_exit({"local array", {1}, {64}}, local_array_kernel), "stack-buffer-overflow|out of bounds");
}

#endif

#if defined(CUDAMOE_SIMT_TSAN)

// Every block writes the same element.
CUDAMOE_KERNEL(32, 1) between_blocks_kernel(float* memory) {
  if (thread_x() == 0) memory[0] = static_cast<float>(block_x());
}

// The second half of a block reads what the first wrote.
CUDAMOE_KERNEL(64, 1) between_warps_kernel(float* memory) {
  if (warp_id() == 0) memory[lane_id()] = 1;
  if (warp_id() == 1) memory[32 + lane_id()] = memory[lane_id()] + 1;
}

CUDAMOE_KERNEL(64, 1) ordered_kernel(float* memory) {
  if (warp_id() == 0) memory[lane_id()] = 1;
  sync_block();
  if (warp_id() == 1) memory[32 + lane_id()] = memory[lane_id()] + 1;
}

TEST(SimtBroken, RaceInGlobalMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  constexpr int kRaceFound = 66;  // ThreadSanitizer's exit code
  EXPECT_EXIT(run_and_exit({"between blocks", {4}, {32}}, between_blocks_kernel), testing::ExitedWithCode(kRaceFound),
              "data race(.|\n)*between_blocks_kernel");
  EXPECT_EXIT(run_and_exit({"between warps", {1}, {64}}, between_warps_kernel), testing::ExitedWithCode(kRaceFound),
              "data race(.|\n)*between_warps_kernel");
  EXPECT_EXIT(run_and_exit({"ordered", {1}, {64}}, ordered_kernel), testing::ExitedWithCode(0), "");
}

#endif

}  // namespace
}  // namespace cudamoe::test
