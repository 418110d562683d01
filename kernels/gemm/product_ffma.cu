// The product of f32 operands by fused multiply-adds: product.cuh with the sums of sums_ffma.cuh.
#include "gemm/product.cuh"
#include "gemm/sums_ffma.cuh"

namespace cudamoe::kernels {

cudaError_t gemm_product_ffma(const GemmProduct& product, GemmTile tile, cudaStream_t stream) {
  return launch_product<FfmaSums, float>(product, tile, stream);
}

}  // namespace cudamoe::kernels
