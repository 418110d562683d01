// Barriers of a part of a block: whole warps, `threads` threads in all, by a number from 1 to 15 (0 is the block's own).
#pragma once

#include "common/target.cuh"

namespace cudamoe::kernels::ptx {

#if defined(__CUDACC__)

// Arrives and waits for the others.
CUDAMOE_DEVICE void sync_part(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
// Arrives and goes on.
CUDAMOE_DEVICE void arrive_part(int id, int threads) { asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

#else

CUDAMOE_DEVICE void sync_part(int id, int threads CUDAMOE_SITE) { simt::named_barrier_sync(id, threads, site); }
CUDAMOE_DEVICE void arrive_part(int id, int threads CUDAMOE_SITE) { simt::named_barrier_arrive(id, threads, site); }

#endif

}  // namespace cudamoe::kernels::ptx
