// The row tiles of a block that works through a run of them (rows.cuh numbers them): most are of the group of the one before, so that the
// offsets are read when the group changes only.
#pragma once

#include "gemm/rows.cuh"

namespace cudamoe::kernels {

class RowWalk {
 public:
  // From the group of the first number on; see first_group.
  CUDAMOE_DEVICE RowWalk(const GemmRows& rows, int32_t group, int32_t tile_rows) : rows_(rows), tile_rows_(tile_rows), end_(rows.rows) {
    if (rows.offsets != nullptr) enter(group);
  }

  // Of the tile of that number; the number of groups where it has none. All threads of the block call it; the offsets keep the rule.
  template <int kThreads>
  CUDAMOE_DEVICE static int32_t first_group(const GemmRows& rows, int64_t number, int32_t tile_rows) {
    const int32_t group = find_row_tile<kThreads>(rows, number, tile_rows).group;
    return group < 0 ? rows.groups : group;
  }

  // The tile of a number that is not below the one before. One without rows has group -1 or zero rows.
  CUDAMOE_DEVICE GemmRowTile at(int64_t number) {
    int64_t index;
    if (rows_.offsets == nullptr) {
      const int64_t tiles = gemm_tiles_of_strided_group(rows_.rows, tile_rows_);
      group_ = rows_.groups == 1 ? 0 : static_cast<int32_t>(number / tiles);
      index = number - group_ * tiles;
    } else {
      while (group_ < rows_.groups && number >= gemm_first_tile(end_, group_ + 1, tile_rows_)) enter(group_ + 1);
      if (group_ >= rows_.groups) return {0, -1, 0, false};
      index = number - gemm_first_tile(begin_, group_, tile_rows_);
    }
    const int64_t begin = begin_ + index * tile_rows_, left = end_ - begin;
    return {begin, group_, left < 0 ? 0 : (left < tile_rows_ ? static_cast<int32_t>(left) : tile_rows_), index == 0};
  }

 private:
  CUDAMOE_DEVICE void enter(int32_t group) {
    group_ = group;
    if (group >= rows_.groups) return;
    begin_ = rows_.offsets[group];
    end_ = rows_.offsets[group + 1];
  }

  const GemmRows& rows_;
  int32_t tile_rows_, group_ = 0;
  int64_t begin_ = 0, end_;  // rows of the group
};

}  // namespace cudamoe::kernels
