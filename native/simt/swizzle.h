// How TMA and wgmma permute the 16-byte units of shared memory so that rows and columns meet no bank twice.
#pragma once

#include <cstdint>

namespace cudamoe::simt {

// Bits 4 to 6 of an address in shared memory, xor its bits 7 to 9; as many of them as the swizzle has.
inline uint32_t swizzled(uint32_t address, int swizzle_bytes) {
  const uint32_t mask = swizzle_bytes == 128 ? 7u : swizzle_bytes == 64 ? 3u : swizzle_bytes == 32 ? 1u : 0u;
  return address ^ ((address >> 7 & mask) << 4);
}

}  // namespace cudamoe::simt
