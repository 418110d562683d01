// The two compilers that kernels are written for: nvcc makes machine code for GPUs; a C++ compiler makes the same kernels for the host
// executor in native/simt. Only kernels/common tells them apart.
//
// With CUDAMOE_PLAIN defined (`./build.sh cuda-ptx`) asynchronous copies are plain ones and functions that hardware and libraries
// approximate are calls of one external function, so that programs that compare or interpret PTX need to know the classic instructions
// only.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)

#include <cuda_runtime_api.h>

// A kernel: CUDAMOE_KERNEL(threads of a block, blocks that an SM should hold) name(parameters) { ... }
#define CUDAMOE_KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
#define CUDAMOE_DEVICE __device__ __forceinline__
#define CUDAMOE_HOST_DEVICE __host__ __device__ __forceinline__
// A parameter struct that is read in place, from constant memory; the parameter must be const.
#define CUDAMOE_GRID_CONSTANT __grid_constant__
#define CUDAMOE_UNROLL _Pragma("unroll")
#define CUDAMOE_NO_UNROLL _Pragma("unroll 1")
// The place of a call in reports of the executor: last in a parameter list, and last in the arguments of a call that passes it on.
#define CUDAMOE_SITE
#define CUDAMOE_ONLY_SITE
#define CUDAMOE_PASS_SITE

#else

#include "simt/kernel_api.h"

#define CUDAMOE_KERNEL(threads, blocks) void
#define CUDAMOE_DEVICE inline
#define CUDAMOE_HOST_DEVICE inline
#define CUDAMOE_GRID_CONSTANT
#define CUDAMOE_UNROLL
#define CUDAMOE_NO_UNROLL
#define CUDAMOE_SITE , ::cudamoe::simt::Site site = ::cudamoe::simt::Site::here()
#define CUDAMOE_ONLY_SITE ::cudamoe::simt::Site site = ::cudamoe::simt::Site::here()
#define CUDAMOE_PASS_SITE , site

#endif

// Whether sm_90a instructions (TMA, wgmma, setmaxnreg) may stand in this pass over the source. A kernel that uses them has its body under
// it.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define CUDAMOE_HAS_SM90A 0
#else
#define CUDAMOE_HAS_SM90A 1
#endif
