// The pool beside streams that other code captures, which only the runtime knows of.
#include "cuda/memory_pool.h"

#include "simt/harness.h"

namespace cudamoe::test {
namespace {

constexpr size_t kBytes = 4096;

TEST(SimtMemoryPool, WhatIsReleasedDuringAForeignCaptureWaitsForItsEnd) {
  for (const bool mapped : {false, true}) {
    const Executor executor;
    cuda::MemoryPool pool;
    ASSERT_EQ(pool.open(executor.ordinal()), cudaSuccess);
    ASSERT_EQ(pool.join(executor.stream()), cudaSuccess);
    void *used = nullptr, *next = nullptr;
    ASSERT_EQ(mapped ? pool.allocate_mapped(&used, kBytes) : pool.allocate(&used, kBytes), cudaSuccess);
    EXPECT_EQ(cudaMemsetAsync(used, 1, kBytes, executor.stream()), cudaSuccess);
    EXPECT_EQ(cudaStreamBeginCapture(executor.stream(), cudaStreamCaptureModeRelaxed), cudaSuccess);
    if (mapped) {
      pool.release_mapped(used);
    } else {
      pool.release(used);
    }
    EXPECT_EQ(pool.allocate(&next, kBytes), cudaSuccess);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(executor.stream(), &graph), cudaSuccess);  // nothing of the pool is in it
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    pool.release(next);  // and what waited, behind the work that used it
    EXPECT_EQ(cudaStreamSynchronize(executor.stream()), cudaSuccess);
    EXPECT_EQ(executor.failure(), "");
    pool.leave(executor.stream());
  }
}

TEST(SimtMemoryPool, WhatStillWaitsIsFreedWithThePool) {
  const Executor executor;
  {
    cuda::MemoryPool pool;
    ASSERT_EQ(pool.open(executor.ordinal()), cudaSuccess);
    ASSERT_EQ(pool.join(executor.stream()), cudaSuccess);
    void* memory = nullptr;
    ASSERT_EQ(pool.allocate(&memory, kBytes), cudaSuccess);
    EXPECT_EQ(cudaStreamBeginCapture(executor.stream(), cudaStreamCaptureModeRelaxed), cudaSuccess);
    pool.release(memory);
    pool.leave(executor.stream());
  }
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(executor.stream(), &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(executor.failure(), "");
}

}  // namespace
}  // namespace cudamoe::test
