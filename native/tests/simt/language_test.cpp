// The language of kernels/common on the executor: correct kernels give their results under every schedule.
#include <numeric>

#include "common/block_reduce.cuh"
#include "common/ptx/barrier.cuh"
#include "simt/harness.h"

namespace cudamoe::test {
namespace {

using namespace kernels;

CUDAMOE_KERNEL(256, 1) indices_kernel(int* out) {
  const int block = (block_z() * grid_size_y() + block_y()) * grid_size_x() + block_x();
  const int threads = block_size_x() * block_size_y() * block_size_z();
  out[block * threads + thread_rank()] = block * 1000 + thread_z() * 100 + thread_y() * 10 + thread_x();
}

TEST(SimtLanguage, EveryThreadOfEveryBlockRunsOnce) {
  for (const simt::DeviceOptions& options : all_schedules()) {
    Executor executor(options);
    DeviceArray<int> out(executor, std::vector<int>(12 * 24, -1));
    EXPECT_EQ(executor.run({"indices", {3, 2, 2}, {4, 3, 2}}, indices_kernel, out.data()), "");
    const std::vector<int> have = out.get();
    for (int b = 0; b < 12; ++b) {
      for (int t = 0; t < 24; ++t) EXPECT_EQ(have[static_cast<size_t>(b * 24 + t)], b * 1000 + t / 12 * 100 + t / 4 % 3 * 10 + t % 4);
    }
  }
}

// Block-wide prefix sums by doubling, in shared memory.
CUDAMOE_KERNEL(96, 1) scan_kernel(const int* in, int* out) {
  CUDAMOE_SHARED(int, values, [2][96]);
  const int t = thread_x(), n = block_size_x();
  values[0][t] = in[block_x() * n + t];
  int from = 0;
  for (int step = 1; step < n; step *= 2) {
    sync_block();
    const int own = values[from][t];
    values[1 - from][t] = t >= step ? own + values[from][t - step] : own;
    from = 1 - from;
  }
  sync_block();
  out[block_x() * n + t] = values[from][n - 1 - t];
}

TEST(SimtLanguage, BarriersOrderSharedMemory) {
  for (const simt::DeviceOptions& options : all_schedules()) {
    for (const int threads : {1, 31, 32, 33, 96}) {
      Executor executor(options);
      std::vector<int> in(static_cast<size_t>(5 * threads));
      std::iota(in.begin(), in.end(), 1);
      DeviceArray<int> source(executor, in), out(executor, in);
      EXPECT_EQ(executor.run({"scan", {5}, {threads}}, scan_kernel, source.data(), out.data()), "");
      const std::vector<int> have = out.get();
      for (int b = 0; b < 5; ++b) {
        for (int t = 0; t < threads; ++t) {
          const auto first = in.begin() + b * threads;
          EXPECT_EQ(have[static_cast<size_t>(b * threads + t)], std::accumulate(first, first + threads - t, 0));
        }
      }
    }
  }
}

CUDAMOE_KERNEL(64, 1) warp_kernel(uint32_t* out) {
  const auto lane = static_cast<uint32_t>(lane_id());
  uint32_t* own = out + 16 * thread_rank();
  own[0] = shuffle(kFullWarp, lane * 3, 5);
  own[1] = shuffle(kFullWarp, lane, 9, 8);
  own[2] = shuffle_up(kFullWarp, lane, 3);
  own[3] = shuffle_down(kFullWarp, lane, 3, 16);
  own[4] = shuffle_xor(kFullWarp, lane, 5);
  own[5] = ballot(kFullWarp, lane % 3 == 0);
  own[6] = any_lane(kFullWarp, lane == 31);
  own[7] = all_lanes(kFullWarp, lane < 31);
  own[8] = match_any(kFullWarp, lane / 4);
  own[9] = reduce_add(kFullWarp, lane);
  own[10] = reduce_min(kFullWarp, lane + 7);
  own[11] = reduce_max(kFullWarp, lane);
  // Half warps go different ways.
  if (lane < 16) {
    own[12] = reduce_add(0x0000FFFFu, lane);
    own[13] = reduce_max(0x0000FFFFu, lane);
  } else {
    own[12] = reduce_add(0xFFFF0000u, lane);
    own[13] = 0;
  }
  own[14] = static_cast<uint32_t>(warp_sum(static_cast<int>(lane)));
  own[15] = static_cast<uint32_t>(warp_max(static_cast<double>(lane)));
}

TEST(SimtLanguage, WarpOperationsFollowTheTable) {
  for (const simt::DeviceOptions& options : all_schedules()) {
    Executor executor(options);
    DeviceArray<uint32_t> out(executor, std::vector<uint32_t>(64 * 16, 0));
    EXPECT_EQ(executor.run({"warp", {1}, {64}}, warp_kernel, out.data()), "");
    const std::vector<uint32_t> have = out.get();
    for (uint32_t t = 0; t < 64; ++t) {
      const uint32_t lane = t % 32;
      const std::vector<uint32_t> want = {15,
                                          lane / 8 * 8 + 1,
                                          lane >= 3 ? lane - 3 : lane,
                                          lane % 16 < 13 ? lane + 3 : lane,
                                          lane ^ 5u,
                                          0x49249249u,
                                          1,
                                          0,
                                          0xFu << (lane / 4 * 4),
                                          496,
                                          7,
                                          31,
                                          lane < 16 ? 120u : 376u,
                                          lane < 16 ? 15u : 0u,
                                          496,
                                          31};
      for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(have[t * 16 + i], want[i]) << "thread " << t << " operation " << i;
    }
  }
}

CUDAMOE_KERNEL(128, 1) early_exit_kernel(int* out) {
  // A whole warp and a part of another leave; the barrier and the warp go on without them.
  if (thread_x() >= 40) return;
  sync_block();
  const uint32_t mask = warp_id() == 0 ? kFullWarp : 0xFFu;
  out[thread_x()] = static_cast<int>(reduce_add(mask, 1));
}

TEST(SimtLanguage, ExitedThreadsAreNotWaitedFor) {
  for (simt::DeviceOptions options : all_schedules()) {
    Executor executor(options);
    DeviceArray<int> out(executor, std::vector<int>(40, 0));
    EXPECT_EQ(executor.run({"early exit", {1}, {128}}, early_exit_kernel, out.data()), "");
    const std::vector<int> have = out.get();
    for (int t = 0; t < 40; ++t) EXPECT_EQ(have[static_cast<size_t>(t)], t < 32 ? 32 : 8);
    options.schedule.strict_exits = true;
    Executor strict(options);
    EXPECT_NE(strict.run({"early exit", {1}, {128}}, early_exit_kernel, out.data()).find("thread exited before barrier"),
              std::string::npos);
  }
}

// Two halves of a block pass values through named barriers; the other barrier forms count.
CUDAMOE_KERNEL(128, 1) parts_kernel(int* out) {
  CUDAMOE_SHARED(int, box, [64]);
  const int t = thread_x();
  if (t < 64) {
    box[t] = 100 + t;
    ptx::arrive_part(1, 128);
    ptx::sync_part(3, 64);
    out[t] = t;
  } else {
    ptx::sync_part(1, 128);
    out[t] = box[127 - t];
  }
  const int some = sync_block_count(t % 3 == 0);
  const bool every = sync_block_and(t < 128), none = sync_block_or(t > 127);
  if (t == 0) {
    out[128] = some;
    out[129] = every ? 1 : 0;
    out[130] = none ? 1 : 0;
  }
}

TEST(SimtLanguage, NamedAndCountingBarriers) {
  for (const simt::DeviceOptions& options : all_schedules()) {
    Executor executor(options);
    DeviceArray<int> out(executor, std::vector<int>(131, -1));
    EXPECT_EQ(executor.run({"parts", {1}, {128}}, parts_kernel, out.data()), "");
    const std::vector<int> have = out.get();
    for (int t = 0; t < 128; ++t) EXPECT_EQ(have[static_cast<size_t>(t)], t < 64 ? t : 100 + 127 - t);
    EXPECT_EQ(have[128], 43);
    EXPECT_EQ(have[129], 1);
    EXPECT_EQ(have[130], 0);
  }
}

CUDAMOE_KERNEL(64, 1) atomics_kernel(uint32_t* counters) {
  CUDAMOE_SHARED(uint32_t, local);
  if (thread_x() == 0) local[0] = 0;
  sync_block();
  atomic_add(&local[0], static_cast<uint32_t>(thread_x()));
  atomic_max(counters + 1, static_cast<uint32_t>(block_x() * 64 + thread_x()));
  atomic_or(counters + 2, 1u << block_x());
  sync_block();
  if (thread_x() == 0) atomic_add(counters, static_cast<uint32_t>(local[0]));
}

TEST(SimtLanguage, AtomicsLoseNothing) {
  for (const simt::DeviceOptions& options : all_schedules()) {
    Executor executor(options);
    DeviceArray<uint32_t> counters(executor, std::vector<uint32_t>(3, 0));
    EXPECT_EQ(executor.run({"atomics", {7}, {64}}, atomics_kernel, counters.data()), "");
    EXPECT_EQ(counters.get(), (std::vector<uint32_t>{7 * 2016, 447, 127}));
  }
}

CUDAMOE_KERNEL(128, 1) sum_kernel(const double* in, double* out) {
  const double first = block_sum<128>(in[thread_x()]), second = block_sum<128>(in[thread_x()] * 2);
  if (thread_x() == 0) out[0] = first, out[1] = second;
}

TEST(SimtLanguage, BlockSumHasTheSameBitsUnderEverySchedule) {
  std::vector<double> values(128), first;
  for (size_t i = 0; i < values.size(); ++i) values[i] = 1.0 / static_cast<double>(3 * i + 1);
  for (const simt::DeviceOptions& options : all_schedules()) {
    Executor executor(options);
    DeviceArray<double> in(executor, values), out(executor, {0, 0});
    EXPECT_EQ(executor.run({"sum", {1}, {128}}, sum_kernel, in.data(), out.data()), "");
    if (first.empty()) first = out.get();
    EXPECT_EQ(out.get(), first);
  }
  EXPECT_NEAR(first[0], std::accumulate(values.begin(), values.end(), 0.0), 1e-14);
}

CUDAMOE_KERNEL(32, 1) dynamic_kernel(float* out) {
  const Shared<float> all = dynamic_shared<float>();
  const Shared<Vector<float, 2>> pairs = shared_cast<Vector<float, 2>>(all);
  store(all + 4 * thread_x(), Vector<float, 4>{{1, 2, 3, 4}});
  sync_block();
  const Vector<float, 2> pair = pairs[2 * (31 - thread_x()) + 1];
  out[thread_x()] = pair[0] + pair[1];
}

TEST(SimtLanguage, DynamicSharedMemoryAndCasts) {
  Executor executor;
  DeviceArray<float> out(executor, std::vector<float>(32, 0));
  EXPECT_EQ(executor.run({"dynamic", {1}, {32}, 512}, dynamic_kernel, out.data()), "");
  EXPECT_EQ(out.get(), std::vector<float>(32, 7));
}

}  // namespace
}  // namespace cudamoe::test
