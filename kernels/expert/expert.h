// The kernels of the expert family, as the host launches them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/ptx/tma.cuh"
#include "gemm/gemm.h"

namespace cudamoe::kernels {

struct OffenderCell;
struct SampleCounts;

// One layer of all experts: weights of bf16, packed as the gemm family does.
struct ExpertLayer {
  const void* packed;
  int64_t row_stride, group_stride;
  const float* bias;  // or null
  int64_t bias_group_stride;
  Activation activation;
};

// Rows of a block's tile, hidden columns that are computed at a time, and the padding of rows in shared memory (elements).
inline constexpr int kExpertRows = 128, kExpertSlice = 64, kExpertPadding = 8;

// Output columns of a block, and tasks whose mixtures it holds in registers; 0 tasks: outputs are written as they are. 64x2 and 32x4 are of
// the kernel by warps only, 64x3 of that by warp-groups.
enum class ExpertTile : int32_t { kForward64, kForward128, kMix64x1, kMix128x1, kMix64x2, kMix32x4, kMix64x3 };
inline constexpr int expert_tile_columns(ExpertTile tile) {
  return tile == ExpertTile::kForward128 || tile == ExpertTile::kMix128x1 ? 128 : (tile == ExpertTile::kMix32x4 ? 32 : 64);
}
inline constexpr int expert_tile_tasks(ExpertTile tile) {
  switch (tile) {
    case ExpertTile::kForward64:
    case ExpertTile::kForward128:
      return 0;
    case ExpertTile::kMix64x2:
      return 2;
    case ExpertTile::kMix64x3:
      return 3;
    case ExpertTile::kMix32x4:
      return 4;
    default:
      return 1;
  }
}

// Elements of shared memory for the rows of x, and for a unit: the weights of both layers for a slice of hidden columns.
CUDAMOE_HOST_DEVICE int expert_depth(int64_t depth) { return static_cast<int>((depth + 15) / 16 * 16); }
CUDAMOE_HOST_DEVICE int64_t expert_x_elements(int64_t depth) { return int64_t{kExpertRows} * (expert_depth(depth) + kExpertPadding); }
CUDAMOE_HOST_DEVICE int64_t expert_unit_elements(int64_t depth, int columns) {
  return int64_t{expert_depth(depth)} * (kExpertSlice + kExpertPadding) + kExpertSlice * (columns + kExpertPadding);
}

// The same of the kernel by warp-groups (warpgroups.cuh): the depth of x goes in chunks of 64, 64 rows of one are a place; the biases of a
// unit lie beside it, floats.
inline constexpr int kExpertChunk = 64, kExpertGroupRows = 64, kExpertGroups = kExpertRows / kExpertGroupRows;
inline constexpr int kExpertRowPlace = kExpertGroupRows * kExpertChunk;
inline constexpr int kExpertMostUnits = 8, kExpertMostRowPlaces = 16;
// Whether a kernel takes experts of one slice only.
inline constexpr bool expert_has_one_slice(int slice, int tasks) { return slice == 128 && tasks > 1; }
CUDAMOE_HOST_DEVICE int expert_chunks(int64_t depth) { return static_cast<int>((depth + kExpertChunk - 1) / kExpertChunk); }
CUDAMOE_HOST_DEVICE int64_t expert_group_unit_elements(int64_t depth, int slice, int columns) {
  return (int64_t{expert_chunks(depth)} * kExpertChunk + columns) * slice;
}

// Which experts the rows of a group meet, and what becomes of their outputs.
enum class ExpertForm : int32_t {
  kForward,  // the group's own; y[r]
  kDense,    // all, in ascending order; y[b, t] = sum over e of (gates[b, t, e] + residual[t, e]) * output
  kSparse    // those that the digits of the group's number name, base experts + 1 (the last digit value: none), lowest digit first;
             // row s of the row space is item items[s] = b * tasks + t, y[b, t] = sum over j of gates[item, j] * output
};

// Up to kExpertRows rows of one group, from row `begin` of the row space on.
struct ExpertRowTile {
  int64_t begin;
  int32_t group, rows;
};

struct Expert {
  ExpertForm form;
  GemmRows rows;
  const ExpertRowTile* tiles;  // kSparse: the row tiles, tile_count[0] of them
  const int32_t* tile_count;
  int32_t inspectors;  // 1: the first block looks for bad offsets and gathered rows
  int32_t depth, hidden, columns;
  GemmMatrix x;
  ExpertLayer first, second;
  float slope;
  GemmMatrix y;
  // kForward
  GemmMatrix h, before;  // of one type; data null: not wanted
  // the others
  int32_t experts, tasks, choices;
  const float* gates;
  const float* residual;  // or null
  const int32_t* items;
  int64_t y_task_stride;
  // How units lie in shared memory: all of a row's experts (resident, and kept for the next tile of the same experts), or two by turns.
  int32_t resident;
};

struct ExpertLaunch {
  ExpertTile tile;
  int32_t blocks;  // each has an equal share of the row tiles
  int64_t shared_bytes;
  // By warp-groups on sm_90a: hidden columns of a unit (0: by warps), how many units and places of 64 rows shared memory has, and the
  // packed weights of both layers as boxes of 64 columns x 64 of depth.
  int32_t slice, units, row_places;
  ptx::TensorMap first, second;
};
cudaError_t expert_forward(const Expert& expert, const ExpertLaunch& launch, cudaStream_t stream);
cudaError_t expert_mix(const Expert& expert, const ExpertLaunch& launch, cudaStream_t stream);
cudaError_t expert_mix_rings(const Expert& expert, const ExpertLaunch& launch, cudaStream_t stream);  // of expert_mix, where slice > 0

// keys[i] = sum over j of digit(chosen[i * digits + j]) * (experts + 1)^j, where numbers that are no expert have the digit `experts` and
// are reported, as those of the pairs from first_pair on. [items]
struct ExpertKeys {
  const int32_t* chosen;
  int64_t first_pair, items;
  int32_t digits, experts;
  int32_t* keys;
  OffenderCell* offender;
  DeviceReport* report;
};
cudaError_t expert_keys(const ExpertKeys& keys, cudaStream_t stream);

// Samples (or items: a sample and a task) sorted by all the experts that they have chosen, as row tiles of one list each.
inline constexpr int64_t kExpertListItems = 512;  // of a block
inline constexpr int32_t kExpertMostLists = 4096;
struct ExpertLists {
  const int32_t* chosen;  // [items, choices]
  int64_t items;
  int32_t choices, experts;
  int32_t lists;         // (experts + 1)^choices
  int32_t* keys;         // [items]
  uint32_t* counts;      // [lists, blocks()]
  uint32_t* totals;      // [lists]
  int32_t* sorted;       // [items]
  ExpertRowTile* tiles;  // [most_tiles()]
  int32_t* tile_count;
  OffenderCell* offender;
  DeviceReport* report;

  CUDAMOE_HOST_DEVICE int64_t blocks() const { return (items + kExpertListItems - 1) / kExpertListItems; }
  CUDAMOE_HOST_DEVICE int64_t most_tiles() const { return items / kExpertRows + (items < lists ? items : lists); }
};
cudaError_t expert_lists(const ExpertLists& lists, cudaStream_t stream);

// slots[i] = -1 where it is not below end[0].
cudaError_t expert_drop_slots(int32_t* slots, int64_t count, const int64_t* end, cudaStream_t stream);

// y[b, t, j] as bf16 from sums [rows, tasks, columns] of f32.
struct ExpertRound {
  const float* sums;
  int64_t rows, columns;
  int32_t tasks;
  void* y;
  int64_t y_row_stride, y_task_stride;
};
cudaError_t expert_round(const ExpertRound& round, cudaStream_t stream);

// Compares samples of what experts left in y, h and before, or mixtures in y, with the same sums in double precision, and adds to counts.
// Of mixtures rows.rows are the samples, and chosen [samples, tasks, choices] where the form is kSparse; tiles and items are not read.
cudaError_t expert_compare(const Expert& expert, const int32_t* chosen, int samples, SampleCounts* counts, cudaStream_t stream);

}  // namespace cudamoe::kernels
