// A warp's sums of f32 products on tensor cores, each operand split into two tf32 numbers, a = a1 + a2: a b ~ a2 b1 + a1 b2 + a1 b1. What
// is left out, a2 b2 and the rounding of a2 and b2, is at most 2^-21 of the product. Three mma.sync m16n8k8 a step of 8 of depth.
//
// Order of sums: depth in ascending steps of 8, one accumulator an element. A step's sum begins at zero in the tensor core, small terms
// first, and is added to the accumulator outside of it: the tensor core cuts its sums off, the addition rounds them to nearest, so the
// error does not drift (Ootomo and Yokota 2022, section 3). It does not depend on the tile.
// An infinity, or a number that rounds to one (above 3.4e38), makes NaN.
//
// Fragments are read as single words, without a bank conflict (tile.cuh).
#pragma once

#include "common/expected_fragment.cuh"
#include "common/ptx/mma.cuh"
#include "gemm/fragments.cuh"

namespace cudamoe::kernels {

struct Tf32Pair {
  uint32_t high, low;
};
CUDAMOE_DEVICE Tf32Pair split_tf32(float x) {
  const uint32_t high = ptx::to_tf32(x);
  return {high, ptx::to_tf32(x - float_of_bits(high))};
}

template <class Tile, bool kByColumns>
class Tf32Sums {
 public:
  using Element = float;
  using Layout = TileLayout<Tile, float, kByColumns>;

  CUDAMOE_DEVICE Tf32Sums() {
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
  CUDAMOE_DEVICE void multiply(Shared<float> left, Shared<float> right) {
    CUDAMOE_NO_UNROLL
    for (int t = 0; t < Layout::kDepth; t += 8) {
      uint32_t high[kDown][4], low[kDown][4];
      CUDAMOE_UNROLL
      for (int i = 0; i < kDown; ++i) {
        CUDAMOE_UNROLL
        for (int e = 0; e < 4; ++e) {
          const int row = 16 * i + lane_id() / 4 + e % 2 * 8, depth = t + lane_id() % 4 + e / 2 * 4;
          const Tf32Pair pair = split_tf32(left[kByColumns ? depth * Layout::kLeftStride + row : row * Layout::kLeftStride + depth]);
          high[i][e] = pair.high;
          low[i][e] = pair.low;
        }
        const auto element = [&](int row, int k) {
          return split_tf32(left[kByColumns ? (t + k) * Layout::kLeftStride + 16 * i + row : (16 * i + row) * Layout::kLeftStride + t + k]);
        };
        expect_left_tf32(high[i], [&](int row, int k) { return element(row, k).high; });
        expect_left_tf32(low[i], [&](int row, int k) { return element(row, k).low; });
      }
      // Two columns of tiles at a time: the three products of a sum wait for each other, so those of several sums take turns.
      CUDAMOE_UNROLL
      for (int j = 0; j < kAcross; j += 2) {
        uint32_t right_high[2][2], right_low[2][2];
        CUDAMOE_UNROLL
        for (int e = 0; e < 4; ++e) {
          const Tf32Pair pair =
              split_tf32(right[(t + lane_id() % 4 + 4 * (e % 2)) * Layout::kRightStride + 8 * (j + e / 2) + lane_id() / 4]);
          right_high[e / 2][e % 2] = pair.high;
          right_low[e / 2][e % 2] = pair.low;
        }
        CUDAMOE_UNROLL
        for (int c = 0; c < 2; ++c) {
          const auto element = [&](int k, int column) { return split_tf32(right[(t + k) * Layout::kRightStride + 8 * (j + c) + column]); };
          expect_right_tf32(right_high[c], [&](int k, int column) { return element(k, column).high; });
          expect_right_tf32(right_low[c], [&](int k, int column) { return element(k, column).low; });
        }
        float step[kDown][2][4] = {};
        const auto each = [&](auto&& body) {
          CUDAMOE_UNROLL
          for (int i = 0; i < kDown; ++i) {
            body(i, 0);
            body(i, 1);
          }
        };
        each([&](int i, int c) { ptx::mma_m16n8k8_tf32(step[i][c], low[i], right_high[c]); });
        each([&](int i, int c) { ptx::mma_m16n8k8_tf32(step[i][c], high[i], right_low[c]); });
        each([&](int i, int c) { ptx::mma_m16n8k8_tf32(step[i][c], high[i], right_high[c]); });
        each([&](int i, int c) {
          CUDAMOE_UNROLL
          for (int e = 0; e < 4; ++e) sum_[i][j + c][e] += step[i][c][e];
        });
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
