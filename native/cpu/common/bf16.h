// bf16, one value at a time: the upper half of an f32, rounded to nearest even, NaN kept.
#pragma once

#include <bit>
#include <cstdint>

namespace cudamoe::cpu {

// An element of a matrix of type CUDAMOE_BF16.
struct Bf16 {
  uint16_t bits;
};
static_assert(sizeof(Bf16) == 2);

// Two consecutive elements of a sum's depth, as bf16 instructions take them.
struct Bf16Pair {
  Bf16 low, high;
};
static_assert(sizeof(Bf16Pair) == 4);

inline float to_f32(float value) { return value; }
inline float to_f32(Bf16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }

inline Bf16 to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
    return {static_cast<uint16_t>((bits >> 16) | 0x40u)};  // a NaN whose upper half might be that of infinity
  return {static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

}  // namespace cudamoe::cpu
