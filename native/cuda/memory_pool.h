// Device memory that is handed out and taken back without waiting for the device.
//
// A pool of the driver (cudaMallocFromPoolAsync), one for each open device: the driver remaps what was freed into allocations of any size,
// so nothing fragments, which a cache of blocks above cudaMalloc cannot do; and closing the device gives everything back, which the
// process's default pool would not. Freed memory stays in the pool until then. cudaFree, in contrast, waits for all work of the device.
//
// An allocation belongs to no stream, as the ABI has it: it is zeroed when allocate() returns, and memory given to release() is taken after
// all work that was queued on any stream of the device by then. While one of them is captured, by this library or by other code, it cannot
// be asked how far it is: what is released meanwhile waits for the end of the capture.
#pragma once

#include <cuda_runtime_api.h>

#include <mutex>
#include <vector>

namespace cudamoe::cuda {

class MemoryPool {
 public:
  MemoryPool() = default;
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  // The device must be the calling thread's, as for all functions.
  cudaError_t open(int ordinal);

  cudaError_t allocate(void** pointer, size_t bytes);
  void release(void* pointer);

  // Page-locked host memory that kernels reach by its own address, zeroed. Releasing it waits for the work of all streams of the device.
  cudaError_t allocate_mapped(void** pointer, size_t bytes);
  void release_mapped(void* pointer);

  // A stream whose work uses memory of the pool; leave() when its work has ended, before it is destroyed.
  cudaError_t join(cudaStream_t stream);
  void leave(cudaStream_t stream);
  // Set before this library begins a capture, so that no release comes between: other code's captures are asked for.
  void set_captured(cudaStream_t stream, bool captured);

 private:
  struct Member {
    cudaStream_t stream;
    cudaEvent_t passed;
    bool captured;
  };
  struct Released {
    void* pointer;
    bool mapped;
  };

  void release(const Released& memory);
  // With mutex_ held.
  bool is_capturing() const;
  void free_waiting();

  cudaMemPool_t pool_ = nullptr;  // null where the driver has no pools: then cudaMalloc and cudaFree
  // Two streams, so that an allocation does not wait behind a release that waits for work.
  cudaStream_t zeroing_ = nullptr, releasing_ = nullptr;
  std::mutex mutex_;
  std::vector<Member> members_;
  std::vector<Released> waiting_;
};

}  // namespace cudamoe::cuda
