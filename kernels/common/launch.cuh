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

template <class... Parameters>
cudaError_t launch(const LaunchShape& shape, void (*kernel)(Parameters...), const std::type_identity_t<Parameters>&... arguments) {
  static_assert((sizeof(Parameters) + ... + 0) <= 4096, "kernel parameters are at most 4 KiB");
#if defined(__CUDACC__)
  constexpr int64_t kWithoutConsent = int64_t{40} << 10;  // 48 with the kernel's own arrays
  const void* function = reinterpret_cast<const void*>(kernel);
  if (shape.dynamic_shared_bytes > kWithoutConsent) {
    const cudaError_t refused =
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.dynamic_shared_bytes));
    if (refused != cudaSuccess) return refused;
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
