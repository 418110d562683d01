// Encodes the tensor maps of TMA (kernels/common/ptx/tma.cuh).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/ptx/tma.cuh"

namespace cudamoe::cuda {

// A tensor of bf16 (element_bytes 2) or f32 (4) and the box that one copy moves. Dimensions are innermost first.
struct TensorShape {
  void* base;  // aligned to 16 bytes
  int rank;    // 1 .. 5
  int64_t extent[5];
  int64_t stride_bytes[5];  // of dimension 1 and up, multiples of 16; [0] is not read
  int box[5];               // each at most 256; the innermost times the element at most swizzle_bytes, or a multiple of 16 without swizzle
  int element_bytes;
  int swizzle_bytes;  // 0, 32, 64, 128
};

// cudaErrorInvalidValue when the shape breaks a rule.
cudaError_t encode_tensor_map(const TensorShape& shape, kernels::ptx::TensorMap* map);

}  // namespace cudamoe::cuda
