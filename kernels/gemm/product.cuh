// The product behind forward and data gradient: y = finish(x * packed) over row groups; see gemm.h. The sums are a parameter: plain f32
// (sums_ffma.cuh), f32 as tf32 products (sums_tf32.cuh), bf16 on tensor cores (sums_bf16.cuh).
//
// Floor: rows * depth of x, the packed weights once and rows * columns of y in bytes; 2 * rows * columns * depth flops. At recommender
// widths the bytes count, so gather, bias, activation and its derivative are done here, on the way in and out. Tiling: a block per row
// tile of a group and column tile, column tiles next to each other so that x is read from memory once; tile.cuh has the shapes, the
// shared memory and its banks. Registers for sums: tile.cuh.
// Order of sums: an element is one accumulator over ascending depth.
#pragma once

#include "common/activation.cuh"
#include "gemm/load_tile.cuh"

namespace cudamoe::kernels {

// What is done with four sums of a row: columns column .. column + 3, those below `columns` of them.
template <class Y>
class ProductFinish {
 public:
  CUDAMOE_DEVICE ProductFinish(const GemmProduct& product, const GemmRowTile& tile) : product_(product), tile_(tile) {
    const bool strided = product.rows.offsets == nullptr;
    const auto place = [&](const GemmMatrix& matrix) {
      return static_cast<const Y*>(matrix.data) + (strided ? tile.group * matrix.group_stride : 0) + tile.begin * matrix.row_stride;
    };
    const auto good = [&](const GemmMatrix& matrix) { return matrix.data == nullptr || aligned_for<4>(place(matrix), matrix.row_stride); };
    y_ = const_cast<Y*>(place(product.y));
    before_ = product.before.data == nullptr ? nullptr : const_cast<Y*>(place(product.before));
    below_ = product.below.data == nullptr ? nullptr : place(product.below);
    aligned_ = good(product.y) && good(product.before) && good(product.below);
  }

  CUDAMOE_DEVICE void begin(int column) {
    column_ = column;
    n_ = clip_part(product_.columns - column, 4);
    if (n_ == 0 || product_.bias == nullptr) return;
    const float* bias = product_.bias + tile_.group * product_.bias_group_stride + column;
    bias_ = load_four(bias, n_, aligned_for<4>(bias));
  }

  CUDAMOE_DEVICE void operator()(int row, Vector<float, 4> value) const {
    if (row >= tile_.rows || n_ == 0) return;
    Y* y = y_ + row * product_.y.row_stride + column_;
    if (product_.accumulate != 0) {
      const Vector<float, 4> old = load_four(y, n_, aligned_);
      for_four([&](int i) { value[i] = old[i] + value[i]; });
    }
    if (product_.derivative != 0) {
      if (below_ != nullptr) {
        const Vector<float, 4> below = load_four(below_ + row * product_.below.row_stride + column_, n_, aligned_);
        multiply_derivative_each(product_.activation, value, below, product_.slope);
      }
    } else {
      if (product_.bias != nullptr) for_four([&](int i) { value[i] += bias_[i]; });
      if (before_ != nullptr) store_four(before_ + row * product_.before.row_stride + column_, value, n_, aligned_);
      activate_each(product_.activation, value, product_.slope);
    }
    store_four(y, value, n_, aligned_);
  }

 private:
  template <class Body>
  CUDAMOE_DEVICE static void for_four(Body&& body) {
    CUDAMOE_UNROLL
    for (int i = 0; i < 4; ++i) body(i);
  }

