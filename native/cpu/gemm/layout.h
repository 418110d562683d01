// Sizes that the packing and the products of the gemm family agree on.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cudamoe.h"

namespace cudamoe::cpu {

// Depth of one block of a product: a panel block of 256 x 32 f32 (32 KiB) and a tile's rows (14 KiB) fit into the L1 cache together.
inline constexpr int64_t kDepthBlock = 256;
// Row stride of the copied left operand. Odd in cache lines, so that the rows of a tile spread over all sets of the cache.
inline constexpr int64_t kRowScratchStride = kDepthBlock + 16;
// Row stride of a tile's columns of dz in a weight gradient.
inline constexpr int64_t kColumnScratchStride = 16;

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

// Part `i` of `parts` nearly equal parts of `total` begins here.
inline int64_t part_begin(int64_t total, int64_t parts, int64_t i) { return total / parts * i + std::min(total % parts, i); }

// The register tile at the level in use: its rows, and the columns of a packed panel.
struct TileShape {
  int64_t rows, columns;
};
const TileShape& tile_shape();
inline int64_t panel_columns() { return tile_shape().columns; }

// The packed weights of one group: panels of [depth][panel columns], columns beyond the last one zero.
struct PackedLayout {
  int64_t columns, depth;
  int64_t panels() const { return divide_up(columns, panel_columns()); }
  int64_t panel_elements() const { return depth * panel_columns(); }
  int64_t group_elements() const { return panels() * panel_elements(); }
};

// Product columns and depth of packed weights [n, k]: the forward product has n columns, the data gradient k.
inline PackedLayout packed_layout(int64_t n, int64_t k, bool transposed) { return transposed ? PackedLayout{k, n} : PackedLayout{n, k}; }

}  // namespace cudamoe::cpu
