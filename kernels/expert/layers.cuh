// Both layers of an expert for 16 rows and 64 hidden columns, by one warp with mma.sync m16n8k16 on bf16.
//
// The accumulators of two neighbouring products of 8 columns, rounded to bf16, are the left operand of 16 of depth of the next product: the
// hidden values stay in registers. Depth ascends in steps of 16 in both layers, one accumulator an element, so that results are those of
// two products of the gemm family to the bit. For 16 of depth a warp reads its fragments with one ldmatrix of four matrices (left) and four
// (right), for 8 mma.
#pragma once

#include "common/activation.cuh"
#include "common/expected_fragment.cuh"
#include "common/kernel.cuh"
#include "common/ptx/convert.cuh"
#include "common/ptx/ldmatrix.cuh"
#include "common/ptx/mma.cuh"
#include "expert/expert.h"
#include "gemm/tile.cuh"

namespace cudamoe::kernels {

// The sums of 16 rows and 8 kTiles columns; element e of tile j: row lane / 4 + e / 2 * 8, column 8 j + lane % 4 * 2 + e % 2.
template <int kTiles>
struct FragmentSums {
  float value[kTiles][4];

  template <class Body>
  CUDAMOE_DEVICE void each(Body&& body) {
    CUDAMOE_UNROLL
    for (int j = 0; j < kTiles; ++j) {
      CUDAMOE_UNROLL
      for (int e = 0; e < 4; ++e) body(value[j][e], j, e);
    }
  }
  CUDAMOE_DEVICE void clear() {
    each([](float& x, int, int) { x = 0.0f; });
  }
  // As wgmma takes them: the same order, without rows of an array.
  CUDAMOE_DEVICE float (&flat())[4 * kTiles] { return reinterpret_cast<float(&)[4 * kTiles]>(value); }
};

inline constexpr int kSliceTiles = kExpertSlice / 8;
inline constexpr int kFirstStride = kExpertSlice + kExpertPadding;  // of a unit's weights of the first layer

// sum = x * w for a slice: 16 rows of x, `depth` (a multiple of 16) rows of w.
CUDAMOE_DEVICE void first_layer(Shared<Bf16> x, int x_stride, Shared<Bf16> w, int depth, FragmentSums<kSliceTiles>& sum) {
  const int matrix = lane_id() / 8, row = lane_id() % 8;  // of the four 8 x 8 matrices that the lanes address
  sum.clear();
  CUDAMOE_NO_UNROLL
  for (int t = 0; t < depth; t += 16) {
    uint32_t a[4];
    ptx::ldmatrix<4, false>(a, x + ((matrix % 2 * 8 + row) * x_stride + t + matrix / 2 * 8));
    expect_left_bf16(a, [&](int i, int k) -> Bf16 { return x[i * x_stride + t + k]; });
    CUDAMOE_UNROLL
    for (int j = 0; j < kSliceTiles; j += 2) {
      uint32_t b[4];
      ptx::ldmatrix<4, true>(b, w + ((t + matrix % 2 * 8 + row) * kFirstStride + 8 * j + matrix / 2 * 8));
      expect_right_bf16({b[0], b[1]}, [&](int k, int column) -> Bf16 { return w[(t + k) * kFirstStride + 8 * j + column]; });
      expect_right_bf16({b[2], b[3]}, [&](int k, int column) -> Bf16 { return w[(t + k) * kFirstStride + 8 * (j + 1) + column]; });
      ptx::mma_m16n8k16_bf16(sum.value[j], a, {b[0], b[1]});
      ptx::mma_m16n8k16_bf16(sum.value[j + 1], a, {b[2], b[3]});
    }
  }
}

// sum += hidden * w for the slice's 64 rows of w.
template <int kTiles>
CUDAMOE_DEVICE void second_layer(const FragmentSums<kSliceTiles>& hidden, Shared<Bf16> w, FragmentSums<kTiles>& sum) {
  constexpr int kStride = 8 * kTiles + kExpertPadding;
  const int matrix = lane_id() / 8, row = lane_id() % 8;
  CUDAMOE_UNROLL
  for (int t = 0; t < kSliceTiles; t += 2) {
    const float(&low)[4] = hidden.value[t];
    const float(&high)[4] = hidden.value[t + 1];
    const uint32_t a[4] = {ptx::pack_bf16(low[0], low[1]), ptx::pack_bf16(low[2], low[3]), ptx::pack_bf16(high[0], high[1]),
                           ptx::pack_bf16(high[2], high[3])};
    CUDAMOE_UNROLL
    for (int j = 0; j < kTiles; j += 2) {
      uint32_t b[4];
      ptx::ldmatrix<4, true>(b, w + ((8 * t + matrix % 2 * 8 + row) * kStride + 8 * j + matrix / 2 * 8));
      expect_right_bf16({b[0], b[1]}, [&](int k, int column) -> Bf16 { return w[(8 * t + k) * kStride + 8 * j + column]; });
      expect_right_bf16({b[2], b[3]}, [&](int k, int column) -> Bf16 { return w[(8 * t + k) * kStride + 8 * (j + 1) + column]; });
      ptx::mma_m16n8k16_bf16(sum.value[j], a, {b[0], b[1]});
      ptx::mma_m16n8k16_bf16(sum.value[j + 1], a, {b[2], b[3]});
    }
  }
}

// Adds the layer's bias of columns first .. first + 8 kTiles - 1, those below `columns`.
template <int kTiles>
CUDAMOE_DEVICE void add_bias(const ExpertLayer& layer, int expert, int first, int columns, FragmentSums<kTiles>& sum) {
  if (layer.bias == nullptr) return;
  const float* bias = layer.bias + expert * layer.bias_group_stride;
  const int own = first + computed_here(lane_id() % 4 * 2);
  CUDAMOE_UNROLL
  for (int j = 0; j < kTiles; ++j) {
    CUDAMOE_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int column = own + 8 * j + i;
      const float add = column < columns ? load_constant(bias + column) : 0.0f;
      sum.value[j][i] += add;
      sum.value[j][i + 2] += add;
    }
  }
}

