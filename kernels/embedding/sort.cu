// A pass of a stable radix sort of keys by their upper half, least significant digit first; only the digits that rows can have are sorted.
//
// Floor: a pass reads each key twice and writes it once, 24 bytes (the first pass's counts come from the kernel that makes the keys).
// Tiling: a block of 256 threads per tile of 1024 or 4096 keys (embedding_sort_tile). histogram counts the digits of each tile; scan takes
// 32 digits a block, a digit a lane and a part of the tiles a warp, so that all its accesses are of whole lines; scatter ranks the keys of
// a tile (those of a warp lie side by side, so lanes ascending within 32 keys ascending is the keys' order), puts them in the order of
// their digits in shared memory and writes them from there, so that keys of a digit go out side by side.
// Shared memory: scatter 8 bytes a key and 10 KiB, scan 4 KiB, histogram 1 KiB. All sums are of integers; places follow from counts alone.
#include "common/block_scan.cuh"
#include "embedding/sort.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kWarps = kEmbeddingThreads / kWarp;
constexpr int kScanWarps = 32;

template <int kItems>
CUDAMOE_KERNEL(kEmbeddingThreads, 4)
histogram_kernel(const CUDAMOE_GRID_CONSTANT SortPass pass, const uint64_t* keys) {
  const int64_t tile = block_x();
  count_digits<kItems>(pass, tile, [&](int i) { return keys[tile * kItems * kEmbeddingThreads + i]; });
}

CUDAMOE_KERNEL(kScanWarps* kWarp, 1) scan_kernel(const CUDAMOE_GRID_CONSTANT SortPass pass, int64_t tiles) {
  CUDAMOE_SHARED(uint32_t, sums, [kScanWarps][kWarp]);
  const int digit = block_x() * kWarp + lane_id();
  const bool inside = digit < 1 << pass.digit_bits;
  const int64_t part = ceil_divide<int64_t>(tiles, kScanWarps), begin = warp_id() * part;
  const int64_t end = begin + part < tiles ? begin + part : tiles;
  uint32_t sum = 0;
  for (int64_t t = begin; inside && t < end; ++t) sum += pass.counts[(t << pass.digit_bits) + digit];
  sums[warp_id()][lane_id()] = sum;
  sync_block();
  uint32_t before = 0;
  for (int w = 0; w < warp_id(); ++w) before += sums[w][lane_id()];
  if (inside && warp_id() == kScanWarps - 1) pass.totals[digit] = before + sum;
  for (int64_t t = begin; inside && t < end; ++t) {
    uint32_t& count = pass.counts[(t << pass.digit_bits) + digit];
    const uint32_t own = count;
    count = before;
    before += own;
  }
}

template <int kItems>
CUDAMOE_KERNEL(kEmbeddingThreads, kItems > 4 ? 2 : 4)
scatter_kernel(const CUDAMOE_GRID_CONSTANT SortPass pass, const uint64_t* from, uint64_t* to) {
  constexpr int kTile = kItems * kEmbeddingThreads;
  CUDAMOE_SHARED(uint64_t, ordered, [kTile]);
  CUDAMOE_SHARED(uint32_t, ranks, [kWarps][kMaxDigits]);  // keys of a digit in the warp so far, then in the warps before
  CUDAMOE_SHARED(uint32_t, starts, [kMaxDigits]);         // of each digit's keys in `ordered`
  CUDAMOE_SHARED(uint32_t, places, [kMaxDigits]);         // of each digit's keys in `to`, less their place in `ordered`
  const int64_t tile = block_x(), begin = tile * kTile;
  const int count = pass.keys - begin < kTile ? static_cast<int>(pass.keys - begin) : kTile;
  const int warp = warp_id(), lane = lane_id(), own_digit = thread_x();
  CUDAMOE_UNROLL
  for (int w = 0; w < kWarps; ++w) ranks[w][own_digit] = 0;
  uint64_t key[kItems];
  CUDAMOE_UNROLL
  for (int i = 0; i < kItems; ++i) {
    const int at = (warp * kItems + i) * kWarp + lane;
    key[i] = at < count ? from[begin + at] : 0;
  }
  sync_block();

  uint32_t rank[kItems];
  CUDAMOE_UNROLL
  for (int i = 0; i < kItems; ++i) {
    const bool valid = (warp * kItems + i) * kWarp + lane < count;
    const int digit = digit_of(key[i], pass);
    const uint32_t peers = match_any(kFullWarp, valid ? static_cast<uint32_t>(digit) : ~0u);
    const uint32_t below = peers & ((1u << lane) - 1);
    uint32_t before = 0;
    if (valid) before = ranks[warp][digit];
    sync_warp();
    if (valid && below == 0) ranks[warp][digit] = before + static_cast<uint32_t>(count_ones(peers));
    sync_warp();
    rank[i] = before + static_cast<uint32_t>(count_ones(below));
  }
  sync_block();

  const bool is_digit = own_digit < 1 << pass.digit_bits;
  uint32_t keys_of_digit = 0, unused;
  CUDAMOE_UNROLL
  for (int w = 0; w < kWarps; ++w) {
    const uint32_t in_warp = ranks[w][own_digit];
    ranks[w][own_digit] = keys_of_digit;
    keys_of_digit += in_warp;
  }
  const uint32_t start = block_exclusive_sum<kEmbeddingThreads>(keys_of_digit, &unused);
  const uint32_t digits_before = block_exclusive_sum<kEmbeddingThreads>(is_digit ? pass.totals[own_digit] : 0, &unused);
  starts[own_digit] = start;
  places[own_digit] = is_digit ? digits_before + pass.counts[(tile << pass.digit_bits) + own_digit] - start : 0;
  sync_block();

  CUDAMOE_UNROLL
  for (int i = 0; i < kItems; ++i) {
    if ((warp * kItems + i) * kWarp + lane >= count) continue;
    const int digit = digit_of(key[i], pass);
    ordered[starts[digit] + ranks[warp][digit] + rank[i]] = key[i];
  }
  sync_block();
  for (int i = thread_x(); i < count; i += kEmbeddingThreads) {
    const uint64_t moved = ordered[i];
    const uint32_t place = places[digit_of(moved, pass)] + static_cast<uint32_t>(i);
    to[place] = moved;
  }
}

}  // namespace

cudaError_t embedding_histogram(const SortPass& pass, const uint64_t* keys, cudaStream_t stream) {
  return with_sort_items(pass.keys, [&](auto items, int tiles) {
    return launch({.name = "embedding_histogram", .grid = {tiles}, .block = {kEmbeddingThreads}, .stream = stream},
                  histogram_kernel<decltype(items)::value>, pass, keys);
  });
}

cudaError_t embedding_scan(const SortPass& pass, cudaStream_t stream) {
  const int64_t tile = embedding_sort_tile(pass.keys);
  const int blocks = ceil_divide(1 << pass.digit_bits, kWarp);
  return launch({.name = "embedding_scan", .grid = {blocks}, .block = {kScanWarps * kWarp}, .stream = stream}, scan_kernel, pass,
                ceil_divide(pass.keys, tile));
}

cudaError_t embedding_scatter(const SortPass& pass, const uint64_t* from, uint64_t* to, cudaStream_t stream) {
  return with_sort_items(pass.keys, [&](auto items, int tiles) {
    return launch({.name = "embedding_scatter", .grid = {tiles}, .block = {kEmbeddingThreads}, .stream = stream},
                  scatter_kernel<decltype(items)::value>, pass, from, to);
  });
}

}  // namespace cudamoe::kernels
