// The weight gradient: dw[g] (+)= sum over the rows r of group g of dz[r]^T x[r], dbias[g] (+)= sum of dz[r]; see gemm.h. The sums are a
// parameter, as in product.cuh.
//
// Floor: rows * (n + k) elements of the operands and n * k f32 a group in bytes; 2 * rows * n * k flops. Tiling: a block per chunk of
// rows of a group and tile of dw, rows being the depth; both operands lie by columns in shared memory (tile.cuh), and the blocks of the
// first column tile sum dbias from the tiles of dz. A group without rows has one chunk, which writes its zeros.
// Order of sums: within a chunk an element is one accumulator over ascending rows; chunks are cut by shape alone and added in ascending
// order (wgrad_sum.cu).
#pragma once

#include "gemm/load_tile.cuh"

namespace cudamoe::kernels {

template <class Tile, class Sums, bool kDirect>
CUDAMOE_KERNEL(Tile::kThreads, kDirect ? Tile::kBlocks : Tile::kConvertingBlocks)
wgrad_kernel(const CUDAMOE_GRID_CONSTANT GemmWgrad wgrad) {
  using Element = typename Sums::Element;
  using Layout = typename Sums::Layout;
  const int inspectors = wgrad.rows.offsets == nullptr ? 0 : 1;
  if (block_x() < inspectors) return inspect_rows<Tile::kThreads>(wgrad.rows);
  const int across = ceil_divide(wgrad.k, Tile::kColumns), tiles = ceil_divide(wgrad.n, Tile::kRows) * across;
  const int number = (block_x() - inspectors) / tiles, in_chunk = (block_x() - inspectors) % tiles;
  const GemmRowTile chunk = find_row_tile<Tile::kThreads>(wgrad.rows, number, wgrad.chunk_rows);
  const bool whole = wgrad.partials == nullptr;  // the chunk is all of the group
  if (chunk.group < 0) return;
  if (chunk.rows == 0 && (!whole || !chunk.first || wgrad.accumulate != 0)) return;
  const int first_row = in_chunk / across * Tile::kRows, first_column = in_chunk % across * Tile::kColumns;

  ColumnLoader<Tile, Layout, Element, kDirect, Tile::kRows, Layout::kLeftStride> dz(wgrad.rows, false, wgrad.dz, chunk, first_row, wgrad.n);
  ColumnLoader<Tile, Layout, Element, kDirect, Tile::kColumns, Layout::kRightStride> x(wgrad.rows, true, wgrad.x, chunk, first_column,
                                                                                       wgrad.k);
  Ring<Layout, Element> ring;
  const int warp_row = warp_id() / Tile::kWarpsAcross * Tile::kWarpRows, warp_column = warp_id() % Tile::kWarpsAcross * Tile::kWarpColumns;
  const int steps = ceil_divide(chunk.rows, Layout::kDepth);
  const bool sums_bias = wgrad.dbias != nullptr && first_column == 0 && thread_x() < Tile::kRows;

  CUDAMOE_UNROLL
  for (int step = 0; step < kSteps - 1; ++step) {
    const Shared<Element> place = dynamic_shared<Element>() + step * Layout::kStep;
    if (step < steps) {
      dz.begin(place);
      x.begin(place + Layout::kLeft);
      dz.finish(place);
      x.finish(place + Layout::kLeft);
    }
    ptx::cp_async_commit();
  }
  Sums sums;
  float bias = 0.0f;
  CUDAMOE_NO_UNROLL
  for (int step = 0; step < steps; ++step) {
    ptx::cp_async_wait<kSteps - 2>();
    sync_block();  // this step has arrived everywhere, and everybody is done with the place of the step that is begun now
    const bool more = step + kSteps - 1 < steps;
    if (more) {
      dz.begin(ring.ahead());
      x.begin(ring.ahead() + Layout::kLeft);
    }
    ptx::cp_async_commit();
    sums.multiply(ring.here() + warp_row, ring.here() + (Layout::kLeft + warp_column));
    if (sums_bias) {
      CUDAMOE_NO_UNROLL
      for (int t = 0; t < Layout::kDepth; ++t) {
        const Element element = ring.here()[t * Layout::kLeftStride + thread_x()];
        bias += to_float(element);
      }
    }
    if (more) {
      dz.finish(ring.ahead());
      x.finish(ring.ahead() + Layout::kLeft);
    }
    ring.advance();
  }
  sync_block();  // the ring becomes the warps' sums

  float* dw = whole ? wgrad.dw + chunk.group * wgrad.dw_group_stride
                    : wgrad.partials + int64_t{number} * gemm_wgrad_partial_floats(wgrad.n, wgrad.k);
  float* dbias = whole ? wgrad.dbias + chunk.group * wgrad.dbias_group_stride : dw + int64_t{wgrad.n} * wgrad.k;
  const int64_t stride = whole ? wgrad.dw_row_stride : wgrad.k;
  const bool add = whole && wgrad.accumulate != 0, aligned = aligned_for<4>(dw, stride);
  int column = 0, n = 0;
  const auto begin = [&](int c) {
    column = first_column + c;
    n = clip_part(wgrad.k - column, 4);
  };
  finish_rows<Tile, Layout>(sums, warp_row, warp_column, begin, [&](int r, Vector<float, 4> value) {
    const int row = first_row + r;
    if (row >= wgrad.n || n == 0) return;
    float* to = dw + row * stride + column;
    if (add) {
      const Vector<float, 4> old = load_four(to, n, aligned);
      CUDAMOE_UNROLL
      for (int i = 0; i < 4; ++i) value[i] = old[i] + value[i];
    }
    store_four(to, value, n, aligned);
  });
  if (sums_bias && first_row + thread_x() < wgrad.n) {
    float* to = dbias + first_row + thread_x();
    *to = add ? *to + bias : bias;
  }
}

template <class Sums, class Tile>
cudaError_t launch_wgrad_tile(const GemmWgrad& wgrad, cudaStream_t stream) {
  using Element = typename Sums::Element;
  const int64_t blocks = (wgrad.rows.offsets == nullptr ? 0 : 1) + gemm_row_tiles(wgrad.rows, wgrad.chunk_rows) *
                                                                       ceil_divide(wgrad.n, Tile::kRows) *
                                                                       ceil_divide(wgrad.k, Tile::kColumns);
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  const LaunchShape shape{.name = "gemm_wgrad",
                          .grid = {static_cast<int>(blocks)},
                          .block = {Tile::kThreads},
                          .dynamic_shared_bytes = Sums::Layout::kBytes,
                          .stream = stream};
  const auto is_direct = [](const GemmMatrix& matrix) {
    constexpr int kPart = 16 / sizeof(Element);
    return (matrix.is_bf16 != 0) == std::is_same_v<Element, Bf16> &&
           aligned_for<kPart>(static_cast<const Element*>(matrix.data), matrix.row_stride) && matrix.group_stride % kPart == 0;
  };
  const bool direct = is_direct(wgrad.dz) && is_direct(wgrad.x);
  return launch(shape, direct ? wgrad_kernel<Tile, Sums, true> : wgrad_kernel<Tile, Sums, false>, wgrad);
}

// A tile of 16 rows is for products of few rows; a weight gradient has as many rows as the layer has outputs.
template <template <class, bool> class SumsOf, class Element>
cudaError_t launch_wgrad(const GemmWgrad& wgrad, GemmTile tile, cudaStream_t stream) {
  return tile == GemmTile::kLarge ? launch_wgrad_tile<SumsOf<LargeTile<Element>, true>, LargeTile<Element>>(wgrad, stream)
                                  : launch_wgrad_tile<SumsOf<MediumTile, true>, MediumTile>(wgrad, stream);
}

}  // namespace cudamoe::kernels
