// Products of a tile of kTileRows rows with a block of up to kKeyBlock keys.
//
// A block of keys is held in two forms, both padded with zeros: by rows, [kKeyBlock][padded width], for sums over keys; and by lanes,
// [kKeyBlock / kLanes][padded width][kLanes], for scores, where each key has a lane of its own.
#if defined(CUDAMOE_CPU_ATTENTION_BLOCKS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CUDAMOE_CPU_ATTENTION_BLOCKS_INL_H
#undef CUDAMOE_CPU_ATTENTION_BLOCKS_INL_H
#else
#define CUDAMOE_CPU_ATTENTION_BLOCKS_INL_H
#endif

#include <hwy/highway.h>

#include <cstring>

#include "cpu/attention/attention.h"
#include "cpu/common/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

// Vectors of a block are taken in pairs.
static_assert(kKeyBlock % (2 * kLanes) == 0);

// `count` rows of `width` columns, and zero rows up to a whole pair of vectors.
inline void pack_rows(const float* from, int64_t stride, int64_t count, int64_t width, float* rows) {
  const int64_t padded = padded_width(static_cast<int32_t>(width));
  for (int64_t j = 0; j < count; ++j) {
    std::memcpy(rows + j * padded, from + j * stride, static_cast<size_t>(width) * sizeof(float));
    std::memset(rows + j * padded + width, 0, static_cast<size_t>(padded - width) * sizeof(float));
  }
  const int64_t whole = (count + 2 * kLanes - 1) / (2 * kLanes) * (2 * kLanes);
  std::memset(rows + count * padded, 0, static_cast<size_t>((whole - count) * padded) * sizeof(float));
}

// The rows that pack_rows made, by lanes.
inline void rows_to_key_lanes(const float* rows, int64_t count, int64_t padded, float* lanes) {
  const int64_t vectors = (count + 2 * kLanes - 1) / (2 * kLanes) * 2;
  for (int64_t v = 0; v < vectors; ++v) rows_to_lanes(rows + v * kLanes * padded, padded, kLanes, padded, lanes + v * padded * kLanes);
}

// out[r][j] = <x[r], key j>, [kTileRows][kKeyBlock], for the keys of a block by lanes. Sums: ascending columns.
inline void multiply_by_keys(const float* const (&x)[kTileRows], int64_t width, const float* lanes, int64_t padded, int64_t count,
                             float* out) {
  const F32 d;
  for (int64_t v = 0; v * kLanes < count; v += 2) {
    const float* first = lanes + v * padded * kLanes;
    const float* second = first + padded * kLanes;
    VecF32 sums[kTileRows][2];
    for (int64_t r = 0; r < kTileRows; ++r) sums[r][0] = sums[r][1] = hn::Zero(d);
    for (int64_t i = 0; i < width; ++i) {
      const VecF32 a = hn::Load(d, first + i * kLanes), b = hn::Load(d, second + i * kLanes);
      for (int64_t r = 0; r < kTileRows; ++r) {
        const VecF32 value = hn::Set(d, x[r][i]);
        sums[r][0] = hn::MulAdd(value, a, sums[r][0]);
        sums[r][1] = hn::MulAdd(value, b, sums[r][1]);
      }
    }
    for (int64_t r = 0; r < kTileRows; ++r) {
      hn::Store(sums[r][0], d, out + r * kKeyBlock + v * kLanes);
      hn::Store(sums[r][1], d, out + r * kKeyBlock + (v + 1) * kLanes);
    }
  }
}

// How many keys of a block each row of a tile sees; rows that are not there see none.
struct Seen {
  int64_t keys[kTileRows];

  int64_t most() const { return std::max(std::max(keys[0], keys[1]), std::max(keys[2], keys[3])); }
  // Seen by all rows: what is done for these keys is done for the whole tile.
  int64_t least() const { return std::min(std::min(keys[0], keys[1]), std::min(keys[2], keys[3])); }
};

// sums[r] += sum of factors[r][j] * rows[j] over the keys that row r sees, in ascending order. factors [kTileRows][kKeyBlock], sums
// [kTileRows][padded].
inline void add_rows(const float* factors, const Seen& seen, const float* rows, int64_t padded, float* sums) {
  const F32 d;
  const int64_t shared = seen.least();
  for (int64_t c = 0; c < padded && shared > 0; c += kLanes) {
    VecF32 total[kTileRows];
    for (int64_t r = 0; r < kTileRows; ++r) total[r] = hn::Load(d, sums + r * padded + c);
    for (int64_t j = 0; j < shared; ++j) {
      const VecF32 row = hn::Load(d, rows + j * padded + c);
      for (int64_t r = 0; r < kTileRows; ++r) total[r] = hn::MulAdd(hn::Set(d, factors[r * kKeyBlock + j]), row, total[r]);
    }
    for (int64_t r = 0; r < kTileRows; ++r) hn::Store(total[r], d, sums + r * padded + c);
  }
  for (int64_t r = 0; r < kTileRows; ++r) {
    for (int64_t c = 0; c < padded && shared < seen.keys[r]; c += kLanes) {
      VecF32 total = hn::Load(d, sums + r * padded + c);
      for (int64_t j = shared; j < seen.keys[r]; ++j)
        total = hn::MulAdd(hn::Set(d, factors[r * kKeyBlock + j]), hn::Load(d, rows + j * padded + c), total);
      hn::Store(total, d, sums + r * padded + c);
    }
  }
}

// sums[j] += sum of factors[r][j] * x[r] over the rows r that see key j, in ascending order. x [kTileRows][padded], sums
// [kKeyBlock][padded].
inline void add_to_keys(const float* factors, const Seen& seen, const float* x, int64_t padded, float* sums) {
  const F32 d;
  const int64_t shared = seen.least(), most = seen.most();
  for (int64_t c = 0; c < padded; c += kLanes) {
    VecF32 value[kTileRows];
    for (int64_t r = 0; r < kTileRows; ++r) value[r] = hn::Load(d, x + r * padded + c);
    for (int64_t j = 0; j < shared; ++j) {
      VecF32 total = hn::Load(d, sums + j * padded + c);
      for (int64_t r = 0; r < kTileRows; ++r) total = hn::MulAdd(hn::Set(d, factors[r * kKeyBlock + j]), value[r], total);
      hn::Store(total, d, sums + j * padded + c);
    }
    for (int64_t j = shared; j < most; ++j) {
      VecF32 total = hn::Load(d, sums + j * padded + c);
      for (int64_t r = 0; r < kTileRows; ++r) {
        if (j < seen.keys[r]) total = hn::MulAdd(hn::Set(d, factors[r * kKeyBlock + j]), value[r], total);
      }
      hn::Store(total, d, sums + j * padded + c);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // CUDAMOE_CPU_ATTENTION_BLOCKS_INL_H
