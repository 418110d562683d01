// Multiplication of bf16 pairs by AVX512-BF16 instructions, where CUDAMOE_BF16_DOT is 1: a target with 512-bit vectors. Only code for
// the level avx512bf16 may run it.
//
// Highway 1.0.3 has no target with these instructions, and its ReorderWidenMulAccumulate widens and multiplies twice. They are written as
// assembly because the functions around them are compiled for AVX-512 without the extension.
//
// Include it after <hwy/highway.h> in a file that is compiled once for each target.
#if defined(CUDAMOE_CPU_COMMON_BF16_DOT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CUDAMOE_CPU_COMMON_BF16_DOT_INL_H
#undef CUDAMOE_CPU_COMMON_BF16_DOT_INL_H
#else
#define CUDAMOE_CPU_COMMON_BF16_DOT_INL_H
#endif

#include <hwy/highway.h>

#include <cstring>

#include "cpu/common/bf16.h"
#include "cpu/common/vector-inl.h"

#undef CUDAMOE_BF16_DOT
#if HWY_ARCH_X86_64 && HWY_TARGET <= HWY_AVX3
#define CUDAMOE_BF16_DOT 1
#else
#define CUDAMOE_BF16_DOT 0
#endif

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

// A pair in each lane, `low` in the lower half.
using VecPairs = hn::Vec<hn::RebindToUnsigned<F32>>;

HWY_INLINE VecPairs load_pairs(const Bf16Pair* from) {
  return hn::LoadU(hn::RebindToUnsigned<F32>(), reinterpret_cast<const uint32_t*>(from));
}
HWY_INLINE VecPairs broadcast_pair(const Bf16Pair* from) {
  uint32_t bits;
  std::memcpy(&bits, from, sizeof bits);
  return hn::Set(hn::RebindToUnsigned<F32>(), bits);
}
HWY_INLINE void store_pairs(VecPairs pairs, Bf16Pair* to) {
  hn::StoreU(pairs, hn::RebindToUnsigned<F32>(), reinterpret_cast<uint32_t*>(to));
}

// The halves of each pair in f32.
HWY_INLINE VecF32 low_of(F32 d, VecPairs pairs) { return hn::BitCast(d, hn::ShiftLeft<16>(pairs)); }
HWY_INLINE VecF32 high_of(F32 d, VecPairs pairs) {
  return hn::BitCast(d, hn::And(pairs, hn::Set(hn::RebindToUnsigned<F32>(), 0xFFFF0000u)));
}

#if CUDAMOE_BF16_DOT
// (sum + a.high * b.high) + a.low * b.low in each lane, rounded to nearest after each addition; subnormal operands and sums count as 0.
HWY_INLINE VecF32 dot_pairs(VecPairs a, VecPairs b, VecF32 sum) {
  __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
  return sum;
}

// `low` and then `high`, rounded to bf16: 2 * kLanes values in order.
HWY_INLINE VecPairs round_both(VecF32 low, VecF32 high) {
  VecPairs rounded;
  __asm__("vcvtne2ps2bf16 %1, %2, %0" : "=v"(rounded.raw) : "v"(low.raw), "v"(high.raw));
  return rounded;
}

// Pair i is (low[i], high[i]), rounded to bf16.
HWY_INLINE VecPairs pairs_of(VecF32 low, VecF32 high) {
  const hn::RebindToUnsigned<F32> d32;
  const auto order = hn::Iota(d32, 0) * hn::Set(d32, 0x00010001u) + hn::Set(d32, 0x00100000u);
  return VecPairs{_mm512_permutexvar_epi16(order.raw, round_both(low, high).raw)};
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // CUDAMOE_CPU_COMMON_BF16_DOT_INL_H
