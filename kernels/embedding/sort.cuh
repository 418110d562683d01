// A digit of a key, and the keys of a block of the sort.
#pragma once

#include "common/kernel.cuh"
#include "embedding/embedding.h"

namespace cudamoe::kernels {

CUDAMOE_DEVICE int digit_of(uint64_t key, const SortPass& pass) {
  return static_cast<int>(key >> (32 + pass.shift)) & ((1 << pass.digit_bits) - 1);
}

inline constexpr int kMaxDigits = 1 << kMaxDigitBits;
static_assert(kMaxDigits == kEmbeddingThreads, "a thread a digit");

// counts[tile, digit] = the keys of the block that have the digit; key(i) is the i-th key of the tile. The order of the additions, on
// integers, cannot be seen.
template <int kItems, class Key>
CUDAMOE_DEVICE void count_digits(const SortPass& pass, int64_t tile, Key&& key) {
  CUDAMOE_SHARED(uint32_t, histogram, [kMaxDigits]);
  histogram[thread_x()] = 0;
  sync_block();
  constexpr int kTile = kItems * kEmbeddingThreads;
  CUDAMOE_UNROLL
  for (int i = thread_x(); i < kTile; i += kEmbeddingThreads) {
    if (tile * kTile + i < pass.keys) atomic_add(&histogram[digit_of(key(i), pass)], 1u);
  }
  sync_block();
  if (thread_x() < 1 << pass.digit_bits) pass.counts[(tile << pass.digit_bits) + thread_x()] = histogram[thread_x()];
}

// Calls use(std::integral_constant) with the keys of a thread, and the number of tiles.
template <class Use>
cudaError_t with_sort_items(int64_t keys, Use&& use) {
  const int64_t tile = embedding_sort_tile(keys);
  const int tiles = static_cast<int>((keys + tile - 1) / tile);
  if (tile == 4 * kEmbeddingThreads) return use(std::integral_constant<int, 4>(), tiles);
  return use(std::integral_constant<int, 16>(), tiles);
}

}  // namespace cudamoe::kernels
