// The product of bf16 operands on tensor cores: product.cuh with the sums of sums_bf16.cuh.
#include "gemm/product.cuh"
#include "gemm/sums_bf16.cuh"

namespace cudamoe::kernels {

cudaError_t gemm_product_bf16(const GemmProduct& product, GemmTile tile, cudaStream_t stream) {
  return launch_product<Bf16Sums, Bf16>(product, tile, stream);
}

}  // namespace cudamoe::kernels
