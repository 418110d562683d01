// Rows of experts, with hidden rows stored where they are wanted: the forward form, by warps (expert.cuh) and by warp-groups
// (warpgroups.cuh).
#include "expert/expert.cuh"
#include "expert/warpgroups.cuh"

namespace cudamoe::kernels {

cudaError_t expert_forward(const Expert& expert, const ExpertLaunch& launch, cudaStream_t stream) {
  constexpr const char* kName = "expert_forward";
  const bool narrow = launch.tile == ExpertTile::kForward64;
  if (launch.slice == 128)
    return narrow ? launch_expert_rings<128, 64, 0>(kName, expert, launch, stream)
                  : launch_expert_rings<128, 128, 0>(kName, expert, launch, stream);
  if (launch.slice == 64)
    return narrow ? launch_expert_rings<64, 64, 0>(kName, expert, launch, stream)
                  : launch_expert_rings<64, 128, 0>(kName, expert, launch, stream);
  return narrow ? launch_expert<64, 0>(kName, expert, launch, stream) : launch_expert<128, 0>(kName, expert, launch, stream);
}

}  // namespace cudamoe::kernels
