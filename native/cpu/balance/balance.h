// The entries of the balance family, and the cut of [rows, width] matrices into tiles that they share.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/device.h"

namespace cudamoe::cpu {

cudamoe_status balance_gram(void* stream, const cudamoe_balance_gram_args& args);
int64_t balance_gram_workspace(void* stream, const cudamoe_balance_gram_args& args);
cudamoe_status balance_factored_gram(void* stream, const cudamoe_balance_factored_gram_args& args);
cudamoe_status balance_combine(void* stream, const cudamoe_balance_combine_args& args);
cudamoe_status balance_columns(void* stream, const cudamoe_balance_columns_args& args);
int64_t balance_columns_workspace(void* stream, const cudamoe_balance_columns_args& args);
cudamoe_status balance_scale(void* stream, const cudamoe_balance_scale_args& args);
cudamoe_status balance_average(void* stream, const cudamoe_balance_average_args& args);

// A matrix in tiles of about `elements` elements: whole rows, or parts of one row where rows are longer.
class MatrixTiles {
 public:
  struct Tile {
    int64_t row, rows, column, columns;
  };

  MatrixTiles(int64_t rows, int64_t width, int64_t elements)
      : rows_(rows),
        width_(width),
        tile_columns_(std::min(width, elements)),
        tile_rows_(width == 0 ? 1 : std::max<int64_t>(1, elements / width)) {
    across_ = width == 0 ? 0 : (width + tile_columns_ - 1) / tile_columns_;
    count_ = across_ * ((rows + tile_rows_ - 1) / tile_rows_);
  }

  int64_t count() const { return count_; }
  Tile operator[](int64_t tile) const {
    const int64_t row = tile / across_ * tile_rows_, column = tile % across_ * tile_columns_;
    return {row, std::min(tile_rows_, rows_ - row), column, std::min(tile_columns_, width_ - column)};
  }

 private:
  int64_t rows_, width_, tile_columns_, tile_rows_, across_, count_;
};

}  // namespace cudamoe::cpu
