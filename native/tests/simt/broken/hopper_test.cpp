// Defects in the use of mbarriers, TMA and wgmma.
#include "common/ptx/fence.cuh"
#include "common/ptx/mbarrier.cuh"
#include "common/ptx/tma.cuh"
#include "common/ptx/wgmma.cuh"
#include "cuda/tensor_map.h"
#include "simt/harness.h"

namespace cudamoe::test {
namespace {

using namespace kernels;

// Runs the kernel with a map of a 64 x 64 matrix of bf16 under every schedule.
template <class Kernel>
void expect_named(const std::vector<const char*>& findings, const char* name, Kernel kernel) {
  for (simt::DeviceOptions options : all_schedules()) {
    options.architecture = 90;
    Executor executor(options);
    DeviceArray<uint16_t> matrix(executor, std::vector<uint16_t>(64 * 64, 0x3F80));
    cudaStreamSynchronize(executor.stream());
    ptx::TensorMap map;
    ASSERT_EQ(cuda::encode_tensor_map({matrix.data(), 2, {64, 64}, {0, 128}, {64, 64}, 2, 128}, &map), cudaSuccess);
    const std::string report = executor.run({name, {1}, {128}}, kernel, map);
    bool named = false;
    for (const char* finding : findings) named = named || report.find(finding) == 0;
    EXPECT_TRUE(named) << name << ": " << report;
  }
}

// What most of them begin with.
#define CUDAMOE_TILE_AND_BARRIER(count)                    \
  CUDAMOE_SHARED_ALIGNED(1024, uint16_t, tile, [64 * 64]); \
  CUDAMOE_SHARED_ALIGNED(8, uint64_t, full);               \
  if (thread_x() == 0) {                                   \
    ptx::mbarrier_init(&full[0], count);                   \
    ptx::fence_mbarrier_init();                            \
  }                                                        \
  sync_block()

CUDAMOE_KERNEL(128, 1) wrong_parity_kernel(const CUDAMOE_GRID_CONSTANT ptx::TensorMap map) {
  CUDAMOE_TILE_AND_BARRIER(1);
  if (thread_x() == 0) {
    ptx::mbarrier_arrive_expect(&full[0], 8192);
    ptx::tma_load_2d(&tile[0], map, 0, 0, &full[0]);
  }
  sync_block();
  ptx::mbarrier_wait(&full[0], 1);  // the phase before the first: passes at once
  const uint16_t first = tile[thread_x()];
  static_cast<void>(first);
  ptx::mbarrier_wait(&full[0], 0);
  ptx::mbarrier_wait(&full[0], 1);
}

// Where the copy lands early the phase is over, and the wait for parity 1 is for one that never comes.
TEST(SimtBrokenHopper, WrongParity) { expect_named({"asynchronous copy not waited for", "deadlock"}, "wrong parity", wrong_parity_kernel); }

CUDAMOE_KERNEL(128, 1) missing_wait_kernel(const CUDAMOE_GRID_CONSTANT ptx::TensorMap map) {
  CUDAMOE_TILE_AND_BARRIER(1);
  if (thread_x() == 0) {
    ptx::mbarrier_arrive_expect(&full[0], 16384);  // twice what comes: the phase never ends
    ptx::tma_load_2d(&tile[0], map, 0, 0, &full[0]);
  }
  ptx::mbarrier_wait(&full[0], 0);
}

TEST(SimtBrokenHopper, WrongByteCount) { expect_named({"deadlock"}, "byte count", missing_wait_kernel); }

CUDAMOE_KERNEL(128, 1) store_without_fence_kernel(const CUDAMOE_GRID_CONSTANT ptx::TensorMap map) {
  CUDAMOE_TILE_AND_BARRIER(1);
  for (int i = thread_x(); i < 64 * 64; i += 128) tile[i] = 1;
  sync_block();
  if (thread_x() == 0) {
    ptx::fence_proxy_async();  // the fence is the writers' business
    ptx::tma_store_2d(map, 0, 0, &tile[0]);
    ptx::tma_store_commit();
    ptx::tma_store_wait<0>();
  }
}

CUDAMOE_KERNEL(128, 1) product_without_fence_kernel(const CUDAMOE_GRID_CONSTANT ptx::TensorMap) {
  CUDAMOE_TILE_AND_BARRIER(1);
  ptx::fence_proxy_async();  // before the writes
  for (int i = thread_x(); i < 64 * 64; i += 128) tile[i] = 1;
  sync_block();
  const uint64_t operand = ptx::matrix_descriptor(shared_address(&tile[0]), 1024);
  float d[32];
  ptx::wgmma_fence();
  ptx::wgmma(d, operand, operand, false);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
}

TEST(SimtBrokenHopper, MissingProxyFence) {
  expect_named({"missing proxy fence"}, "store", store_without_fence_kernel);
  expect_named({"missing proxy fence"}, "product", product_without_fence_kernel);
}

CUDAMOE_KERNEL(128, 1) fresh_barrier_kernel(const CUDAMOE_GRID_CONSTANT ptx::TensorMap) {
  CUDAMOE_SHARED_ALIGNED(8, uint64_t, full);
  if (thread_x() == 0) full[0] = 0;
  sync_block();
  ptx::mbarrier_arrive(&full[0]);
}

CUDAMOE_KERNEL(128, 1) initialised_twice_kernel(const CUDAMOE_GRID_CONSTANT ptx::TensorMap) {
  CUDAMOE_TILE_AND_BARRIER(1);
  if (thread_x() == 0) ptx::mbarrier_init(&full[0], 1);
  static_cast<void>(tile);
}

CUDAMOE_KERNEL(128, 1) arrival_before_init_kernel(const CUDAMOE_GRID_CONSTANT ptx::TensorMap) {
  CUDAMOE_SHARED_ALIGNED(8, uint64_t, full);
  if (thread_x() == 0) ptx::mbarrier_init(&full[0], 128);
  ptx::mbarrier_arrive(&full[0]);  // no barrier since the initialisation
}

TEST(SimtBrokenHopper, MisuseOfBarriers) {
  expect_named({"mbarrier misuse"}, "fresh", fresh_barrier_kernel);
  expect_named({"mbarrier misuse"}, "twice", initialised_twice_kernel);
  expect_named({"shared memory race", "uninitialised shared memory"}, "before init", arrival_before_init_kernel);
}

CUDAMOE_KERNEL(128, 1) touched_accumulator_kernel(const CUDAMOE_GRID_CONSTANT ptx::TensorMap map) {
  CUDAMOE_TILE_AND_BARRIER(1);
  if (thread_x() == 0) {
    ptx::mbarrier_arrive_expect(&full[0], 8192);
    ptx::tma_load_2d(&tile[0], map, 0, 0, &full[0]);
  }
  ptx::mbarrier_wait(&full[0], 0);
  const uint64_t operand = ptx::matrix_descriptor(shared_address(&tile[0]), 1024);
  float d[32];
  ptx::wgmma_fence();
  ptx::wgmma(d, operand, operand, false);
  ptx::wgmma_commit();
  d[3] = 0;
  ptx::wgmma_wait<0>();
}

CUDAMOE_KERNEL(128, 1) unfenced_accumulator_kernel(const CUDAMOE_GRID_CONSTANT ptx::TensorMap) {
  CUDAMOE_TILE_AND_BARRIER(1);
  const uint64_t operand = ptx::matrix_descriptor(shared_address(&tile[0]), 1024);
  float d[32] = {};
  ptx::wgmma(d, operand, operand, true);
}

CUDAMOE_KERNEL(128, 1) unwaited_accumulator_kernel(const CUDAMOE_GRID_CONSTANT ptx::TensorMap map) {
  CUDAMOE_TILE_AND_BARRIER(1);
  if (thread_x() == 0) {
    ptx::mbarrier_arrive_expect(&full[0], 8192);
    ptx::tma_load_2d(&tile[0], map, 0, 0, &full[0]);
  }
  ptx::mbarrier_wait(&full[0], 0);
  const uint64_t operand = ptx::matrix_descriptor(shared_address(&tile[0]), 1024);
  float d[32];
  ptx::wgmma_fence();
  ptx::wgmma(d, operand, operand, false);
  ptx::wgmma_commit();
}

TEST(SimtBrokenHopper, AccumulatorsInFlight) {
  expect_named({"accumulator in flight"}, "touched", touched_accumulator_kernel);
  expect_named({"accumulator in flight"}, "unfenced", unfenced_accumulator_kernel);
  expect_named({"accumulator in flight"}, "not waited for", unwaited_accumulator_kernel);
}

CUDAMOE_KERNEL(128, 1) misplaced_box_kernel(const CUDAMOE_GRID_CONSTANT ptx::TensorMap map) {
  CUDAMOE_SHARED_ALIGNED(1024, uint16_t, tile, [64 * 64 + 64]);
  CUDAMOE_SHARED_ALIGNED(8, uint64_t, full);
  if (thread_x() == 0) {
    ptx::mbarrier_init(&full[0], 1);
    ptx::tma_load_2d(&tile[64], map, 0, 0, &full[0]);
  }
}

CUDAMOE_KERNEL(128, 1) large_box_kernel(const CUDAMOE_GRID_CONSTANT ptx::TensorMap map) {
  CUDAMOE_SHARED_ALIGNED(1024, uint16_t, tile, [64 * 63]);
  CUDAMOE_SHARED_ALIGNED(8, uint64_t, full);
  if (thread_x() == 0) {
    ptx::mbarrier_init(&full[0], 1);
    ptx::tma_load_2d(&tile[0], map, 0, 0, &full[0]);
  }
}

CUDAMOE_KERNEL(128, 1) plain_descriptor_kernel(const CUDAMOE_GRID_CONSTANT ptx::TensorMap) {
  CUDAMOE_TILE_AND_BARRIER(1);
  const uint64_t operand = shared_address(&tile[0]) >> 4;
  float d[32];
  ptx::wgmma_fence();
  ptx::wgmma(d, operand, operand, false);
}

TEST(SimtBrokenHopper, BadDescriptors) {
  expect_named({"misaligned access"}, "misplaced box", misplaced_box_kernel);
  expect_named({"shared index out of bounds"}, "large box", large_box_kernel);
  expect_named({"bad descriptor"}, "plain descriptor", plain_descriptor_kernel);
}

}  // namespace
}  // namespace cudamoe::test
