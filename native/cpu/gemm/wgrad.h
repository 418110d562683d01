// How a weight gradient is cut into tasks and what work space a worker needs. No result depends on it.
#pragma once

#include <cstdint>

#include "cpu/gemm/layout.h"

namespace cudamoe::cpu {

// Most steps that are copied and multiplied at a time; a step is a row, or two with bf16 instructions, whose sources take twice the room.
inline constexpr int64_t kStepChunk = 192, kPairStepChunk = 128;
// Floats, or pairs, from one copied panel of x to the next; the odd cache line spreads them over the sets of the cache.
inline constexpr int64_t panel_chunk_floats(int64_t panel) { return kStepChunk * panel + 16; }
// The same for a copied tile of dz.
inline constexpr int64_t kDzTileFloats = kStepChunk * kColumnScratchStride + 16;

// Most rows of dw, columns of dz, of a task.
inline constexpr int64_t kMostBlockRows = 272;

struct WgradPlan {
  int64_t step_rows;                  // 2: bf16 pairs are multiplied
  int64_t tiles, panels;              // of dw[n, k]: tiles of rows, panels of columns
  int64_t tile_blocks, panel_blocks;  // tasks of a group along n and along k
  bool by_panels;                     // tasks with the same columns of x follow each other, not those with the same columns of dz
  int64_t block_panels;               // most panels of a task
  int64_t workers;
  // Parts of a worker's work space, in floats.
  int64_t x_floats, dz_floats, sums_floats, bias_floats;

  struct Block {
    int64_t tile_block, panel_block;
  };
  Block block(int64_t task_of_group) const {
    if (by_panels) return {task_of_group % tile_blocks, task_of_group / tile_blocks};
    return {task_of_group / panel_blocks, task_of_group % panel_blocks};
  }

  int64_t worker_floats() const { return x_floats + dz_floats + sums_floats + bias_floats; }
  int64_t bytes() const { return workers * worker_floats() * static_cast<int64_t>(sizeof(float)); }
};

}  // namespace cudamoe::cpu
