// A digit of a key, and the keys of a block of the sort.
#pragma once

#include "common/kernel.cuh"
#include "embedding/embedding.h"
#include "embedding/tiles.cuh"

namespace cudamoe::kernels {

inline constexpr int kMaxDigits = 1 << kMaxDigitBits;
static_assert(kMaxDigits == kSortThreads, "a thread a digit");

CUDAMOE_DEVICE int digit_of_row(uint32_t row, const SortPass& pass) {
  return static_cast<int>(row >> pass.shift) & ((1 << pass.digit_bits) - 1);
}
CUDAMOE_DEVICE int digit_of(uint64_t key, const SortPass& pass) { return digit_of_row(static_cast<uint32_t>(key >> 32), pass); }

CUDAMOE_DEVICE uint32_t* count_of(const SortPass& pass, const PlanTable& table, const SortTile& tile, int digit) {
  return pass.counts + (int64_t{table.first_sort_tile} << pass.digit_bits) + digit * tile.tiles + tile.index;
}

// Calls use(std::integral_constant) with the keys of a thread.
template <class Use>
cudaError_t with_sort_items(const SortPass& pass, Use&& use) {
  switch (pass.tile / kSortThreads) {
    case 2:
      return use(std::integral_constant<int, 2>());
    case 4:
      return use(std::integral_constant<int, 4>());
    default:
      return use(std::integral_constant<int, 8>());
  }
}

}  // namespace cudamoe::kernels
