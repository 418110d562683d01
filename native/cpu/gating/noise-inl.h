// The noise of a noisy gate: standard normal numbers that depend on (seed, step, sample, gate, expert) alone.
//
// Philox4x32-10 (Salmon et al. 2011) with key = seed and counter = (sample[31:0], sample[47:32] | step[47:32] << 16, step[31:0],
// gate * ceil(experts / 4) + expert / 4) gives four words w for four neighbouring experts; Box-Muller makes two normals of two
// words: r = sqrt(-2 ln u), u = (floor(w0 / 2^9) + 1/2) / 2^23, angle = 2 pi floor(w1 / 2^8) / 2^24; r cos(angle), r sin(angle).
// Their size is at most 5.77. Logarithm, sine and cosine are within 4 ulp, so other backends agree to some 1e-6.
#if defined(CUDAMOE_CPU_GATING_NOISE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CUDAMOE_CPU_GATING_NOISE_INL_H
#undef CUDAMOE_CPU_GATING_NOISE_INL_H
#else
#define CUDAMOE_CPU_GATING_NOISE_INL_H
#endif

#include <hwy/highway.h>

#include "cpu/common/vector-inl.h"
#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

using U32 = hn::RebindToUnsigned<F32>;
using VecU32 = hn::Vec<U32>;

// The upper halves of a * factor.
HWY_INLINE VecU32 multiply_high(VecU32 a, VecU32 factor) {
  const U32 d;
  const hn::RepartitionToWide<U32> d64;
  const auto even = hn::ShiftRight<32>(hn::MulEven(a, factor));
  const auto odd = hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(d64, a))), factor);
  return hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, even));
}

struct PhiloxCounter {
  VecU32 word[4];
};

HWY_INLINE PhiloxCounter philox(PhiloxCounter c, uint64_t seed) {
  const U32 d;
  const VecU32 m0 = hn::Set(d, 0xD2511F53u), m1 = hn::Set(d, 0xCD9E8D57u);
  auto key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const VecU32 high0 = multiply_high(c.word[0], m0), high1 = multiply_high(c.word[2], m1);
    const VecU32 low0 = hn::Mul(c.word[0], m0), low1 = hn::Mul(c.word[2], m1);
    c.word[0] = hn::Xor(hn::Xor(high1, c.word[1]), hn::Set(d, key0));
    c.word[1] = low1;
    c.word[2] = hn::Xor(hn::Xor(high0, c.word[3]), hn::Set(d, key1));
    c.word[3] = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return c;
}

HWY_INLINE void box_muller(VecU32 w0, VecU32 w1, VecF32* first, VecF32* second) {
  const F32 d;
  const hn::RebindToSigned<F32> di;
  const VecF32 step = hn::Set(d, 0x1p-23f);
  const VecF32 u = hn::Mul(hn::Add(hn::ConvertTo(d, hn::BitCast(di, hn::ShiftRight<9>(w0))), hn::Set(d, 0.5f)), step);
  const VecF32 angle = hn::Mul(hn::ConvertTo(d, hn::BitCast(di, hn::ShiftRight<8>(w1))), hn::Set(d, 0x1p-24f * 6.283185307f));
  const VecF32 r = hn::Sqrt(hn::Mul(hn::Log(d, u), hn::Set(d, -2.0f)));
  *first = hn::Mul(r, hn::Cos(d, angle));
  *second = hn::Mul(r, hn::Sin(d, angle));
}

// The step of a gate's arguments, or that which they point to.
template <class Args>
int64_t step_of_noise(const Args& args) {
  return args.numbers != nullptr ? args.numbers->step : args.step;
}

// noise [experts rounded up to 4][kLanes] of the samples sample .. sample + kLanes - 1.
inline void gate_noise(uint64_t seed, int64_t step, int64_t sample, int64_t gate, int64_t experts, float* HWY_RESTRICT noise) {
  const U32 d;
  const auto s = static_cast<uint64_t>(step);
  HWY_ALIGN uint32_t low[kLanes], high[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) {
    const auto at = static_cast<uint64_t>(sample + i);
    low[i] = static_cast<uint32_t>(at);
    high[i] = static_cast<uint32_t>(((at >> 32) & 0xFFFFu) | (((s >> 32) & 0xFFFFu) << 16));
  }
  const int64_t quads = (experts + 3) / 4;
  for (int64_t quad = 0; quad < quads; ++quad) {
    const PhiloxCounter counter{{hn::Load(d, low), hn::Load(d, high), hn::Set(d, static_cast<uint32_t>(s)),
                                 hn::Set(d, static_cast<uint32_t>(gate * quads + quad))}};
    const PhiloxCounter words = philox(counter, seed);
    VecF32 normal[4];
    box_muller(words.word[0], words.word[1], &normal[0], &normal[1]);
    box_muller(words.word[2], words.word[3], &normal[2], &normal[3]);
    for (int64_t i = 0; i < 4; ++i) hn::Store(normal[i], F32(), noise + (4 * quad + i) * kLanes);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // CUDAMOE_CPU_GATING_NOISE_INL_H
