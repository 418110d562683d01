// Launching a kernel from the host part of a kernel file, in place of <<<>>>:
//
//   cudaError_t scale(const ScaleArguments& arguments, cudaStream_t stream) {
//     return launch({.name = "scale", .grid = {blocks}, .block = {kThreads}, .stream = stream}, scale_kernel, arguments);
//   }
//
// The parameters are copied; a struct of at most 4 KiB in all.
#pragma once

#include <cuda_runtime_api.h>

#include "common/target.cuh"

#if defined(__CUDACC__)
#include <map>
#include <mutex>
#include <utility>
#endif
#if !defined(__CUDACC__)
#include "simt/runtime/launch.h"
#endif

namespace cudamoe::kernels {

struct LaunchSize {
  int x = 1, y = 1, z = 1;
};

struct LaunchShape {
  const char* name;  // of the operation, in reports and profiles
  LaunchSize grid, block;
  int64_t dynamic_shared_bytes = 0;
  cudaStream_t stream = nullptr;
};

#if defined(__CUDACC__)

namespace detail {

// Lets a kernel have that much dynamic shared memory on the calling thread's device. The limit belongs to the kernel, not to a launch, and
// other threads launch it with other amounts: it is only ever raised.
inline cudaError_t allow_dynamic_shared(const void* kernel, int64_t bytes) {
  static auto& mutex = *new std::mutex;
  static auto& allowed = *new std::map<std::pair<const void*, int>, int64_t>;
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return error;
  const std::lock_guard lock(mutex);
  int64_t& most = allowed[{kernel, device}];
  if (bytes <= most) return cudaSuccess;
  const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error == cudaSuccess) most = bytes;
  return error;
}

}  // namespace detail

#endif

template <class... Parameters>
cudaError_t launch(const LaunchShape& shape, void (*kernel)(Parameters...), const std::type_identity_t<Parameters>&... arguments) {
  static_assert((sizeof(Parameters) + ... + 0) <= 4096, "kernel parameters are at most 4 KiB");
#if defined(__CUDACC__)
  constexpr int64_t kWithoutConsent = int64_t{40} << 10;  // 48 with the kernel's own arrays
  const void* function = reinterpret_cast<const void*>(kernel);
  if (shape.dynamic_shared_bytes > kWithoutConsent) {
    if (const cudaError_t refused = detail::allow_dynamic_shared(function, shape.dynamic_shared_bytes); refused != cudaSuccess)
      return refused;
  }
  void* pointers[] = {const_cast<void*>(static_cast<const void*>(&arguments))...};
  const auto size = [](const LaunchSize& s) {
    return dim3(static_cast<unsigned>(s.x), static_cast<unsigned>(s.y), static_cast<unsigned>(s.z));
  };
  return cudaLaunchKernel(function, size(shape.grid), size(shape.block), pointers, static_cast<size_t>(shape.dynamic_shared_bytes),
                          shape.stream);
#else
  const simt::LaunchDescription description{shape.name,
                                            {shape.grid.x, shape.grid.y, shape.grid.z},
                                            {shape.block.x, shape.block.y, shape.block.z},
                                            shape.dynamic_shared_bytes,
                                            shape.stream};
  return simt::enqueue_launch(description, kernel, arguments...);
#endif
}

}  // namespace cudamoe::kernels
