// bf16: the upper half of an f32. Rounding is to nearest even in this one place; a NaN stays one.
#pragma once

#include "common/math.cuh"
#include "common/target.cuh"

namespace cudamoe::kernels {

struct Bf16 {
  uint16_t bits;
};

CUDAMOE_DEVICE float to_float(float x) { return x; }
CUDAMOE_DEVICE float to_float(Bf16 x) { return float_of_bits(static_cast<uint32_t>(x.bits) << 16); }

CUDAMOE_DEVICE Bf16 to_bf16(float x) {
  const uint32_t bits = bits_of(x);
  if (is_nan(x)) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

// The halves of two in a register (ptx/convert.cuh).
CUDAMOE_DEVICE float low_bf16(uint32_t packed) { return float_of_bits(packed << 16); }
CUDAMOE_DEVICE float high_bf16(uint32_t packed) { return float_of_bits(packed & 0xFFFF0000u); }

template <class T>
CUDAMOE_DEVICE T from_float(float x);
template <>
CUDAMOE_DEVICE float from_float<float>(float x) {
  return x;
}
template <>
CUDAMOE_DEVICE Bf16 from_float<Bf16>(float x) {
  return to_bf16(x);
}

}  // namespace cudamoe::kernels
