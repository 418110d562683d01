// Sorts samples by all the experts that they have chosen, and cuts each list's samples into tiles of rows: a stable sort by counting.
//
//   count   keys[i] = the list of item i and its rank among those of its block with the same; counts[list][block]
//   sum     counts become sums over the blocks before, totals[list]
//   place   items[] in the order of lists, and for every kExpertRows-th item of a list its tile
//
// Floor: 4 bytes a chosen number, 4 an item written. Tiling: a block of 512 threads per 512 items; a rank is a match within the warp and a
// comparison with the keys of the warps before, eight in a 16-byte read. Then a warp per list. Shared memory: 17 KiB, place 32 KiB (where
// each list and its tiles begin). Integers only; the counts of a block are by atomics, whose order is not seen.
#include "common/block_scan.cuh"
#include "common/warp_scan.cuh"
#include "expert/expert.h"
#include "expert/keys.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = static_cast<int>(kExpertListItems), kWarpsOfBlock = kThreads / kWarp;
constexpr int kRankShift = 16;
static_assert(kExpertMostLists <= 1 << kRankShift && kThreads <= 1 << 15);

CUDAMOE_KERNEL(kThreads, 2) count_kernel(const CUDAMOE_GRID_CONSTANT ExpertLists lists) {
  CUDAMOE_SHARED(uint32_t, counts, [kExpertMostLists]);
  CUDAMOE_SHARED_ALIGNED(16, uint16_t, keys, [kThreads]);
  const int64_t item = int64_t{block_x()} * kThreads + thread_x();
  const bool inside = item < lists.items;
  for (int list = thread_x(); list < lists.lists; list += kThreads) counts[list] = 0;
  int key = 0xFFFF;
  if (inside) key = list_of_choices(lists.chosen, item * lists.choices, lists.choices, lists.experts, lists.offender);
  keys[thread_x()] = static_cast<uint16_t>(key);
  sync_block();
  const uint32_t same = match_any(kFullWarp, static_cast<uint32_t>(key)), before = same & ((1u << lane_id()) - 1);
  if (inside && before == 0) atomic_add(&counts[key], static_cast<uint32_t>(count_ones(same)));
  int rank = count_ones(before);
  for (int other = 0; other < warp_id() * kWarp; other += 8) {
    const Vector<uint16_t, 8> eight = load<8>(keys + other);
    CUDAMOE_UNROLL
    for (int i = 0; i < 8; ++i) rank += eight[i] == key ? 1 : 0;
  }
  if (inside) lists.keys[item] = key | rank << kRankShift;
  sync_block();
  for (int list = thread_x(); list < lists.lists; list += kThreads) lists.counts[list * lists.blocks() + block_x()] = counts[list];
  if (thread_x() == 0) report_choices(lists.chosen, 0, lists.experts, lists.offender, lists.report);
}

CUDAMOE_KERNEL(kThreads, 2) sum_kernel(const CUDAMOE_GRID_CONSTANT ExpertLists lists) {
  const int list = block_x() * kWarpsOfBlock + warp_id();
  if (list >= lists.lists) return;
  const uint32_t total = warp_exclusive_sums(lists.counts + list * lists.blocks(), lists.blocks());
  if (lane_id() == 0) lists.totals[list] = total;
}

CUDAMOE_KERNEL(kThreads, 2) place_kernel(const CUDAMOE_GRID_CONSTANT ExpertLists lists) {
  CUDAMOE_SHARED(uint32_t, first_item, [kExpertMostLists]);
  CUDAMOE_SHARED(uint32_t, first_tile, [kExpertMostLists]);
  const int64_t item = int64_t{block_x()} * kThreads + thread_x();
  const int packed = item < lists.items ? lists.keys[item] : 0;
  uint32_t items = 0, tiles = 0;
  for (int begin = 0; begin < lists.lists; begin += kThreads) {
    const int list = begin + thread_x();
    const uint32_t total = list < lists.lists ? lists.totals[list] : 0u;
    uint32_t items_here = 0, tiles_here = 0;
    const uint32_t item_of = items + block_exclusive_sum<kThreads>(total, &items_here);
    const uint32_t tile_of = tiles + block_exclusive_sum<kThreads>(ceil_divide(total, uint32_t{kExpertRows}), &tiles_here);
    if (list < lists.lists) {
      first_item[list] = item_of;
      first_tile[list] = tile_of;
    }
    items += items_here;
    tiles += tiles_here;
  }
  sync_block();
  if (item == 0) lists.tile_count[0] = static_cast<int32_t>(tiles);
  if (item >= lists.items) return;
  const int list = packed & ((1 << kRankShift) - 1);
  const uint32_t in_list = lists.counts[list * lists.blocks() + block_x()] + static_cast<uint32_t>(packed >> kRankShift);
  const uint32_t place = first_item[list] + in_list;
  lists.sorted[place] = static_cast<int32_t>(item);
  if (in_list % kExpertRows != 0) return;
  const uint32_t left = lists.totals[list] - in_list;
  lists.tiles[first_tile[list] + in_list / kExpertRows] = {place, list, static_cast<int32_t>(left < kExpertRows ? left : kExpertRows)};
}

}  // namespace

cudaError_t expert_lists(const ExpertLists& lists, cudaStream_t stream) {
  if (lists.blocks() > INT32_MAX) return cudaErrorInvalidConfiguration;
  const int blocks = static_cast<int>(lists.blocks());
  const auto shape = [&](const char* name, int grid) {
    return LaunchShape{.name = name, .grid = {grid}, .block = {kThreads}, .stream = stream};
  };
  cudaError_t error = launch(shape("expert_lists_count", blocks), count_kernel, lists);
  if (error == cudaSuccess) error = launch(shape("expert_lists_sum", ceil_divide(lists.lists, kWarpsOfBlock)), sum_kernel, lists);
  if (error == cudaSuccess) error = launch(shape("expert_lists_place", blocks), place_kernel, lists);
  return error;
}

}  // namespace cudamoe::kernels
