// The running sum over a block.
#include "common/block_scan.cuh"

#include "simt/harness.h"

namespace cudamoe::test {
namespace {

using namespace kernels;

template <int kThreads>
CUDAMOE_KERNEL(kThreads, 1)
running_sum_kernel(const uint32_t* in, uint32_t* out, uint32_t* totals) {
  uint32_t total, doubled;
  const uint32_t before = block_exclusive_sum<kThreads>(in[thread_x()], &total);
  const uint32_t again = block_exclusive_sum<kThreads>(2 * in[thread_x()], &doubled);
  out[thread_x()] = before;
  totals[thread_x()] = again - 2 * before + total + doubled;
}

template <int kThreads>
void expect_running_sums() {
  std::vector<uint32_t> values(kThreads), expected(kThreads);
  uint32_t sum = 0;
  for (size_t i = 0; i < kThreads; ++i) {
    values[i] = static_cast<uint32_t>(i * i % 37);
    expected[i] = sum;
    sum += values[i];
  }
  for (const simt::DeviceOptions& options : all_schedules()) {
    Executor executor(options);
    DeviceArray<uint32_t> in(executor, values), out(executor, values), totals(executor, values);
    EXPECT_EQ(executor.run({"running_sum", {1}, {kThreads}}, running_sum_kernel<kThreads>, in.data(), out.data(), totals.data()), "");
    EXPECT_EQ(out.get(), expected);
    EXPECT_EQ(totals.get(), std::vector<uint32_t>(kThreads, 3 * sum));
  }
}

TEST(SimtLanguage, BlockExclusiveSumOfOneWarp) { expect_running_sums<32>(); }
TEST(SimtLanguage, BlockExclusiveSumOfManyWarps) { expect_running_sums<256>(); }

}  // namespace
}  // namespace cudamoe::test
