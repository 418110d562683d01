// What the sums on tensor cores share: where the elements of an mma accumulator go.
#pragma once

#include "gemm/tile.cuh"

namespace cudamoe::kernels {

// The accumulators of 16 rows and 8 columns each, side by side, as rows. Eight-byte writes of rows 8 mod 32 words apart: a half-warp
// meets no bank twice.
template <int kAcross>
CUDAMOE_DEVICE void put_fragments(const float (&sum)[kAcross][4], Shared<float> rows, int stride) {
  const int row = lane_id() / 4, column = lane_id() % 4 * 2;
  CUDAMOE_UNROLL
  for (int j = 0; j < kAcross; ++j) {
    store(rows + (row * stride + 8 * j + column), Vector<float, 2>{sum[j][0], sum[j][1]});
    store(rows + ((row + 8) * stride + 8 * j + column), Vector<float, 2>{sum[j][2], sum[j][3]});
  }
}

}  // namespace cudamoe::kernels
