// The row tiles of a block, one after the other, and the experts that their rows meet.
//
// A block has a run of row tiles, so that most of them have the experts of the one before. Their numbers are those of gemm/rows.cuh, or
// places of a table where samples were sorted by lists of experts.
#pragma once

#include "common/kernel.cuh"
#include "expert/expert.h"
#include "gemm/rows.cuh"

namespace cudamoe::kernels {

// The tiles of a block that have rows.
class TileWalk {
 public:
  // All threads of the block; `tiles` is their number where there is no table.
  template <int kThreads>
  CUDAMOE_DEVICE static TileWalk make(const Expert& expert, int64_t tiles, int block, int blocks) {
    TileWalk walk(expert);
    const int64_t count = expert.tiles != nullptr ? load_constant(expert.tile_count) : tiles;
    walk.number_ = static_cast<int>(count * block / blocks);
    walk.end_ = static_cast<int>(count * (block + 1) / blocks);
    if (expert.tiles != nullptr) {
      walk.look_up();
      return walk;
    }
    if (walk.number_ < walk.end_) walk.tile_ = find_row_tile<kThreads>(expert.rows, walk.number_, kExpertRows);
    if (walk.tile_.group >= 0 && walk.tile_.rows == 0) walk.advance();
    return walk;
  }

  // group -1: there are no more.
  CUDAMOE_DEVICE const GemmRowTile& tile() const { return tile_; }

  CUDAMOE_DEVICE void advance() {
    const GemmRows& rows = expert_.rows;
    if (expert_.tiles != nullptr) {
      ++number_;
      look_up();
      return;
    }
    do {
      ++number_;
      if (number_ >= end_) {
        tile_.group = -1;
        return;
      }
      if (rows.offsets == nullptr) {
        const int tiles = static_cast<int>(gemm_tiles_of_strided_group(rows.rows, kExpertRows));
        place(number_ / tiles, int64_t{number_ % tiles} * kExpertRows, rows.rows);
      } else {
        const int32_t next = tile_.group + 1;
        const bool moves = number_ >= gemm_first_tile(rows.offsets[next], next, kExpertRows);
        const int32_t group = moves ? next : tile_.group;
        if (group >= rows.groups) {
          place(-1, 0, kExpertRows);
        } else {
          const int64_t begin = rows.offsets[group];
          place(group, begin + (number_ - gemm_first_tile(begin, group, kExpertRows)) * kExpertRows, rows.offsets[group + 1]);
        }
      }
    } while (tile_.rows == 0);
  }

 private:
  CUDAMOE_DEVICE explicit TileWalk(const Expert& expert) : expert_(expert) {}

  CUDAMOE_DEVICE void place(int32_t group, int64_t begin, int64_t end) {
    const int64_t left = end - begin;
    tile_ = {begin, group, left < 0 ? 0 : (left < kExpertRows ? static_cast<int32_t>(left) : kExpertRows), false};
  }
  CUDAMOE_DEVICE void look_up() {
    tile_.group = -1;
    if (number_ >= end_) return;
    const ExpertRowTile* entry = expert_.tiles + number_;
    tile_ = {load_constant(&entry->begin), load_constant(&entry->group), load_constant(&entry->rows), false};
  }

  const Expert& expert_;
  int number_ = 0, end_ = 0;
  GemmRowTile tile_ = {0, -1, 0, false};
};

// The same where all rows are of one group, in fewer registers.
class DenseWalk {
 public:
  template <int kThreads>
  CUDAMOE_DEVICE static DenseWalk make(const Expert& expert, int64_t tiles, int block, int blocks) {
    return DenseWalk(expert, static_cast<int>(tiles * block / blocks), static_cast<int>(tiles * (block + 1) / blocks));
  }

  CUDAMOE_DEVICE GemmRowTile tile() const {
    const int64_t begin = int64_t{number_} * kExpertRows, left = expert_.rows.rows - begin;
    return {begin, number_ < end_ ? 0 : -1, left < kExpertRows ? static_cast<int32_t>(left) : kExpertRows, false};
  }
  CUDAMOE_DEVICE void advance() { ++number_; }

 private:
  CUDAMOE_DEVICE DenseWalk(const Expert& expert, int number, int end) : expert_(expert), number_(number), end_(end) {}

  const Expert& expert_;
  int number_, end_;
};

// The expert that rows of a group meet as number i of their list; -1: none.
CUDAMOE_DEVICE int listed_expert(const Expert& expert, int group, int i) {
  if (expert.form == ExpertForm::kForward) return group;
  if (expert.form == ExpertForm::kDense) return i;
  for (int j = 0; j < i; ++j) group /= expert.experts + 1;
  const int digit = group % (expert.experts + 1);
  return digit == expert.experts ? -1 : digit;
}
CUDAMOE_DEVICE int list_length(const Expert& expert) {
  return expert.form == ExpertForm::kForward ? 1 : (expert.form == ExpertForm::kDense ? expert.experts : expert.choices);
}

// Whether the units of a tile's experts serve the next tile too, where they stay in shared memory.
CUDAMOE_DEVICE bool same_list(const Expert& expert, int group, int next) {
  return next >= 0 && (expert.form == ExpertForm::kDense || group == next);
}

// Whether rows of x can be copied as they are, 16 bytes at a time.
CUDAMOE_HOST_DEVICE bool rows_go_directly(const GemmMatrix& x) {
  return x.is_bf16 != 0 && aligned_for<8>(static_cast<const Bf16*>(x.data), x.row_stride) && x.group_stride % 8 == 0;
}

// The row of x for a row of the row space; -1: it counts as zeros.
CUDAMOE_DEVICE int64_t row_of_x(const Expert& expert, int64_t row) {
  return expert.items != nullptr ? load_constant(expert.items + row) / expert.tasks : source_row(expert.rows, row);
}

}  // namespace cudamoe::kernels
