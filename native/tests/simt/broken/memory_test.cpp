// Kernels with a defect in how they use memory, and launches that the hardware would refuse.
#include "common/ptx/cp_async.cuh"
#include "simt/broken/expect_named.h"

namespace cudamoe::test {
namespace {

using namespace kernels;

CUDAMOE_KERNEL(32, 1) past_the_end_kernel(int n) {
  CUDAMOE_SHARED(float, row, [32]);
  row[thread_x() + n] = 0;
}

CUDAMOE_KERNEL(32, 1) second_dimension_kernel(int n) {
  CUDAMOE_SHARED(float, tile, [4][8]);
  tile[0][thread_x() + n] = 0;  // within the array, but not within its row
}

CUDAMOE_KERNEL(32, 1) pointer_kernel(int n) {
  CUDAMOE_SHARED(float, first, [32]);
  CUDAMOE_SHARED(float, second, [32]);
  const Shared<float> p = first;
  second[thread_x()] = 0;
  p[thread_x() + n] = 0;  // would reach the other array
}

CUDAMOE_KERNEL(32, 1) vector_past_the_end_kernel(int n) {
  CUDAMOE_SHARED_ALIGNED(16, float, row, [128]);
  store(&row[4 * (thread_x() + n)], Vector<float, 4>{});
}

CUDAMOE_KERNEL(32, 1) dynamic_past_the_end_kernel(int n) { dynamic_shared<float>()[thread_x() + n] = 0; }

TEST(SimtBroken, SharedIndexOutOfBounds) {
  expect_named("shared index out of bounds", {"past the end", {1}, {32}}, past_the_end_kernel, 1);
  expect_named("shared index out of bounds", {"before the begin", {1}, {32}}, past_the_end_kernel, -1);
  expect_named("shared index out of bounds", {"second dimension", {1}, {8}}, second_dimension_kernel, 1);
  expect_named("shared index out of bounds", {"pointer", {1}, {32}}, pointer_kernel, 16);
  expect_named("shared index out of bounds", {"vector", {1}, {32}}, vector_past_the_end_kernel, 1);
  expect_named("shared index out of bounds", {"dynamic", {1}, {32}, 128}, dynamic_past_the_end_kernel, 1);
}

CUDAMOE_KERNEL(32, 1) uninitialised_kernel(float* out) {
  CUDAMOE_SHARED(float, row, [33]);
  row[thread_x()] = 1;
  sync_block();
  out[thread_x()] = row[thread_x() + 1];
}

// A second block finds the same memory: what an earlier one left there is gone.
CUDAMOE_KERNEL(32, 1) left_over_kernel(float* out) {
  CUDAMOE_SHARED(float, row, [32]);
  if (block_x() == 0) row[thread_x()] = 1;
  sync_block();
  out[thread_x()] = row[thread_x()];
}

TEST(SimtBroken, UninitialisedSharedRead) {
  Executor owner;
  DeviceArray<float> out(owner, std::vector<float>(32, 0));
  expect_named("uninitialised shared memory", {"uninitialised", {1}, {32}}, uninitialised_kernel, out.data());
  expect_named("uninitialised shared memory", {"left over", {2}, {32}}, left_over_kernel, out.data());
}

CUDAMOE_KERNEL(32, 1) misaligned_load_kernel(const float* in) { static_cast<void>(load<4>(in + 1 + 4 * thread_x())); }
CUDAMOE_KERNEL(32, 1) misaligned_store_kernel(float* out) { store(out + 2 + 4 * thread_x(), Vector<float, 4>{}); }
CUDAMOE_KERNEL(32, 1) misaligned_shared_kernel() {
  CUDAMOE_SHARED_ALIGNED(16, float, row, [160]);
  store(&row[4 * thread_x() + 2], Vector<float, 4>{});
}
CUDAMOE_KERNEL(32, 1) misaligned_copy_kernel(const float* in) {
  CUDAMOE_SHARED_ALIGNED(16, float, row, [160]);
  ptx::cp_async<16>(&row[4 * thread_x()], in + 1);
}

TEST(SimtBroken, MisalignedVectorAccess) {
  Executor owner;
  DeviceArray<float> memory(owner, std::vector<float>(256, 0));
  expect_named("misaligned access", {"load", {1}, {32}}, misaligned_load_kernel, memory.data());
  expect_named("misaligned access", {"store", {1}, {32}}, misaligned_store_kernel, memory.data());
  expect_named("misaligned access", {"shared", {1}, {32}}, misaligned_shared_kernel);
  expect_named("misaligned access", {"copy", {1}, {32}}, misaligned_copy_kernel, memory.data());
}

CUDAMOE_KERNEL(32, 1) written_constant_kernel(float* memory) {
  const float value = load_constant(const_cast<const float*>(memory) + thread_x());
  memory[thread_x()] = value + 1;
}

TEST(SimtBroken, ConstantMemoryWritten) {
  Executor owner;
  DeviceArray<float> memory(owner, std::vector<float>(32, 0));
  expect_named("constant memory written", {"constant", {1}, {32}}, written_constant_kernel, memory.data());
}

CUDAMOE_KERNEL(1, 1) nothing_kernel() {}
CUDAMOE_KERNEL(1, 1) large_array_kernel() {
  CUDAMOE_SHARED(float, row, [42000]);
  static_cast<void>(row);
}

TEST(SimtBroken, LaunchesBeyondTheLimits) {
  for (const LaunchShape& shape :
       {LaunchShape{"threads", {1}, {1025}}, LaunchShape{"z", {1}, {1, 1, 65}}, LaunchShape{"product", {1}, {64, 32}},
        LaunchShape{"empty grid", {0}, {1}}, LaunchShape{"grid y", {1, 65536}, {1}},
        LaunchShape{"shared", {1}, {1}, (int64_t{163} << 10) + 1}, LaunchShape{"negative", {1}, {1}, -1}}) {
    Executor executor;
    EXPECT_EQ(executor.run(shape, nothing_kernel), "cudaErrorInvalidConfiguration") << shape.name;
  }
  Executor executor;
  EXPECT_EQ(executor.run({"shared arrays", {1}, {1}}, large_array_kernel).find("bad launch in kernel shared arrays"), 0u);
  Executor hopper({{}, 90});
  EXPECT_EQ(hopper.run({"shared", {1}, {1}, int64_t{227} << 10}, nothing_kernel), "");
}

TEST(SimtBroken, AFailedDeviceStaysFailed) {
  Executor executor;
  EXPECT_NE(executor.run({"past the end", {1}, {32}}, past_the_end_kernel, 1), "");
  EXPECT_EQ(executor.run({"nothing", {1}, {1}}, nothing_kernel), "cudaErrorLaunchFailure");
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 16), cudaErrorLaunchFailure);
  Executor other;
  EXPECT_EQ(other.run({"nothing", {1}, {1}}, nothing_kernel), "");
}

}  // namespace
}  // namespace cudamoe::test
