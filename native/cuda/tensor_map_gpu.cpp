// Tensor maps by the driver, whose function is asked for at run time: the library does not link against the driver.
#include <cuda.h>

#include "cuda/tensor_map.h"

namespace cudamoe::cuda {
namespace {

using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*, const cuuint32_t*,
                            const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

Encode driver_function() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  const char* name = "cuTensorMapEncodeTiled";
#if CUDART_VERSION >= 12050
  const cudaError_t asked = cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found);
#else
  const cudaError_t asked = cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found);
#endif
  if (asked != cudaSuccess) return nullptr;
  return found == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(function) : nullptr;
}

}  // namespace

cudaError_t encode_tensor_map(const TensorShape& shape, kernels::ptx::TensorMap* map) {
  static_assert(sizeof(CUtensorMap) == sizeof(kernels::ptx::TensorMap) && alignof(CUtensorMap) <= alignof(kernels::ptx::TensorMap));
  static const Encode encode = driver_function();
  if (encode == nullptr) return cudaErrorNotSupported;
  if (shape.rank < 1 || shape.rank > 5 || (shape.element_bytes != 2 && shape.element_bytes != 4)) return cudaErrorInvalidValue;
  cuuint64_t extent[5], stride[5];
  cuuint32_t box[5], step[5];
  for (int d = 0; d < shape.rank; ++d) {
    extent[d] = static_cast<cuuint64_t>(shape.extent[d]);
    if (d > 0) stride[d - 1] = static_cast<cuuint64_t>(shape.stride_bytes[d]);
    box[d] = static_cast<cuuint32_t>(shape.box[d]);
    step[d] = 1;
  }
  const CUtensorMapSwizzle swizzle = shape.swizzle_bytes == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
                                     : shape.swizzle_bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
                                     : shape.swizzle_bytes == 32 ? CU_TENSOR_MAP_SWIZZLE_32B
                                                                 : CU_TENSOR_MAP_SWIZZLE_NONE;
  const CUtensorMapDataType type = shape.element_bytes == 2 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  const CUresult result =
      encode(reinterpret_cast<CUtensorMap*>(map), type, static_cast<cuuint32_t>(shape.rank), shape.base, extent, stride, box, step,
             CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace cudamoe::cuda
