// Vectors of f32 from and to memory that holds f32 or bf16, whole or only the first lanes, at any alignment.
//
// Include it after <hwy/highway.h> in a file that is compiled once for each target (hwy/foreach_target.h).
#if defined(CUDAMOE_CPU_COMMON_VECTOR_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CUDAMOE_CPU_COMMON_VECTOR_INL_H
#undef CUDAMOE_CPU_COMMON_VECTOR_INL_H
#else
#define CUDAMOE_CPU_COMMON_VECTOR_INL_H
#endif

#include <hwy/highway.h>

#include <cstring>

#include "cpu/common/bf16.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using VecF32 = hn::Vec<F32>;
inline constexpr int kLanes = static_cast<int>(hn::MaxLanes(F32()));

HWY_INLINE VecF32 load(F32 d, const float* from) { return hn::LoadU(d, from); }

HWY_INLINE VecF32 load(F32 d, const Bf16* from) {
  const hn::Rebind<uint16_t, F32> d16;
  const hn::RebindToUnsigned<F32> d32;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from)))));
}

HWY_INLINE void store(F32 d, VecF32 value, float* to) { hn::StoreU(value, d, to); }

// The bits of `value` rounded to bf16, in the lower half of each lane.
HWY_INLINE hn::Vec<hn::RebindToUnsigned<F32>> bf16_bits(VecF32 value) {
  const hn::RebindToUnsigned<F32> d32;
  const auto bits = hn::BitCast(d32, value);
  const auto upper = hn::ShiftRight<16>(bits);
  const auto rounded = hn::ShiftRight<16>(bits + hn::Set(d32, 0x7FFFu) + (upper & hn::Set(d32, 1u)));
  return hn::IfThenElse(hn::RebindMask(d32, hn::IsNaN(value)), upper | hn::Set(d32, 0x40u), rounded);
}

HWY_INLINE void store(F32, VecF32 value, Bf16* to) {
  const hn::Rebind<uint16_t, F32> d16;
  const hn::RebindToSigned<F32> di32;
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di32, bf16_bits(value))), d16, reinterpret_cast<uint16_t*>(to));
}

// Each lane rounded to bf16 and back.
HWY_INLINE VecF32 round_to_bf16(F32 d, VecF32 value) { return hn::BitCast(d, hn::ShiftLeft<16>(bf16_bits(value))); }

// The first `count` lanes, 0 <= count <= kLanes; nothing else is touched. A load gives 0 in the other lanes.
HWY_INLINE VecF32 load_first(F32 d, const float* from, int64_t count) {
#if HWY_TARGET <= HWY_AVX2
  return hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(count)), d, from);
#else
  HWY_ALIGN float lanes[kLanes] = {};
  std::memcpy(lanes, from, static_cast<size_t>(count) * sizeof(float));
  return hn::Load(d, lanes);
#endif
}

HWY_INLINE VecF32 load_first(F32 d, const Bf16* from, int64_t count) {
  HWY_ALIGN Bf16 lanes[kLanes] = {};
  std::memcpy(static_cast<void*>(lanes), from, static_cast<size_t>(count) * sizeof(Bf16));
  return load(d, lanes);
}

HWY_INLINE void store_first(F32 d, VecF32 value, float* to, int64_t count) {
#if HWY_TARGET <= HWY_AVX2
  hn::BlendedStore(value, hn::FirstN(d, static_cast<size_t>(count)), d, to);
#else
  HWY_ALIGN float lanes[kLanes];
  hn::Store(value, d, lanes);
  std::memcpy(to, lanes, static_cast<size_t>(count) * sizeof(float));
#endif
}

HWY_INLINE void store_first(F32 d, VecF32 value, Bf16* to, int64_t count) {
  HWY_ALIGN Bf16 lanes[kLanes];
  store(d, value, lanes);
  std::memcpy(static_cast<void*>(to), lanes, static_cast<size_t>(count) * sizeof(Bf16));
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#endif
