// Tensor maps of the executor: the shape itself, held to the rules of the driver.
#include "cuda/tensor_map.h"

#include <cstring>

#include "simt/kernel_api.h"

namespace cudamoe::cuda {

cudaError_t encode_tensor_map(const TensorShape& shape, kernels::ptx::TensorMap* map) {
  const auto aligned = [](int64_t value, int64_t to) { return value % to == 0; };
  if (shape.rank < 1 || shape.rank > 5 || (shape.element_bytes != 2 && shape.element_bytes != 4)) return cudaErrorInvalidValue;
  if (!aligned(static_cast<int64_t>(reinterpret_cast<uintptr_t>(shape.base)), 16)) return cudaErrorInvalidValue;
  const int64_t row = int64_t{shape.box[0]} * shape.element_bytes;
  if (!aligned(row, 16) || (shape.swizzle_bytes > 0 && row > shape.swizzle_bytes)) return cudaErrorInvalidValue;
  if (shape.swizzle_bytes != 0 && shape.swizzle_bytes != 32 && shape.swizzle_bytes != 64 && shape.swizzle_bytes != 128)
    return cudaErrorInvalidValue;
  simt::TensorMapFields fields{};
  fields.magic = simt::kTensorMapMagic;
  fields.base = static_cast<char*>(shape.base);
  fields.rank = shape.rank;
  fields.element_bytes = shape.element_bytes;
  fields.swizzle_bytes = shape.swizzle_bytes;
  for (int d = 0; d < shape.rank; ++d) {
    if (shape.extent[d] < 1 || shape.extent[d] > (int64_t{1} << 32) || shape.box[d] < 1 || shape.box[d] > 256) return cudaErrorInvalidValue;
    if (d > 0 && (!aligned(shape.stride_bytes[d], 16) || shape.stride_bytes[d] >= int64_t{1} << 40)) return cudaErrorInvalidValue;
    fields.extent[d] = shape.extent[d];
    fields.stride_bytes[d] = d == 0 ? shape.element_bytes : shape.stride_bytes[d];
    fields.box[d] = shape.box[d];
  }
  std::memset(map, 0, sizeof *map);
  std::memcpy(map, &fields, sizeof fields);
  return cudaSuccess;
}

}  // namespace cudamoe::cuda
