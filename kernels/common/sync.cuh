// Barriers of a block and memory fences.
#pragma once

#include "common/target.cuh"

namespace cudamoe::kernels {

#if defined(__CUDACC__)

// All threads of the block arrive before any goes on.
CUDAMOE_DEVICE void sync_block() { __syncthreads(); }
// The same, with the number of threads whose value is not zero, whether all are, whether any is.
CUDAMOE_DEVICE int sync_block_count(int value) { return __syncthreads_count(value); }
CUDAMOE_DEVICE bool sync_block_and(bool value) { return __syncthreads_and(value) != 0; }
CUDAMOE_DEVICE bool sync_block_or(bool value) { return __syncthreads_or(value) != 0; }
// Writes before the fence are seen by the block, by the device, before those after it.
CUDAMOE_DEVICE void fence_block() { __threadfence_block(); }
CUDAMOE_DEVICE void fence_device() { __threadfence(); }
// In a loop that waits for another block.
CUDAMOE_DEVICE void pause_thread() { __nanosleep(32); }

#else

CUDAMOE_DEVICE void sync_block(CUDAMOE_ONLY_SITE) { simt::sync_block(site); }
CUDAMOE_DEVICE int sync_block_count(int value CUDAMOE_SITE) { return simt::sync_block(site, simt::BarrierReduction::kCount, value); }
CUDAMOE_DEVICE bool sync_block_and(bool value CUDAMOE_SITE) { return simt::sync_block(site, simt::BarrierReduction::kAnd, value) != 0; }
CUDAMOE_DEVICE bool sync_block_or(bool value CUDAMOE_SITE) { return simt::sync_block(site, simt::BarrierReduction::kOr, value) != 0; }
CUDAMOE_DEVICE void fence_block() {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  simt::may_switch();
}
CUDAMOE_DEVICE void fence_device() { fence_block(); }
CUDAMOE_DEVICE void pause_thread(CUDAMOE_ONLY_SITE) { simt::pause_thread(site); }

#endif

}  // namespace cudamoe::kernels
