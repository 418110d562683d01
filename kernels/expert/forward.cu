// Rows of experts, with hidden rows stored where they are wanted: the forward form of expert.cuh.
#include "expert/expert.cuh"

namespace cudamoe::kernels {

cudaError_t expert_forward(const Expert& expert, const ExpertLaunch& launch, cudaStream_t stream) {
  return launch.tile == ExpertTile::kForward64 ? launch_expert<64, 0>("expert_forward", expert, launch, stream)
                                               : launch_expert<128, 0>("expert_forward", expert, launch, stream);
}

}  // namespace cudamoe::kernels
