// Row groups of a product: which rows of the row space a group has, and the row blocks that the work is cut into.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/device.h"
#include "cpu/gemm/layout.h"

namespace cudamoe::cpu {

struct RowGroups {
  int64_t groups, rows;
  const int64_t* offsets;  // null: every group has all rows

  int64_t begin(int64_t group) const { return offsets == nullptr ? 0 : offsets[group]; }
  int64_t count(int64_t group) const { return offsets == nullptr ? rows : offsets[group + 1] - offsets[group]; }

  // False, with a report on the stream, when the offsets break the rule of cudamoe.h; nothing may be computed then.
  bool check(Stream& stream, const char* function) const {
    if (offsets == nullptr) return true;
    if (offsets[0] != 0) {
      stream.report("%s: offsets[0] is %lld; it must be 0", function, static_cast<long long>(offsets[0]));
      return false;
    }
    for (int64_t group = 0; group < groups; ++group) {
      if (offsets[group + 1] < offsets[group] || offsets[group + 1] > rows) {
        stream.report("%s: offsets[%lld] is %lld; it must be at least %lld and at most %lld rows", function,
                      static_cast<long long>(group + 1), static_cast<long long>(offsets[group + 1]), static_cast<long long>(offsets[group]),
                      static_cast<long long>(rows));
        return false;
      }
    }
    return true;
  }
};

// Rows of a group are cut evenly into tiles of at most `tile_rows`, and runs of at most `block_tiles` tiles are a block. Blocks are
// numbered without a table: group g owns the numbers from first(g) to first(g + 1), which are at least as many as it has blocks;
// numbers beyond its last block are empty.
class RowBlocks {
 public:
  RowBlocks(const RowGroups& groups, int64_t tile_rows, int64_t block_tiles)
      : groups_(groups), tile_rows_(tile_rows), block_tiles_(block_tiles), block_rows_(tile_rows * block_tiles) {}

  int64_t count() const { return first(groups_.groups); }

  struct Block {
    int64_t group;
    int64_t group_begin, group_rows;  // rows of the group
    int64_t first_tile, tiles;        // of this block; 0 tiles: nothing to do
    int64_t group_tiles;

    // Rows of the row space where tile `tile` of the group begins.
    int64_t tile_begin(int64_t tile) const { return group_begin + part_begin(group_rows, group_tiles, tile); }
  };
  Block block(int64_t number) const {
    const int64_t group = group_of(number), rows = groups_.count(group), tiles = divide_up(rows, tile_rows_);
    const int64_t blocks = divide_up(tiles, block_tiles_), index = number - first(group);
    if (index >= blocks) return {group, groups_.begin(group), rows, 0, 0, tiles};
    const int64_t first_tile = part_begin(tiles, blocks, index);
    return {group, groups_.begin(group), rows, first_tile, part_begin(tiles, blocks, index + 1) - first_tile, tiles};
  }

 private:
  int64_t first(int64_t group) const {
    return groups_.offsets == nullptr ? group * divide_up(groups_.rows, block_rows_) : groups_.offsets[group] / block_rows_ + group;
  }

  int64_t group_of(int64_t number) const {
    if (groups_.offsets == nullptr) return number / divide_up(groups_.rows, block_rows_);
    int64_t low = 0, high = groups_.groups - 1;  // the last group with first(group) <= number
    while (low < high) {
      const int64_t middle = (low + high + 1) / 2;
      if (first(middle) <= number) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }

  RowGroups groups_;
  int64_t tile_rows_, block_tiles_, block_rows_;
};

}  // namespace cudamoe::cpu
