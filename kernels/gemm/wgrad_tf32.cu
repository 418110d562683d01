// The weight gradient in f32, on tensor cores, as sums of tf32 products: wgrad.cuh with the sums of sums_tf32.cuh.
#include "gemm/sums_tf32.cuh"
#include "gemm/wgrad.cuh"

namespace cudamoe::kernels {

cudaError_t gemm_wgrad_tf32(const GemmWgrad& wgrad, GemmTile tile, cudaStream_t stream) {
  return launch_wgrad<Tf32Sums, float>(wgrad, tile, stream);
}

}  // namespace cudamoe::kernels
