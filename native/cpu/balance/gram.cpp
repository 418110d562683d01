// Gram matrix of task gradients:
//   gram[i, j] = sum over b, c of gradient_i[b, c] * gradient_j[b, c]
//
// Floor: one read of the gradients. All T (T + 1) / 2 products of a tile are formed while it is in the cache, by blocks of four by
// four tasks whose sums stay in registers.
// Tiling: about kTileElements elements of each task, fixed by the shape; a tile's sums go to its place in the work space.
// Order of sums: products of f32 are exact in f64. Within a tile each vector lane sums its elements in ascending order in f64, then
// the lanes; then the tiles in ascending order. No bit depends on which thread took which tile.
#include <algorithm>

#include "cpu/balance/balance.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/balance/gram.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef CUDAMOE_CPU_BALANCE_GRAM_TILE
#define CUDAMOE_CPU_BALANCE_GRAM_TILE
namespace cudamoe::cpu {
namespace {

constexpr int64_t kTileElements = 4096;

// One tile of all tasks; sums[i * tasks + j] for i <= j.
struct GramTile {
  const float* gradients;
  int64_t task_stride, row_stride, rows, columns;
  int32_t tasks;
  double* sums;
};

}  // namespace
}  // namespace cudamoe::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using F64 = hn::ScalableTag<double>;
using HalfF32 = hn::Rebind<float, F64>;
constexpr int kWidth = static_cast<int>(hn::MaxLanes(F64()));
constexpr int kBlock = 4;

// Products of tasks i .. i + kI with tasks j .. j + kJ; only those above the diagonal when i = j.
template <int kI, int kJ, bool kDiagonal>
void Products(const GramTile& tile, int i0, int j0) {
  const F64 d;
  const HalfF32 d32;
  hn::Vec<F64> sums[kI][kJ];
#pragma GCC unroll 4
  for (int i = 0; i < kI; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kJ; ++j) sums[i][j] = hn::Zero(d);
  }
  const auto add = [&](const float* a, const float* b, int64_t a_stride, int64_t b_stride) HWY_ATTR {
    hn::Vec<F64> left[kI], right[kJ];
#pragma GCC unroll 4
    for (int i = 0; i < kI; ++i) left[i] = hn::PromoteTo(d, hn::LoadU(d32, a + i * a_stride));
#pragma GCC unroll 4
    for (int j = 0; j < kJ; ++j) right[j] = kDiagonal ? left[j] : hn::PromoteTo(d, hn::LoadU(d32, b + j * b_stride));
#pragma GCC unroll 4
    for (int i = 0; i < kI; ++i) {
#pragma GCC unroll 4
      for (int j = kDiagonal ? i : 0; j < kJ; ++j) sums[i][j] = hn::MulAdd(left[i], right[j], sums[i][j]);
    }
  };
  for (int64_t row = 0; row < tile.rows; ++row) {
    const float* a = tile.gradients + row * tile.row_stride + i0 * tile.task_stride;
    const float* b = tile.gradients + row * tile.row_stride + j0 * tile.task_stride;
    int64_t c = 0;
    for (; c + kWidth <= tile.columns; c += kWidth) add(a + c, b + c, tile.task_stride, tile.task_stride);
    if (c < tile.columns) {
      float a_rest[kI * kWidth] = {}, b_rest[kJ * kWidth] = {};
      for (int64_t k = 0; k < tile.columns - c; ++k) {
        for (int i = 0; i < kI; ++i) a_rest[i * kWidth + k] = a[i * tile.task_stride + c + k];
        for (int j = 0; j < kJ; ++j) b_rest[j * kWidth + k] = b[j * tile.task_stride + c + k];
      }
      add(a_rest, b_rest, kWidth, kWidth);
    }
  }
  for (int i = 0; i < kI; ++i) {
    for (int j = kDiagonal ? i : 0; j < kJ; ++j) tile.sums[(i0 + i) * tile.tasks + j0 + j] = hn::GetLane(hn::SumOfLanes(d, sums[i][j]));
  }
}

template <int kI>
void OffDiagonal(const GramTile& tile, int i0, int j0, int tasks_j) {
  switch (tasks_j) {
    case 1:
      return Products<kI, 1, false>(tile, i0, j0);
    case 2:
      return Products<kI, 2, false>(tile, i0, j0);
    case 3:
      return Products<kI, 3, false>(tile, i0, j0);
    default:
      return Products<kI, 4, false>(tile, i0, j0);
  }
}

void Diagonal(const GramTile& tile, int i0, int tasks_i) {
  switch (tasks_i) {
    case 1:
      return Products<1, 1, true>(tile, i0, i0);
    case 2:
      return Products<2, 2, true>(tile, i0, i0);
    case 3:
      return Products<3, 3, true>(tile, i0, i0);
    default:
      return Products<4, 4, true>(tile, i0, i0);
  }
}

void SumTile(const GramTile& tile) {
  for (int i = 0; i < tile.tasks; i += kBlock) {
    Diagonal(tile, i, std::min(kBlock, tile.tasks - i));
    // Only the last block is short, and it has none to its right.
    for (int j = i + kBlock; j < tile.tasks; j += kBlock) OffDiagonal<kBlock>(tile, i, j, std::min(kBlock, tile.tasks - j));
  }
}

}  // namespace
}  // namespace cudamoe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cudamoe::cpu {
namespace {

HWY_EXPORT(SumTile);

// Rows that follow each other without a gap are one long row.
MatrixTiles tiles_of(const cudamoe_balance_gram_args& args) {
  const bool dense = args.row_stride == args.width;
  return dense ? MatrixTiles(1, args.rows * args.width, kTileElements) : MatrixTiles(args.rows, args.width, kTileElements);
}

}  // namespace

int64_t balance_gram_workspace(void*, const cudamoe_balance_gram_args& args) {
  return tiles_of(args).count() * args.tasks * args.tasks * 8;
}

cudamoe_status balance_gram(void* stream, const cudamoe_balance_gram_args& args) {
  const MatrixTiles tiles = tiles_of(args);
  const int32_t tasks = args.tasks;
  const int64_t size = int64_t{tasks} * tasks;
  auto* partials = static_cast<double*>(args.workspace);
  const double cost = 0.4 * tasks * static_cast<double>(args.rows) * static_cast<double>(args.width);
  stream_of(stream).device().for_tiles(tiles.count(), cost, [&](int64_t t) {
    const MatrixTiles::Tile tile = tiles[t];
    HWY_DYNAMIC_DISPATCH(SumTile)
    ({args.gradients + tile.row * args.row_stride + tile.column, args.task_stride, args.row_stride, tile.rows, tile.columns, tasks,
      partials + t * size});
  });
  std::fill(args.gram, args.gram + size, 0.0);
  for (int64_t t = 0; t < tiles.count(); ++t) {
    for (int32_t i = 0; i < tasks; ++i) {
      for (int32_t j = i; j < tasks; ++j) args.gram[i * tasks + j] += partials[t * size + i * tasks + j];
    }
  }
  for (int32_t i = 0; i < tasks; ++i) {
    for (int32_t j = 0; j < i; ++j) args.gram[i * tasks + j] = args.gram[j * tasks + i];
  }
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
#endif  // HWY_ONCE
