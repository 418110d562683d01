// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", 2011): a counter-based generator. The same
// key and counter give the same 128 bits on every backend, whichever thread asks for them.
#pragma once

#include "common/target.cuh"

namespace cudamoe::kernels {

struct Philox {
  uint32_t word[4];
};

CUDAMOE_DEVICE Philox philox(uint32_t key0, uint32_t key1, Philox counter) {
  CUDAMOE_UNROLL
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter.word[0], product1 = uint64_t{0xCD9E8D57u} * counter.word[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0, static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1, static_cast<uint32_t>(product0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

}  // namespace cudamoe::kernels
