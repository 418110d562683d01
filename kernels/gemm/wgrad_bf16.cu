// The weight gradient of operands rounded to bf16, on tensor cores: wgrad.cuh with the sums of sums_bf16.cuh.
#include "gemm/sums_bf16.cuh"
#include "gemm/wgrad.cuh"

namespace cudamoe::kernels {

cudaError_t gemm_wgrad_bf16(const GemmWgrad& wgrad, GemmTile tile, cudaStream_t stream) {
  return launch_wgrad<Bf16Sums, Bf16>(wgrad, tile, stream);
}

}  // namespace cudamoe::kernels
