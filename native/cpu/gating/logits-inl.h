// logits[r, :] = x[r, :] * W^T + bias for a few rows, with the register tile and the packed weights of the gemm family.
#if defined(CUDAMOE_CPU_GATING_LOGITS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CUDAMOE_CPU_GATING_LOGITS_INL_H
#undef CUDAMOE_CPU_GATING_LOGITS_INL_H
#else
#define CUDAMOE_CPU_GATING_LOGITS_INL_H
#endif

#include <hwy/highway.h>

#include <algorithm>

#include "cpu/common/vector-inl.h"
#include "cpu/gating/gating.h"
#include "cpu/gemm/layout.h"
#include "cpu/gemm/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

static_assert(kTileRows <= kMostTileRows && kPanel <= 2 * kMostLanes);

// Copies part of a row into the scratch of the left operand, and asks for the same part of the row at `next`, unless that is null.
HWY_INLINE void copy_part(const float* from, int64_t count, const float* next, float* HWY_RESTRICT to) {
  const F32 d;
  int64_t t = 0;
  for (; t + kLanes <= count; t += kLanes) {
    if (next != nullptr) __builtin_prefetch(next + t, 0, 2);
    hn::Store(load(d, from + t), d, to + t);
  }
  if (t < count) hn::Store(load_first(d, from + t, count - t), d, to + t);  // the scratch has room for a whole vector more
}

// Rows first .. first + rows - 1 of x give logits [rows, columns]; rows up to `last` of x will follow. `scratch` has
// kMostTileRows * kRowScratchStride floats, `sums` kMostTileRows rows of whole panels.
inline void gate_logits(const cudamoe_gate_forward_args& args, int64_t first, int64_t rows, int64_t last, float* logits, float* scratch,
                        float* sums) {
  const int64_t columns = gate_columns(args), panels = divide_up(columns, kPanel);
  const int64_t tiles = divide_up(rows, kTileRows), depth_blocks = divide_up(args.k_in, kDepthBlock);
  const auto part = [&](int64_t row, int64_t block) {
    return static_cast<const float*>(args.x) + row * args.x_row_stride + part_begin(args.k_in, depth_blocks, block);
  };
  Prefetcher prefetcher;
  PrefetchRow ahead[kTileRows];
  prefetcher.at = reinterpret_cast<const char*>(scratch);  // until it is started
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t row = part_begin(rows, tiles, tile);
    const int tile_rows = static_cast<int>(part_begin(rows, tiles, tile + 1) - row);
    for (int64_t block = 0; block < depth_blocks; ++block) {
      const int64_t begin = part_begin(args.k_in, depth_blocks, block);
      const int64_t depth = part_begin(args.k_in, depth_blocks, block + 1) - begin;
      // The next part of this tile, or the first part of the next tile, is fetched meanwhile: a line in two steps of depth of each
      // panel while this one multiplies, the rows that this leaves while it is copied.
      const bool same_tile = block + 1 < depth_blocks;
      const int64_t next_row = first + row + (same_tile ? 0 : tile_rows), lines = divide_up(depth, 16);
      const int64_t next_rows = std::clamp<int64_t>(last - next_row, 0, tile_rows);
      const int64_t multiplied = std::min<int64_t>(next_rows, panels * depth / 2 / lines);
      for (int64_t i = 0; i < next_rows; ++i) ahead[i] = {part(next_row + i, same_tile ? block + 1 : 0), lines};
      prefetcher.start(ahead, multiplied);
      for (int64_t i = 0; i < tile_rows; ++i) {
        const float* next = multiplied + i < next_rows ? static_cast<const float*>(ahead[multiplied + i].at) : nullptr;
        copy_part(part(first + row + i, block), depth, next, scratch + i * kRowScratchStride);
      }
      int taken = 1;
      for (int64_t panel = 0; panel < panels; panel += taken) {
        const int64_t left = columns - panel * kPanel;
        const auto multiply = choose_tile<RowsOfA, float>(tile_rows, panels - panel, left, &taken);
        TileArgs<float> product{};
        product.prefetcher = &prefetcher;
        product.a = scratch;
        product.b = static_cast<const float*>(args.packed) + (panel * args.k_in + begin) * kPanel;
        product.panel_stride = args.k_in * kPanel;
        product.depth = depth;
        product.start = block == 0 ? nullptr : sums + panel * kPanel;
        product.start_stride = panels * kPanel;
        if (block + 1 < depth_blocks) {
          product.finish = Finish::kRaw;
          product.c = sums + panel * kPanel;
          product.c_stride = panels * kPanel;
          product.columns = left <= kLanes ? kLanes : taken * kPanel;  // whole vectors
        } else {
          product.finish = Finish::kBias;
          product.c = logits + row * columns + panel * kPanel;
          product.c_stride = columns;
          product.columns = std::min<int64_t>(left, taken * kPanel);
          product.bias = args.bias == nullptr ? nullptr : args.bias + panel * kPanel;
        }
        multiply(product);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // CUDAMOE_CPU_GATING_LOGITS_INL_H