template <int kTiles>
CUDAMOE_DEVICE void activate_sums(Activation activation, float slope, FragmentSums<kTiles>& sum) {
  if (activation == Activation::kNone) return;
  if (activation == Activation::kRelu) {
    sum.each([](float& x, int, int) { x = x < 0 ? 0.0f : x; });
    return;
  }
  // The others are long: once in the code for two values, which all pass by turns.
  CUDAMOE_NO_UNROLL
  for (int i = 0; i < 2 * kTiles; ++i) {
    const float own[2] = {activate(activation, sum.value[0][0], slope), activate(activation, sum.value[0][1], slope)};
    sum.each([&](float& x, int j, int e) {
      if (e < 2) {
        x = sum.value[j][e + 2];
      } else {
        x = j + 1 < kTiles ? sum.value[j + 1 < kTiles ? j + 1 : j][e - 2] : own[e - 2];
      }
    });
  }
}

// Two neighbouring elements from p on, p aligned to both.
CUDAMOE_DEVICE void store_two(float* p, float left, float right) { store(p, Vector<float, 2>{left, right}); }
CUDAMOE_DEVICE void store_two(Bf16* p, float left, float right) {
  store(reinterpret_cast<uint32_t*>(p), Vector<uint32_t, 1>{ptx::pack_bf16(left, right)});
}

// Writes columns first .. first + 8 kTiles - 1, those below `columns`, of the warp's rows. rows[h] is where row lane / 4 + 8 h begins, null
// for one that is not there. A lane has two neighbouring columns of each tile; four lanes fill a 32-byte sector of f32.
template <class T, int kTiles>
CUDAMOE_DEVICE void store_sums(T* const (&rows)[2], int first, int columns, bool aligned, const FragmentSums<kTiles>& sum) {
  const int own = first + computed_here(lane_id() % 4 * 2);
  CUDAMOE_UNROLL
  for (int h = 0; h < 2; ++h) {
    if (rows[h] == nullptr) continue;
    CUDAMOE_UNROLL
    for (int j = 0; j < kTiles; ++j) {
      const int column = own + 8 * j;
      const float left = sum.value[j][2 * h], right = sum.value[j][2 * h + 1];
      if (aligned && column + 1 < columns) {
        store_two(rows[h] + column, left, right);
      } else {
        if (column < columns) rows[h][column] = from_float<T>(left);
        if (column + 1 < columns) rows[h][column + 1] = from_float<T>(right);
      }
    }
  }
}

// words[j] of lane q of four neighbouring lanes becomes words[q] of lane j.
CUDAMOE_DEVICE void transpose_of_four(uint32_t (&words)[4]) {
  const bool odd = lane_id() % 2 != 0, high = lane_id() % 4 >= 2;
  const auto swap_if = [](bool swaps, uint32_t& a, uint32_t& b) {
    const uint32_t low = swaps ? b : a;
    b = swaps ? a : b;
    a = low;
  };
  // words[i] shall be what lane q ^ i has for lane q: own words by i, then each is exchanged with that lane.
  swap_if(odd, words[0], words[1]);
  swap_if(odd, words[2], words[3]);
  swap_if(high, words[0], words[2]);
  swap_if(high, words[1], words[3]);
  CUDAMOE_UNROLL
  for (int i = 1; i < 4; ++i) words[i] = shuffle_xor(kFullWarp, words[i], i);
  swap_if(high, words[0], words[2]);
  swap_if(high, words[1], words[3]);
  swap_if(odd, words[0], words[1]);
  swap_if(odd, words[2], words[3]);
}

// The same for rows of bf16 that are aligned to 16 bytes and whole multiples of it: a lane gets the eight columns of every fourth tile, so
// that four lanes write 64 bytes of a row. Every lane of the warp takes part.
template <int kTiles>
CUDAMOE_DEVICE void store_sums_wide(Bf16* const (&rows)[2], int first, int columns, const FragmentSums<kTiles>& sum) {
  static_assert(kTiles % 4 == 0);
  const int own = first + lane_id() % 4 * 8;
  CUDAMOE_UNROLL
  for (int h = 0; h < 2; ++h) {
    CUDAMOE_UNROLL
    for (int j = 0; j < kTiles; j += 4) {
      uint32_t words[4];
      CUDAMOE_UNROLL
      for (int i = 0; i < 4; ++i) words[i] = ptx::pack_bf16(sum.value[j + i][2 * h], sum.value[j + i][2 * h + 1]);
      transpose_of_four(words);
      const int column = own + 8 * j;
      if (rows[h] != nullptr && column < columns)
        store(reinterpret_cast<uint32_t*>(rows[h] + column), Vector<uint32_t, 4>{words[0], words[1], words[2], words[3]});
    }
  }
}

}  // namespace cudamoe::kernels
