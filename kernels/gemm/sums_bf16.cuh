// A warp's sums of bf16 products in f32 by mma.sync m16n8k16: depth in ascending steps of 16, one accumulator an element. The order within
// a step is the tensor core's own; it does not depend on the tile, so a row's result does not depend on its neighbours.
//
// For each 16 of depth a warp of 32 x 64 reads its fragments with two (left) and four (right) ldmatrix of four matrices, for 16 mma.
#pragma once

#include "common/expected_fragment.cuh"
#include "common/ptx/ldmatrix.cuh"
#include "common/ptx/mma.cuh"
#include "gemm/fragments.cuh"

namespace cudamoe::kernels {

template <class Tile, bool kByColumns>
class Bf16Sums {
 public:
  using Element = Bf16;
  using Layout = TileLayout<Tile, Bf16, kByColumns>;

  CUDAMOE_DEVICE Bf16Sums() {
    CUDAMOE_UNROLL
    for (int i = 0; i < kDown; ++i) {
      CUDAMOE_UNROLL
      for (int j = 0; j < kAcross; ++j) {
        CUDAMOE_UNROLL
        for (int e = 0; e < 4; ++e) sum_[i][j][e] = 0.0f;
      }
    }
  }

  // One step. left and right: the warp's first row and first column of the tile.
  CUDAMOE_DEVICE void multiply(Shared<Bf16> left, Shared<Bf16> right) {
    const int matrix = lane_id() / 8, row = lane_id() % 8;  // of the four 8 x 8 matrices that the lanes address
    CUDAMOE_NO_UNROLL
    for (int t = 0; t < Layout::kDepth; t += 16) {
      uint32_t a[kDown][4], b[kAcross / 2][4];
      CUDAMOE_UNROLL
      for (int i = 0; i < kDown; ++i) {
        // Matrices 0 .. 3: rows 0, rows 8, rows 0 of the next 8 of depth, rows 8 of these.
        if constexpr (kByColumns) {
          ptx::ldmatrix<4, true>(a[i], left + ((t + matrix / 2 * 8 + row) * Layout::kLeftStride + 16 * i + matrix % 2 * 8));
        } else {
          ptx::ldmatrix<4, false>(a[i], left + ((16 * i + matrix % 2 * 8 + row) * Layout::kLeftStride + t + matrix / 2 * 8));
        }
        expect_left_bf16(a[i], [&](int r, int k) -> Bf16 {
          return left[kByColumns ? (t + k) * Layout::kLeftStride + 16 * i + r : (16 * i + r) * Layout::kLeftStride + t + k];
        });
      }
      CUDAMOE_UNROLL
      for (int j = 0; j < kAcross / 2; ++j) {
        // Columns 0, columns 0 of the next 8 of depth, columns 8, columns 8 of these.
        ptx::ldmatrix<4, true>(b[j], right + ((t + matrix % 2 * 8 + row) * Layout::kRightStride + 16 * j + matrix / 2 * 8));
        CUDAMOE_UNROLL
        for (int half = 0; half < 2; ++half) {
          expect_right_bf16({b[j][2 * half], b[j][2 * half + 1]},
                            [&](int k, int column) -> Bf16 { return right[(t + k) * Layout::kRightStride + 16 * j + 8 * half + column]; });
        }
      }
      CUDAMOE_UNROLL
      for (int i = 0; i < kDown; ++i) {
        CUDAMOE_UNROLL
        for (int j = 0; j < kAcross; ++j) {
          const uint32_t column[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
          ptx::mma_m16n8k16_bf16(sum_[i][j], a[i], column);
        }
      }
    }
  }

  // Rows 16 s .. 16 s + 15 of the warp.
  CUDAMOE_DEVICE void put_rows(int s, Shared<float> rows, int stride) const { put_fragments(sum_[s], rows, stride); }

 private:
  static constexpr int kDown = Tile::kWarpRows / 16, kAcross = Tile::kWarpColumns / 8;

  float sum_[kDown][kAcross][4];
};

}  // namespace cudamoe::kernels
