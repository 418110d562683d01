// Which thread this is. All are int; thread_rank() counts a block's threads with x fastest.
#pragma once

#include "common/target.cuh"

namespace cudamoe::kernels {

inline constexpr int kWarp = 32;
inline constexpr uint32_t kFullWarp = 0xFFFFFFFFu;

#if defined(__CUDACC__)

CUDAMOE_DEVICE int thread_x() { return static_cast<int>(threadIdx.x); }
CUDAMOE_DEVICE int thread_y() { return static_cast<int>(threadIdx.y); }
CUDAMOE_DEVICE int thread_z() { return static_cast<int>(threadIdx.z); }
CUDAMOE_DEVICE int block_x() { return static_cast<int>(blockIdx.x); }
CUDAMOE_DEVICE int block_y() { return static_cast<int>(blockIdx.y); }
CUDAMOE_DEVICE int block_z() { return static_cast<int>(blockIdx.z); }
CUDAMOE_DEVICE int block_size_x() { return static_cast<int>(blockDim.x); }
CUDAMOE_DEVICE int block_size_y() { return static_cast<int>(blockDim.y); }
CUDAMOE_DEVICE int block_size_z() { return static_cast<int>(blockDim.z); }
CUDAMOE_DEVICE int grid_size_x() { return static_cast<int>(gridDim.x); }
CUDAMOE_DEVICE int grid_size_y() { return static_cast<int>(gridDim.y); }
CUDAMOE_DEVICE int grid_size_z() { return static_cast<int>(gridDim.z); }

#else

CUDAMOE_DEVICE int thread_x() { return simt::current_thread->thread.x; }
CUDAMOE_DEVICE int thread_y() { return simt::current_thread->thread.y; }
CUDAMOE_DEVICE int thread_z() { return simt::current_thread->thread.z; }
CUDAMOE_DEVICE int block_x() { return simt::current_thread->block.x; }
CUDAMOE_DEVICE int block_y() { return simt::current_thread->block.y; }
CUDAMOE_DEVICE int block_z() { return simt::current_thread->block.z; }
CUDAMOE_DEVICE int block_size_x() { return simt::current_thread->block_size.x; }
CUDAMOE_DEVICE int block_size_y() { return simt::current_thread->block_size.y; }
CUDAMOE_DEVICE int block_size_z() { return simt::current_thread->block_size.z; }
CUDAMOE_DEVICE int grid_size_x() { return simt::current_thread->grid_size.x; }
CUDAMOE_DEVICE int grid_size_y() { return simt::current_thread->grid_size.y; }
CUDAMOE_DEVICE int grid_size_z() { return simt::current_thread->grid_size.z; }

#endif

CUDAMOE_DEVICE int thread_rank() { return (thread_z() * block_size_y() + thread_y()) * block_size_x() + thread_x(); }
CUDAMOE_DEVICE int lane_id() { return thread_rank() % kWarp; }
CUDAMOE_DEVICE int warp_id() { return thread_rank() / kWarp; }

// A number that the compiler knows nothing about: what hangs on it is computed where it is used, instead of ahead of a loop, which holds
// registers all through it.
CUDAMOE_DEVICE int computed_here(int number) {
#if defined(__CUDACC__)
  asm volatile("" : "+r"(number));
#endif
  return number;
}

}  // namespace cudamoe::kernels
