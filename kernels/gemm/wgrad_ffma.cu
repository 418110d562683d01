// The weight gradient in f32 by fused multiply-adds: wgrad.cuh with the sums of sums_ffma.cuh.
#include "gemm/sums_ffma.cuh"
#include "gemm/wgrad.cuh"

namespace cudamoe::kernels {

cudaError_t gemm_wgrad_ffma(const GemmWgrad& wgrad, GemmTile tile, cudaStream_t stream) {
  return launch_wgrad<FfmaSums, float>(wgrad, tile, stream);
}

}  // namespace cudamoe::kernels
