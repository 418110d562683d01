// The product of f32 operands, on tensor cores, as sums of tf32 products: product.cuh with the sums of sums_tf32.cuh.
#include "gemm/product.cuh"
#include "gemm/sums_tf32.cuh"

namespace cudamoe::kernels {

cudaError_t gemm_product_tf32(const GemmProduct& product, GemmTile tile, cudaStream_t stream) {
  return launch_product<Tf32Sums, float>(product, tile, stream);
}

}  // namespace cudamoe::kernels
