#include "cuda/expert/plan.h"

namespace cudamoe::cuda {
namespace {

// Bytes of shared memory that a block may have.
int64_t most_shared_bytes(const Device& device) {
  constexpr int64_t kKib = 1024;
  if (device.architecture() >= 90 && device.architecture() < 120) return 227 * kKib;
  return device.architecture() == 80 || device.architecture() == 87 ? 163 * kKib : 99 * kKib;
}

}  // namespace

std::optional<FusedExpert> fuse_experts(const Device& device, int32_t packed_dtype, int64_t k, int64_t hidden, kernels::ExpertTile tile,
                                        int64_t list) {
  constexpr int64_t kStatic = 4096;  // what the kernel has besides, and its alignment
  constexpr int64_t kDeepest = 4096;
  if (packed_dtype != CUDAMOE_BF16 || k > kDeepest) return std::nullopt;
  const int64_t most = most_shared_bytes(device) - kStatic;
  const int64_t x = 2 * kernels::expert_x_elements(k), unit = 2 * kernels::expert_unit_elements(k, kernels::expert_tile_columns(tile));
  const int64_t units = list * parts_of(hidden, kernels::kExpertSlice);
  const bool resident = units <= (most - x) / unit;
  const int64_t bytes = x + (resident ? units : 2) * unit;
  if (bytes > most) return std::nullopt;
  return FusedExpert{{tile, 0, bytes}, resident};
}

void register_expert(Backend& table) {
  table.expert_forward = expert_forward;
  table.expert_forward_workspace = expert_forward_workspace;
  table.expert_mix = expert_mix;
  table.expert_mix_workspace = expert_mix_workspace;
}

}  // namespace cudamoe::cuda
