// Loads and stores of rows of f32 or bf16 as f32 vectors of any width, so that short rows fill a short vector.
#if defined(CUDAMOE_CPU_EMBEDDING_ROWS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CUDAMOE_CPU_EMBEDDING_ROWS_INL_H
#undef CUDAMOE_CPU_EMBEDDING_ROWS_INL_H
#else
#define CUDAMOE_CPU_EMBEDDING_ROWS_INL_H
#endif

#include <hwy/highway.h>

#include "cpu/common/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

template <class D>
using Bits16 = hn::Rebind<uint16_t, D>;
template <class D>
using Bits32 = hn::RebindToUnsigned<D>;

template <class D>
HWY_INLINE hn::Vec<D> LoadRow(D d, const float* HWY_RESTRICT from) {
  return hn::LoadU(d, from);
}
template <class D>
HWY_INLINE hn::Vec<D> LoadRow(D d, const Bf16* HWY_RESTRICT from) {
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(Bits32<D>(), hn::LoadU(Bits16<D>(), reinterpret_cast<const uint16_t*>(from)))));
}

// The upper halves of 32-bit lanes.
template <class D>
HWY_INLINE hn::Vec<Bits16<D>> UpperHalves(D, hn::Vec<Bits32<D>> bits) {
  return hn::DemoteTo(Bits16<D>(), hn::BitCast(hn::RebindToSigned<D>(), hn::ShiftRight<16>(bits)));
}

// NaNs, made quiet, so that dropping their lower half leaves a NaN.
template <class D>
HWY_INLINE hn::Vec<Bits32<D>> QuietNan(D, hn::Vec<D> v, hn::Vec<Bits32<D>> otherwise) {
  const Bits32<D> u;
  const auto quiet = hn::Or(hn::BitCast(u, v), hn::Set(u, 0x400000u));
  return hn::IfThenElse(hn::RebindMask(u, hn::IsNaN(v)), quiet, otherwise);
}

// Nearest even, NaN kept.
template <class D>
HWY_INLINE hn::Vec<Bits16<D>> RoundToBf16(D d, hn::Vec<D> v) {
  const Bits32<D> u;
  const auto bits = hn::BitCast(u, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(u, 1u));
  return UpperHalves(d, QuietNan(d, v, hn::Add(bits, hn::Add(odd, hn::Set(u, 0x7FFFu)))));
}

template <class D>
HWY_INLINE void StoreRow(hn::Vec<D> v, D d, float* HWY_RESTRICT to) {
  hn::StoreU(v, d, to);
}
template <class D>
HWY_INLINE void StoreRow(hn::Vec<D> v, D d, Bf16* HWY_RESTRICT to) {
  hn::StoreU(RoundToBf16(d, v), Bits16<D>(), reinterpret_cast<uint16_t*>(to));
}

// Asks for all cache lines of `bytes` bytes (kBytes where that is not 0) at an address that need not be valid. kLocality is that of
// __builtin_prefetch: 3 for the first-level cache, 2 for the second. `straddles` is the same for all rows of a table, so that the
// branch is foreseen: whether rows may begin within a line and reach into one more.
template <int kBytes, int kLocality>
HWY_INLINE void PrefetchBytes(uintptr_t address, int64_t bytes, bool straddles) {
  const int64_t n = kBytes > 0 ? kBytes : bytes;
  for (int64_t i = 0; i < n; i += 64) __builtin_prefetch(reinterpret_cast<const void*>(address + static_cast<uintptr_t>(i)), 0, kLocality);
  if (straddles) __builtin_prefetch(reinterpret_cast<const void*>(address + static_cast<uintptr_t>(n) - 1), 0, kLocality);
}

}  // namespace cudamoe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // CUDAMOE_CPU_EMBEDDING_ROWS_INL_H
