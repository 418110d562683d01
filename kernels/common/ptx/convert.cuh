// Conversions of two numbers at a time.
#pragma once

#include "common/bf16.cuh"
#include "common/target.cuh"

namespace cudamoe::kernels::ptx {

// Rounded to nearest even: `low` in the lower half, as tensor-core operands want them.
CUDAMOE_DEVICE uint32_t pack_bf16(float low, float high) {
#if defined(__CUDACC__)
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
#else
  return static_cast<uint32_t>(to_bf16(low).bits) | static_cast<uint32_t>(to_bf16(high).bits) << 16;
#endif
}

}  // namespace cudamoe::kernels::ptx
