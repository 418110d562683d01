// A warp's sums in f32 by fused multiply-adds: one chain an element, depth ascending.
//
// The 32 lanes are 4 x 8. A lane has kWarpRows / 4 rows and kWarpColumns / 8 columns: columns 4 c .. 4 c + 3 of every 32; of the left
// operand by rows, rows r, r + 4, ..., read as vectors along the depth, and by columns, rows 4 r .. 4 r + 3 of every 16.
#pragma once

#include "gemm/tile.cuh"

namespace cudamoe::kernels {

template <class Tile, bool kByColumns>
class FfmaSums {
 public:
  using Element = float;
  using Layout = TileLayout<Tile, float, kByColumns>;

  CUDAMOE_DEVICE FfmaSums() {
    CUDAMOE_UNROLL
    for (int i = 0; i < kOwnRows; ++i) {
      CUDAMOE_UNROLL
      for (int j = 0; j < kOwnColumns; ++j) sum_[i][j] = 0.0f;
    }
  }

  // One step. left and right: the warp's first row and first column of the tile.
  CUDAMOE_DEVICE void multiply(Shared<float> left, Shared<float> right) {
    // Two of depth at a time: more would not fit into the registers beside the sums.
    CUDAMOE_NO_UNROLL
    for (int t = 0; t < Layout::kDepth; t += 2) {
      Left a[kByColumns ? kOwnRows / 4 : kOwnRows];
      if constexpr (!kByColumns) {
        CUDAMOE_UNROLL
        for (int i = 0; i < kOwnRows; ++i) a[i] = load<2>(left + ((lane_row() + 4 * i) * Layout::kLeftStride + t));
      }
      CUDAMOE_UNROLL
      for (int s = 0; s < 2; ++s) {
        Vector<float, 4> b[kOwnColumns / 4];
        CUDAMOE_UNROLL
        for (int j = 0; j < kOwnColumns / 4; ++j) b[j] = load<4>(right + ((t + s) * Layout::kRightStride + 4 * lane_column() + 32 * j));
        if constexpr (kByColumns) {
          CUDAMOE_UNROLL
          for (int i = 0; i < kOwnRows / 4; ++i) a[i] = load<4>(left + ((t + s) * Layout::kLeftStride + 4 * lane_row() + 16 * i));
        }
        CUDAMOE_UNROLL
        for (int i = 0; i < kOwnRows; ++i) {
          float left_element;
          if constexpr (kByColumns) {
            left_element = a[i / 4][i % 4];
          } else {
            left_element = a[i][s];
          }
          CUDAMOE_UNROLL
          for (int j = 0; j < kOwnColumns; ++j) sum_[i][j] = fma(left_element, b[j / 4][j % 4], sum_[i][j]);
        }
      }
    }
  }

  // Rows 16 s .. 16 s + 15 of the warp.
  CUDAMOE_DEVICE void put_rows(int s, Shared<float> rows, int stride) const {
    CUDAMOE_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = kByColumns ? 4 * lane_row() + i : lane_row() + 4 * i;
      CUDAMOE_UNROLL
      for (int j = 0; j < kOwnColumns; j += 4) {
        const float* own = sum_[4 * s + i] + j;
        store(rows + (row * stride + 4 * lane_column() + 8 * j), Vector<float, 4>{own[0], own[1], own[2], own[3]});
      }
    }
  }

 private:
  static constexpr int kOwnRows = Tile::kWarpRows / 4, kOwnColumns = Tile::kWarpColumns / 8;
  using Left = Vector<float, kByColumns ? 4 : 2>;
  CUDAMOE_DEVICE static int lane_row() { return lane_id() / 8; }
  CUDAMOE_DEVICE static int lane_column() { return lane_id() % 8; }

  float sum_[kOwnRows][kOwnColumns];
};

}  // namespace cudamoe::kernels