  const GemmProduct& product_;
  const GemmRowTile& tile_;
  Y *y_, *before_;
  const Y* below_;
  bool aligned_;
  int column_ = 0, n_ = 0;  // the lane's columns
  Vector<float, 4> bias_ = {};
};

template <class Tile, class Sums, bool kDirect>
CUDAMOE_KERNEL(Tile::kThreads, kDirect ? Tile::kBlocks : Tile::kConvertingBlocks)
product_kernel(const CUDAMOE_GRID_CONSTANT GemmProduct product) {
  using Element = typename Sums::Element;
  using Layout = typename Sums::Layout;
  const int inspectors = product.rows.offsets == nullptr ? 0 : 1;
  if (block_x() < inspectors) return inspect_rows<Tile::kThreads>(product.rows);
  const int column_tiles = ceil_divide(product.columns, Tile::kColumns), number = block_x() - inspectors;
  const GemmRowTile tile = find_row_tile<Tile::kThreads>(product.rows, number / column_tiles, Tile::kRows);
  if (tile.group < 0 || tile.rows == 0) return;
  const int first_column = number % column_tiles * Tile::kColumns;

  RowLoader<Tile, Layout, Element, kDirect> x(product.rows, product.x, tile, product.depth);
  PackedLoader<Tile, Layout, Element> packed(product, tile.group, first_column);
  Ring<Layout, Element> ring;
  const int warp_row = warp_id() / Tile::kWarpsAcross * Tile::kWarpRows, warp_column = warp_id() % Tile::kWarpsAcross * Tile::kWarpColumns;
  const int steps = ceil_divide(product.depth, Layout::kDepth);

  CUDAMOE_UNROLL
  for (int step = 0; step < kSteps - 1; ++step) {
    const Shared<Element> place = dynamic_shared<Element>() + step * Layout::kStep;
    if (step < steps) {
      x.begin(place);
      packed.begin(place + Layout::kLeft);
      x.finish(place);
    }
    ptx::cp_async_commit();
  }
  Sums sums;
  CUDAMOE_NO_UNROLL
  for (int step = 0; step < steps; ++step) {
    ptx::cp_async_wait<kSteps - 2>();
    sync_block();  // this step has arrived everywhere, and everybody is done with the place of the step that is begun now
    const bool more = step + kSteps - 1 < steps;
    if (more) {
      x.begin(ring.ahead());
      packed.begin(ring.ahead() + Layout::kLeft);
    }
    ptx::cp_async_commit();
    sums.multiply(ring.here() + warp_row * Layout::kLeftStride, ring.here() + (Layout::kLeft + warp_column));
    if (more) x.finish(ring.ahead());
    ring.advance();
  }
  sync_block();  // the ring becomes the warps' sums

  const auto finish_as = [&](auto y) {
    ProductFinish<decltype(y)> finish(product, tile);
    finish_rows<Tile, Layout>(
        sums, warp_row, warp_column, [&](int column) { finish.begin(first_column + column); },
        [&](int row, const Vector<float, 4>& value) { finish(row, value); });
  };
  if (product.y.is_bf16 != 0) {
    finish_as(Bf16{});
  } else {
    finish_as(0.0f);
  }
}

template <class Sums, class Tile>
cudaError_t launch_product_tile(const GemmProduct& product, cudaStream_t stream) {
  using Element = typename Sums::Element;
  const int64_t blocks =
      (product.rows.offsets == nullptr ? 0 : 1) + gemm_row_tiles(product.rows, Tile::kRows) * ceil_divide(product.columns, Tile::kColumns);
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  const LaunchShape shape{.name = product.derivative != 0 ? "gemm_dgrad" : "gemm_forward",
                          .grid = {static_cast<int>(blocks)},
                          .block = {Tile::kThreads},
                          .dynamic_shared_bytes = Sums::Layout::kBytes,
                          .stream = stream};
  constexpr bool kBf16 = std::is_same_v<Element, Bf16>;
  const GemmMatrix& x = product.x;
  const bool direct = (x.is_bf16 != 0) == kBf16 && aligned_for<16 / sizeof(Element)>(static_cast<const Element*>(x.data), x.row_stride) &&
                      x.group_stride % static_cast<int64_t>(16 / sizeof(Element)) == 0;
  return launch(shape, direct ? product_kernel<Tile, Sums, true> : product_kernel<Tile, Sums, false>, product);
}

template <template <class, bool> class SumsOf, class Element>
cudaError_t launch_product(const GemmProduct& product, GemmTile tile, cudaStream_t stream) {
  switch (tile) {
    case GemmTile::kLarge:
      return launch_product_tile<SumsOf<LargeTile<Element>, false>, LargeTile<Element>>(product, stream);
    case GemmTile::kMedium:
      return launch_product_tile<SumsOf<MediumTile, false>, MediumTile>(product, stream);
    default:
      return launch_product_tile<SumsOf<LowTile, false>, LowTile>(product, stream);
  }
}

}  // namespace cudamoe::kernels
