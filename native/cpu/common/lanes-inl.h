// A block of up to kLanes rows turned so that each row has a lane of its own: [rows][columns] <-> [columns][kLanes].
//
// Four columns at a time: 128-bit pieces of the rows i, i + 4, i + 8, ... are gathered into one vector and the 4 x 4 blocks are
// transposed in registers.
#if defined(CUDAMOE_CPU_COMMON_LANES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CUDAMOE_CPU_COMMON_LANES_INL_H
#undef CUDAMOE_CPU_COMMON_LANES_INL_H
#else
#define CUDAMOE_CPU_COMMON_LANES_INL_H
#endif

#include <hwy/highway.h>

#include "cpu/common/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

static_assert(kLanes % 4 == 0);

// Block b of the answer is the 128 bits at from + b * 4 * row_stride.
template <class D>
HWY_INLINE hn::Vec<D> load_pieces(D d, const float* from, int64_t row_stride) {
  if constexpr (hn::MaxLanes(D()) == 4) {
    return hn::LoadU(d, from);
  } else {
    const hn::Half<D> half;
    const int64_t upper = static_cast<int64_t>(hn::MaxLanes(half)) * row_stride;
    return hn::Combine(d, load_pieces(half, from + upper, row_stride), load_pieces(half, from, row_stride));
  }
}

template <class D>
HWY_INLINE void store_pieces(D d, hn::Vec<D> v, float* to, int64_t row_stride) {
  if constexpr (hn::MaxLanes(D()) == 4) {
    hn::StoreU(v, d, to);
  } else {
    const hn::Half<D> half;
    const int64_t upper = static_cast<int64_t>(hn::MaxLanes(half)) * row_stride;
    store_pieces(half, hn::LowerHalf(half, v), to, row_stride);
    store_pieces(half, hn::UpperHalf(half, v), to + upper, row_stride);
  }
}

// Transposes the 4 x 4 blocks at the same place of four vectors.
HWY_INLINE void transpose_blocks(VecF32 (&v)[4]) {
  const F32 d;
  const hn::RepartitionToWide<F32> d64;
  const auto low01 = hn::BitCast(d64, hn::InterleaveLower(d, v[0], v[1])), high01 = hn::BitCast(d64, hn::InterleaveUpper(d, v[0], v[1]));
  const auto low23 = hn::BitCast(d64, hn::InterleaveLower(d, v[2], v[3])), high23 = hn::BitCast(d64, hn::InterleaveUpper(d, v[2], v[3]));
  v[0] = hn::BitCast(d, hn::InterleaveLower(d64, low01, low23));
  v[1] = hn::BitCast(d, hn::InterleaveUpper(d64, low01, low23));
  v[2] = hn::BitCast(d, hn::InterleaveLower(d64, high01, high23));
  v[3] = hn::BitCast(d, hn::InterleaveUpper(d64, high01, high23));
}

// from[lane * row_stride]; kLanes strides are below 2^31.
template <class D>
HWY_INLINE hn::Vec<D> column_of_rows(D d, const hn::TFromD<D>* from, int64_t row_stride) {
  const hn::RebindToSigned<F32> di;
  return hn::GatherIndex(d, from, hn::Mul(hn::Iota(di, 0), hn::Set(di, static_cast<int32_t>(row_stride))));
}

// Lanes from `rows` on become 0. A row stride is at most 2^26.
HWY_INLINE void rows_to_lanes(const float* from, int64_t row_stride, int64_t rows, int64_t columns, float* HWY_RESTRICT lanes) {
  int64_t c = 0;
  if (rows == kLanes) {
    for (; c + 4 <= columns; c += 4) {
      VecF32 v[4];
      for (int64_t i = 0; i < 4; ++i) v[i] = load_pieces(F32(), from + i * row_stride + c, row_stride);
      transpose_blocks(v);
      for (int64_t i = 0; i < 4; ++i) hn::Store(v[i], F32(), lanes + (c + i) * kLanes);
    }
  }
  if (rows == kLanes) {
    for (; c < columns; ++c) hn::Store(column_of_rows(F32(), from + c, row_stride), F32(), lanes + c * kLanes);
  }
  for (; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r) lanes[c * kLanes + r] = from[r * row_stride + c];
    for (int64_t r = rows; r < kLanes; ++r) lanes[c * kLanes + r] = 0;
  }
}

HWY_INLINE void lanes_to_rows(const float* HWY_RESTRICT lanes, int64_t rows, int64_t columns, float* to, int64_t row_stride) {
  int64_t c = 0;
  if (rows == kLanes) {
    for (; c + 4 <= columns; c += 4) {
      VecF32 v[4];
      for (int64_t i = 0; i < 4; ++i) v[i] = hn::Load(F32(), lanes + (c + i) * kLanes);
      transpose_blocks(v);
      for (int64_t i = 0; i < 4; ++i) store_pieces(F32(), v[i], to + i * row_stride + c, row_stride);
    }
  }
  for (; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r) to[r * row_stride + c] = lanes[c * kLanes + r];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // CUDAMOE_CPU_COMMON_LANES_INL_H
