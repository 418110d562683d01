// The sums of a tensor core's accumulators, 16 rows by 32 columns a warp, to and from the rows of a matrix. With g = lane / 4 and
// t = lane % 4 a thread has, of row g (and of row g + 8), columns 8 j + 2 t and the next for j = 0 .. 3.
//
// Four lanes exchange their words so that each has eight columns in a row of bf16: accesses are of 16 bytes, 64 a row; those of f32 are of
// 8 bytes, 32 a row. Where the rows are not aligned to that, and in the last columns, they are of single elements.
#pragma once

#include "common/kernel.cuh"
#include "common/ptx/convert.cuh"

namespace cudamoe::kernels {

// Word j of lane t of four becomes word t of lane j.
CUDAMOE_DEVICE void exchange_words(uint32_t (&word)[4]) {
  const bool odd = (lane_id() & 1) != 0, high = (lane_id() & 2) != 0;
  CUDAMOE_UNROLL
  for (int i = 0; i < 4; i += 2) {
    const uint32_t other = shuffle_xor(kFullWarp, odd ? word[i] : word[i + 1], 1);
    word[i] = odd ? other : word[i];
    word[i + 1] = odd ? word[i + 1] : other;
  }
  CUDAMOE_UNROLL
  for (int i = 0; i < 2; ++i) {
    const uint32_t other = shuffle_xor(kFullWarp, high ? word[i] : word[i + 2], 2);
    word[i] = high ? other : word[i];
    word[i + 2] = high ? word[i + 2] : other;
  }
}

// Eight values of a row: columns 8 j + 2 t + i of 32.
struct RowFragment {
  float value[4][2];
};

// Fragment number `which` of the sums of 16 rows, as mma.sync and wgmma leave them: columns 32 (which / 2) on, of row g, or g + 8 where
// `which` is odd.
template <int kSums>
CUDAMOE_DEVICE RowFragment fragment_of(const float (&sum)[kSums], int which) {
  RowFragment fragment;
  CUDAMOE_UNROLL
  for (int e = 0; e < 8; ++e) fragment.value[e / 2][e % 2] = sum[which / 2 * 16 + 4 * (e / 2) + which % 2 * 2 + e % 2];
  return fragment;
}

// The words of a lane's eight columns, before they are exchanged; and what they are after that.
CUDAMOE_DEVICE Vector<uint32_t, 4> load_words(const Bf16* row, bool inside) {
  return inside ? load<4>(reinterpret_cast<const uint32_t*>(row) + lane_id() % 4 * 4) : Vector<uint32_t, 4>{};
}
CUDAMOE_DEVICE RowFragment fragment_of(const Vector<uint32_t, 4>& words) {
  uint32_t word[4] = {words[0], words[1], words[2], words[3]};
  exchange_words(word);
  RowFragment fragment;
  CUDAMOE_UNROLL
  for (int j = 0; j < 4; ++j) {
    fragment.value[j][0] = low_bf16(word[j]);
    fragment.value[j][1] = high_bf16(word[j]);
  }
  return fragment;
}
// All 32 columns of an aligned row.
CUDAMOE_DEVICE void store_whole(Bf16* row, const RowFragment& fragment, bool inside) {
  uint32_t word[4];
  CUDAMOE_UNROLL
  for (int j = 0; j < 4; ++j) word[j] = ptx::pack_bf16(fragment.value[j][0], fragment.value[j][1]);
  exchange_words(word);
  if (inside) store(reinterpret_cast<uint32_t*>(row) + lane_id() % 4 * 4, Vector<uint32_t, 4>{word[0], word[1], word[2], word[3]});
}
CUDAMOE_DEVICE void store_whole(float* row, const RowFragment& fragment, bool inside) {
  if (!inside) return;
  CUDAMOE_UNROLL
  for (int j = 0; j < 4; ++j) store(row + (8 * j + lane_id() % 4 * 2), Vector<float, 2>{fragment.value[j][0], fragment.value[j][1]});
}

// Whether the rows allow the wide accesses, when they begin at multiples of 8 columns.
CUDAMOE_DEVICE bool fragments_are_aligned(const Bf16* rows, int64_t stride) { return aligned_for<8>(rows, stride); }
CUDAMOE_DEVICE bool fragments_are_aligned(const float* rows, int64_t stride) { return aligned_for<2>(rows, stride); }

// `row` is where the 32 columns begin, `columns` how many of them there are; inside: the row exists. All lanes call these.
CUDAMOE_DEVICE RowFragment load_fragment(const Bf16* row, int columns, bool inside, bool aligned) {
  const int column = lane_id() % 4 * 8;
  uint32_t word[4] = {};
  if (inside && column < columns) {
    if (aligned && column + 8 <= columns) {
      const Vector<uint32_t, 4> eight = load<4>(reinterpret_cast<const uint32_t*>(row + column));
      CUDAMOE_UNROLL
      for (int i = 0; i < 4; ++i) word[i] = eight[i];
    } else {
      CUDAMOE_UNROLL
      for (int i = 0; i < 8; ++i) {
        if (column + i < columns) word[i / 2] |= static_cast<uint32_t>(row[column + i].bits) << i % 2 * 16;
      }
    }
  }
  exchange_words(word);
  RowFragment fragment;
  CUDAMOE_UNROLL
  for (int j = 0; j < 4; ++j) {
    fragment.value[j][0] = low_bf16(word[j]);
    fragment.value[j][1] = high_bf16(word[j]);
  }
  return fragment;
}
CUDAMOE_DEVICE RowFragment load_fragment(const float* row, int columns, bool inside, bool aligned) {
  RowFragment fragment = {};
  CUDAMOE_UNROLL
  for (int j = 0; j < 4; ++j) {
    const int column = 8 * j + lane_id() % 4 * 2;
    if (!inside || column >= columns) continue;
    if (aligned && column + 2 <= columns) {
      const Vector<float, 2> two = load<2>(row + column);
      fragment.value[j][0] = two[0];
      fragment.value[j][1] = two[1];
    } else {
      fragment.value[j][0] = row[column];
      if (column + 1 < columns) fragment.value[j][1] = row[column + 1];
    }
  }
  return fragment;
}

CUDAMOE_DEVICE void store_fragment(Bf16* row, const RowFragment& fragment, int columns, bool inside, bool aligned) {
  uint32_t word[4];
  CUDAMOE_UNROLL
  for (int j = 0; j < 4; ++j) word[j] = ptx::pack_bf16(fragment.value[j][0], fragment.value[j][1]);
  exchange_words(word);
  const int column = lane_id() % 4 * 8;
  if (!inside || column >= columns) return;
  if (aligned && column + 8 <= columns) {
    store(reinterpret_cast<uint32_t*>(row + column), Vector<uint32_t, 4>{word[0], word[1], word[2], word[3]});
    return;
  }
  CUDAMOE_UNROLL
  for (int i = 0; i < 8; ++i) {
    if (column + i < columns) row[column + i] = {static_cast<uint16_t>(word[i / 2] >> i % 2 * 16)};
  }
}
CUDAMOE_DEVICE void store_fragment(float* row, const RowFragment& fragment, int columns, bool inside, bool aligned) {
  CUDAMOE_UNROLL
  for (int j = 0; j < 4; ++j) {
    const int column = 8 * j + lane_id() % 4 * 2;
    if (!inside || column >= columns) continue;
    if (aligned && column + 2 <= columns) {
      store(row + column, Vector<float, 2>{fragment.value[j][0], fragment.value[j][1]});
    } else {
      row[column] = fragment.value[j][0];
      if (column + 1 < columns) row[column + 1] = fragment.value[j][1];
    }
  }
}

}  // namespace cudamoe::kernels
