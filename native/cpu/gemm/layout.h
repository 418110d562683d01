// Sizes that the packing and the products of the gemm family agree on.
#pragma once

#include <cstdint>

#include "cpu/common/parts.h"
#include "cpu/device.h"

namespace cudamoe::cpu {

// Depth of one block of a product: a panel block of 256 x 32 f32 (32 KiB) and a tile's rows (14 KiB) fit into the L1 cache together.
inline constexpr int64_t kDepthBlock = 256;
// Row stride of the copied left operand. Odd in cache lines, so that the rows of a tile spread over all sets of the cache.
inline constexpr int64_t kRowScratchStride = kDepthBlock + 16;
// Row stride of a tile's columns of dz in a weight gradient.
inline constexpr int64_t kColumnScratchStride = 16;

// The register tile at the level in use: its rows, and the columns of a packed panel.
struct TileShape {
  int64_t rows, columns;
};
const TileShape& tile_shape();
inline int64_t panel_columns() { return tile_shape().columns; }

// True at the level whose bf16 products run on bf16 instructions (common/bf16_dot-inl.h). They sum over pairs: a step of the depth is then
// two elements that lie side by side in 4 bytes, the last one beside a zero when the depth is odd.
inline bool multiplies_pairs(bool bf16) { return bf16 && level() == Level::kAvx512Bf16; }

// The packed weights of one group: panels of [steps][panel columns], columns beyond the last one zero. An element of it is f32, bf16, or
// a pair of bf16.
struct PackedLayout {
  int64_t columns, steps, element_bytes;
  int64_t panels() const { return divide_up(columns, panel_columns()); }
  int64_t panel_elements() const { return steps * panel_columns(); }
  int64_t group_elements() const { return panels() * panel_elements(); }
  int64_t group_bytes() const { return group_elements() * element_bytes; }
};
inline PackedLayout packed_layout(int64_t columns, int64_t depth, bool bf16) {
  if (multiplies_pairs(bf16)) return {columns, divide_up(depth, 2), 4};
  return {columns, depth, bf16 ? 2 : 4};
}
// The forward product has n columns and depth k, the data gradient k columns and depth n.
inline PackedLayout pack_layout(const cudamoe_gemm_pack_args& args) {
  const bool bf16 = args.dtype == CUDAMOE_BF16;
  return args.transposed != 0 ? packed_layout(args.k, args.n, bf16) : packed_layout(args.n, args.k, bf16);
}

}  // namespace cudamoe::cpu
