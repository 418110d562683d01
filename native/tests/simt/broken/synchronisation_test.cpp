// Kernels with a defect in their synchronisation. The executor names each, under every schedule; a kernel that it lets through is a defect
// of the executor.
#include "common/ptx/acquire_release.cuh"
#include "common/ptx/cp_async.cuh"
#include "simt/broken/expect_named.h"

namespace cudamoe::test {
namespace {

using namespace kernels;

CUDAMOE_KERNEL(64, 1) missing_barrier_kernel() {
  CUDAMOE_SHARED(float, box, [64]);
  box[thread_x()] = 1;
  const float other = box[63 - thread_x()];
  static_cast<void>(other);
}

TEST(SimtBroken, MissingBarrier) {
  for (const simt::DeviceOptions& options : all_schedules()) {
    Executor executor(options);
    const std::string report = executor.run({"missing barrier", {1}, {64}}, missing_barrier_kernel);
    // The reader may come before any writer.
    EXPECT_TRUE(report.find("shared memory race") == 0 || report.find("uninitialised shared memory") == 0) << report;
    EXPECT_NE(report.find("shared array box"), std::string::npos) << report;
  }
}

CUDAMOE_KERNEL(64, 1) overwritten_kernel() {
  CUDAMOE_SHARED(float, box, [64]);
  for (int round = 0; round < 2; ++round) {
    box[thread_x()] = static_cast<float>(round);
    sync_block();
    const float other = box[63 - thread_x()];
    static_cast<void>(other);  // no barrier before the next round writes
  }
}

TEST(SimtBroken, BarrierMissingBeforeTheNextRound) { expect_named("shared memory race", {"overwritten", {1}, {64}}, overwritten_kernel); }

CUDAMOE_KERNEL(32, 1) missing_warp_barrier_kernel() {
  CUDAMOE_SHARED(int, box, [32]);
  box[lane_id()] = lane_id();
  sync_warp();
  const int other = box[31 - lane_id()];
  box[lane_id()] = other + 1;
}

TEST(SimtBroken, MissingWarpBarrier) { expect_named("shared memory race", {"warp", {1}, {32}}, missing_warp_barrier_kernel); }

CUDAMOE_KERNEL(64, 1) half_warp_kernel() {
  CUDAMOE_SHARED(int, box, [32]);
  const int lane = lane_id();
  if (warp_id() == 1) return;
  box[lane] = lane;
  sync_warp(lane < 16 ? 0x0000FFFFu : 0xFFFF0000u);
  const int other = box[lane ^ 16];  // of the other half, which did not meet this one
  static_cast<void>(other);
}

TEST(SimtBroken, HalfWarpsDoNotMeet) {
  for (const simt::DeviceOptions& options : all_schedules()) {
    Executor executor(options);
    const std::string report = executor.run({"half warps", {1}, {64}}, half_warp_kernel);
    EXPECT_TRUE(report.find("shared memory race") == 0 || report.find("uninitialised shared memory") == 0) << report;
  }
}

CUDAMOE_KERNEL(64, 1) divergent_barrier_kernel() {
  if (thread_x() < 32) {
    sync_block();
  } else {
    sync_block();
  }
}

TEST(SimtBroken, DivergentBarrier) { expect_named("divergent barrier", {"divergent", {1}, {64}}, divergent_barrier_kernel); }

CUDAMOE_KERNEL(64, 1) deadlock_kernel() {
  // One lane waits for a warp that waits at the barrier.
  if (thread_x() == 0) {
    sync_warp();
  } else {
    sync_block();
  }
}

TEST(SimtBroken, Deadlock) {
  for (const simt::DeviceOptions& options : all_schedules()) {
    Executor executor(options);
    const std::string report = executor.run({"deadlock", {1}, {64}}, deadlock_kernel);
    EXPECT_EQ(report.find("deadlock in kernel deadlock"), 0u) << report;
    EXPECT_NE(report.find("thread 0 wait in sync_warp with mask 0xffffffff at "), std::string::npos) << report;
    EXPECT_NE(report.find("threads 1 to 63 wait at barrier 0 at "), std::string::npos) << report;
  }
}

CUDAMOE_KERNEL(32, 1) livelock_kernel(const uint32_t* flag) {
  while (ptx::load_acquire(flag) == 0) pause_thread();
}

TEST(SimtBroken, Livelock) {
  Executor executor({{simt::Order::kRandom, simt::Completion::kLate, 1, false}, 80});
  DeviceArray<uint32_t> flag(executor, {0});
  EXPECT_EQ(executor.run({"livelock", {1}, {32}}, livelock_kernel, flag.data()).find("livelock in kernel livelock"), 0u);
}

CUDAMOE_KERNEL(32, 1) missing_wait_kernel(const float* in) {
  CUDAMOE_SHARED_ALIGNED(16, float, row, [128]);
  ptx::cp_async<16>(&row[4 * thread_x()], in + 4 * thread_x());
  ptx::cp_async_commit();
  const float own = row[4 * thread_x()];
  static_cast<void>(own);
  ptx::cp_async_wait<0>();
}

CUDAMOE_KERNEL(32, 1) short_wait_kernel(const float* in) {
  CUDAMOE_SHARED_ALIGNED(16, float, rows, [2][128]);
  for (int stage = 0; stage < 2; ++stage) {
    ptx::cp_async<16>(&rows[stage][4 * thread_x()], in + 4 * thread_x());
    ptx::cp_async_commit();
  }
  ptx::cp_async_wait<1>();
  const float first = rows[0][4 * thread_x()], second = rows[1][4 * thread_x()];  // the second group may be under way
  static_cast<void>(first + second);
  ptx::cp_async_wait<0>();
}

CUDAMOE_KERNEL(32, 1) missing_commit_kernel(const float* in) {
  CUDAMOE_SHARED_ALIGNED(16, float, row, [128]);
  ptx::cp_async<16>(&row[4 * thread_x()], in + 4 * thread_x());
  ptx::cp_async_wait<0>();  // waits for no group: none was committed
  const float own = row[4 * thread_x()];
  static_cast<void>(own);
}

CUDAMOE_KERNEL(64, 1) no_barrier_after_wait_kernel(const float* in) {
  CUDAMOE_SHARED_ALIGNED(16, float, row, [256]);
  ptx::cp_async<16>(&row[4 * thread_x()], in + 4 * thread_x());
  ptx::cp_async_wait_all();
  const float other = row[255 - 4 * thread_x()];
  static_cast<void>(other);
}

TEST(SimtBroken, MissingWaitGroup) {
  Executor owner;
  DeviceArray<float> in(owner, std::vector<float>(256, 1.0f));
  expect_named("asynchronous copy not waited for", {"missing wait", {1}, {32}}, missing_wait_kernel, in.data());
  expect_named("asynchronous copy not waited for", {"short wait", {1}, {32}}, short_wait_kernel, in.data());
  expect_named("asynchronous copy not waited for", {"missing commit", {1}, {32}}, missing_commit_kernel, in.data());
}

TEST(SimtBroken, BarrierMissingAfterWaitGroup) {
  Executor owner;
  DeviceArray<float> in(owner, std::vector<float>(256, 1.0f));
  for (const simt::DeviceOptions& options : all_schedules()) {
    Executor executor(options);
    const std::string report = executor.run({"no barrier", {1}, {64}}, no_barrier_after_wait_kernel, in.data());
    EXPECT_TRUE(report.find("shared memory race") == 0 || report.find("uninitialised shared memory") == 0 ||
                report.find("asynchronous copy not waited for") == 0)
        << report;
  }
}

CUDAMOE_KERNEL(32, 1) foreign_mask_kernel() {
  if (lane_id() < 16) sync_warp(0xFFFF0000u);
}

CUDAMOE_KERNEL(32, 1) different_masks_kernel() {
  sync_warp(lane_id() < 16 ? kFullWarp : 0xFFFF0000u);
  sync_block();
}

CUDAMOE_KERNEL(32, 1) different_operations_kernel() {
  if (lane_id() < 16) {
    static_cast<void>(ballot(kFullWarp, true));
  } else {
    sync_warp();
  }
}

CUDAMOE_KERNEL(32, 1) inactive_lane_kernel() {
  if (lane_id() < 16) static_cast<void>(shuffle(0x0000FFFFu, 1, 20));
}

CUDAMOE_KERNEL(32, 1) exited_lane_kernel() {
  if (lane_id() == 3) return;
  static_cast<void>(shuffle(kFullWarp, 1, 3));
}

TEST(SimtBroken, WrongMask) {
  expect_named("wrong warp mask", {"foreign mask", {1}, {32}}, foreign_mask_kernel);
  for (const simt::DeviceOptions& options : all_schedules()) {
    Executor executor(options);
    const std::string report = executor.run({"different masks", {1}, {32}}, different_masks_kernel);
    // Where the upper lanes meet among themselves before a lower one comes, the lower ones wait for ever.
    EXPECT_TRUE(report.find("wrong warp mask") == 0 || report.find("deadlock") == 0) << report;
  }
  expect_named("different warp operations", {"different operations", {1}, {32}}, different_operations_kernel);
  expect_named("value of an inactive lane", {"inactive lane", {1}, {32}}, inactive_lane_kernel);
  expect_named("value of an inactive lane", {"exited lane", {1}, {32}}, exited_lane_kernel);
}

}  // namespace
}  // namespace cudamoe::test
