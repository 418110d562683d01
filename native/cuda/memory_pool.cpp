#include "cuda/memory_pool.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace cudamoe::cuda {

cudaError_t MemoryPool::open(int ordinal) {
  cudaError_t error = cudaStreamCreateWithFlags(&zeroing_, cudaStreamNonBlocking);
  if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&releasing_, cudaStreamNonBlocking);
  int supported = 0;
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, ordinal);
  if (error != cudaSuccess || supported == 0) return error;
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = ordinal;
  error = cudaMemPoolCreate(&pool_, &properties);
  if (error != cudaSuccess) return error;
  uint64_t keep_all = UINT64_MAX;
  return cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep_all);
}

MemoryPool::~MemoryPool() {
  free_waiting();
  if (releasing_ != nullptr) {
    cudaStreamSynchronize(releasing_);
    cudaStreamDestroy(releasing_);
  }
  if (zeroing_ != nullptr) cudaStreamDestroy(zeroing_);
  if (pool_ != nullptr) cudaMemPoolDestroy(pool_);
}

cudaError_t MemoryPool::allocate(void** pointer, size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (!waiting_.empty() && !is_capturing()) free_waiting();
  void* memory = nullptr;
  const auto take = [&] {
    return pool_ != nullptr ? cudaMallocFromPoolAsync(&memory, bytes, pool_, zeroing_) : cudaMalloc(&memory, bytes);
  };
  cudaError_t error = take();
  if (error == cudaErrorMemoryAllocation) {
    // What was released may still wait for the work that used it.
    cudaGetLastError();
    if (cudaStreamSynchronize(releasing_) == cudaSuccess) error = take();
  }
  if (error != cudaSuccess) return error;
  error = cudaMemsetAsync(memory, 0, bytes, zeroing_);
  if (error == cudaSuccess) error = cudaStreamSynchronize(zeroing_);
  if (error == cudaSuccess) {
    *pointer = memory;
  } else if (pool_ != nullptr) {
    cudaFreeAsync(memory, zeroing_);
  } else {
    cudaFree(memory);
  }
  return error;
}

void MemoryPool::release(void* pointer) { release({pointer, false}); }

void MemoryPool::release_mapped(void* pointer) { release({pointer, true}); }

void MemoryPool::release(const Released& memory) {
  const std::lock_guard lock(mutex_);
  waiting_.push_back(memory);
  if (!is_capturing()) free_waiting();
}

bool MemoryPool::is_capturing() const {
  return std::any_of(members_.begin(), members_.end(), [](const Member& member) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    if (member.captured) return true;
    if (cudaStreamIsCapturing(member.stream, &status) == cudaSuccess) return status != cudaStreamCaptureStatusNone;
    cudaGetLastError();
    return false;
  });
}

void MemoryPool::free_waiting() {
  if (waiting_.empty()) return;
  const bool any_mapped = std::any_of(waiting_.begin(), waiting_.end(), [](const Released& memory) { return memory.mapped; });
  for (const Member& member : members_) {
    if (cudaEventRecord(member.passed, member.stream) == cudaSuccess) cudaStreamWaitEvent(releasing_, member.passed, 0);
    if (any_mapped) cudaStreamSynchronize(member.stream);
  }
  for (const Released& memory : waiting_) {
    if (memory.mapped) {
      cudaFreeHost(memory.pointer);
    } else if (pool_ != nullptr) {
      cudaFreeAsync(memory.pointer, releasing_);
    } else {
      cudaFree(memory.pointer);
    }
  }
  waiting_.clear();
}

cudaError_t MemoryPool::allocate_mapped(void** pointer, size_t bytes) {
  void *memory = nullptr, *mapped = nullptr;
  cudaError_t error = cudaHostAlloc(&memory, bytes, cudaHostAllocMapped | cudaHostAllocPortable);
  if (error != cudaSuccess) return error;
  error = cudaHostGetDevicePointer(&mapped, memory, 0);
  // One address on both sides is what a 64-bit process has; without it a pointer could not be freed, or told from device memory.
  if (error == cudaSuccess && mapped != memory) error = cudaErrorInvalidValue;
  if (error != cudaSuccess) {
    cudaFreeHost(memory);
    return error;
  }
  std::memset(memory, 0, bytes);
  *pointer = memory;
  return cudaSuccess;
}

cudaError_t MemoryPool::join(cudaStream_t stream) {
  cudaEvent_t passed = nullptr;
  if (const cudaError_t error = cudaEventCreateWithFlags(&passed, cudaEventDisableTiming); error != cudaSuccess) return error;
  const std::lock_guard lock(mutex_);
  members_.push_back({stream, passed, false});
  return cudaSuccess;
}

void MemoryPool::leave(cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(members_.begin(), members_.end(), [&](const Member& member) { return member.stream == stream; });
  if (found == members_.end()) return;
  cudaEventDestroy(found->passed);
  members_.erase(found);
}

void MemoryPool::set_captured(cudaStream_t stream, bool captured) {
  const std::lock_guard lock(mutex_);
  for (Member& member : members_) {
    if (member.stream == stream) member.captured = captured;
  }
  if (!is_capturing()) free_waiting();
}

}  // namespace cudamoe::cuda
