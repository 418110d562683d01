#include "cuda/expert/plan.h"

#include "cuda/tensor_map.h"

namespace cudamoe::cuda {
namespace {

// Bytes of shared memory that a block may have.
int64_t most_shared_bytes(const Device& device) {
  constexpr int64_t kKib = 1024;
  if (device.architecture() >= 90 && device.architecture() < 120) return 227 * kKib;
  return device.architecture() == 80 || device.architecture() == 87 ? 163 * kKib : 99 * kKib;
}

constexpr int64_t kDeepest = 4096;

// By warps with mma.sync.
std::optional<FusedExpert> fuse_by_warps(const Device& device, int64_t k, int64_t hidden, kernels::ExpertTile tile, int64_t list) {
  constexpr int64_t kStatic = 4096;  // what the kernel has besides, and its alignment
  const int64_t most = most_shared_bytes(device) - kStatic;
  const int64_t x = 2 * kernels::expert_x_elements(k), unit = 2 * kernels::expert_unit_elements(k, kernels::expert_tile_columns(tile));
  const int64_t units = list * parts_of(hidden, kernels::kExpertSlice);
  const bool resident = units <= (most - x) / unit;
  const int64_t bytes = x + (resident ? units : 2) * unit;
  if (bytes > most) return std::nullopt;
  kernels::ExpertLaunch launch{};
  launch.tile = tile;
  launch.shared_bytes = bytes;
  return FusedExpert{launch, resident};
}

// By warp-groups with wgmma: at least two units, or all of a list, and the rows of a tile; what is left goes to the rows of a second tile,
// then to more units.
std::optional<FusedExpert> fuse_by_groups(const Device& device, int64_t k, int64_t hidden, kernels::ExpertTile tile, int64_t list,
                                          int slice) {
  const int columns = kernels::expert_tile_columns(tile), tasks = kernels::expert_tile_tasks(tile);
  if (kernels::expert_has_one_slice(slice, tasks) && hidden > slice) return std::nullopt;
  const int64_t fixed = tasks == 0 ? 6144 : 1024;  // what the kernel has besides, and its alignment
  const int64_t most = most_shared_bytes(device) - fixed;
  const int64_t chunks = kernels::expert_chunks(k),
                unit = 2 * kernels::expert_group_unit_elements(k, slice, columns) + 4 * (slice + columns);
  const int64_t place = int64_t{2} * kernels::kExpertGroups * kernels::kExpertRowPlace;  // of both groups
  const int64_t of_list = list * parts_of(hidden, slice), left = most - chunks * place;
  if (chunks > kernels::kExpertMostRowPlaces || left < 0) return std::nullopt;
  const bool resident = of_list <= std::min<int64_t>(left / unit, kernels::kExpertMostUnits);
  const int64_t least = resident ? of_list : 2;
  if (least * unit > left) return std::nullopt;
  kernels::ExpertLaunch launch{};
  launch.tile = tile;
  launch.slice = slice;
  const int64_t more = std::min(chunks, (left - least * unit) / place);
  launch.row_places = static_cast<int32_t>(std::min<int64_t>(chunks + more, kernels::kExpertMostRowPlaces));
  const int64_t for_units = most - launch.row_places * place;
  launch.units = static_cast<int32_t>(std::min<int64_t>({for_units / unit, resident ? 2 * of_list : 4, kernels::kExpertMostUnits}));
  launch.shared_bytes = launch.units * unit + launch.row_places * place;
  return FusedExpert{launch, resident};
}

}  // namespace

bool has_warp_groups(const Device& device) { return device.architecture() == 90; }

std::optional<FusedExpert> fuse_experts(const Device& device, int32_t packed_dtype, int64_t k, int64_t hidden, kernels::ExpertTile tile,
                                        int64_t list) {
  using kernels::ExpertTile;
  if (packed_dtype != CUDAMOE_BF16 || k > kDeepest) return std::nullopt;
  const bool groups_only = tile == ExpertTile::kMix64x3;
  const bool warps_only = tile == ExpertTile::kMix64x2 || tile == ExpertTile::kMix32x4;
  if (has_warp_groups(device) && !warps_only) {
    // Wide slices where registers allow them.
    const bool wide = hidden > 64 && tile != ExpertTile::kMix128x1;
    auto fused = wide ? fuse_by_groups(device, k, hidden, tile, list, 128) : std::nullopt;
    if (!fused) fused = fuse_by_groups(device, k, hidden, tile, list, 64);
    if (fused) return fused;
  }
  return groups_only ? std::nullopt : fuse_by_warps(device, k, hidden, tile, list);
}

cudaError_t map_weights(const kernels::Expert& expert, int32_t experts, kernels::ExpertLaunch& launch) {
  if (launch.slice == 0) return cudaSuccess;
  const auto map = [&](const kernels::ExpertLayer& layer, int32_t depth, kernels::ptx::TensorMap* to) {
    return encode_tensor_map({const_cast<void*>(layer.packed),
                              3,
                              {layer.row_stride, depth, experts},
                              {0, 2 * layer.row_stride, 2 * layer.group_stride},
                              {64, kernels::kExpertChunk, 1},
                              2,
                              128},
                             to);
  };
  const cudaError_t error = map(expert.first, expert.depth, &launch.first);
  return error == cudaSuccess ? map(expert.second, expert.hidden, &launch.second) : error;
}

void register_expert(Backend& table) {
  table.expert_forward = expert_forward;
  table.expert_forward_workspace = expert_forward_workspace;
  table.expert_mix = expert_mix;
  table.expert_mix_workspace = expert_mix_workspace;
}

}  // namespace cudamoe::cuda
