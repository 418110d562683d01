// Mixtures of experts, whose outputs are never written: the dense and the sparse form, by warps.
#include "expert/expert.cuh"

namespace cudamoe::kernels {

cudaError_t expert_mix(const Expert& expert, const ExpertLaunch& launch, cudaStream_t stream) {
  if (launch.slice > 0) return expert_mix_rings(expert, launch, stream);
  switch (launch.tile) {
    case ExpertTile::kMix64x1:
      return launch_expert<64, 1>("expert_mix", expert, launch, stream);
    case ExpertTile::kMix64x2:
      return launch_expert<64, 2>("expert_mix", expert, launch, stream);
    case ExpertTile::kMix32x4:
      return launch_expert<32, 4>("expert_mix", expert, launch, stream);
    case ExpertTile::kMix128x1:
      return launch_expert<128, 1>("expert_mix", expert, launch, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace cudamoe::kernels
