// Mixtures of experts, whose outputs are never written: the dense and the sparse form, by warp-groups.
#include "expert/warpgroups.cuh"

namespace cudamoe::kernels {

cudaError_t expert_mix_rings(const Expert& expert, const ExpertLaunch& launch, cudaStream_t stream) {
  constexpr const char* kName = "expert_mix";
  const bool wide = launch.slice == 128;
  switch (launch.tile) {
    case ExpertTile::kMix64x1:
      return wide ? launch_expert_rings<128, 64, 1>(kName, expert, launch, stream)
                  : launch_expert_rings<64, 64, 1>(kName, expert, launch, stream);
    case ExpertTile::kMix64x3:
      return wide ? launch_expert_rings<128, 64, 3>(kName, expert, launch, stream)
                  : launch_expert_rings<64, 64, 3>(kName, expert, launch, stream);
    case ExpertTile::kMix128x1:
      return launch_expert_rings<64, 128, 1>(kName, expert, launch, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace cudamoe::kernels
