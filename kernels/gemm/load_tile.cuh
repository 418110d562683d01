// Copies of operands into the tiles of a step: rows along the depth (the left operand of a product), the depth down the rows (both operands
// of a weight gradient), and packed weights. Elements beyond the matrix are zeros. Steps are begun in ascending order.
//
// Where the operand has the tile's type and is aligned to 16 bytes (kDirect) it goes by cp.async; else through registers, converted: loaded
// when the copy is begun, stored when the step before has been multiplied (finish).
#pragma once

#include "common/kernel.cuh"
#include "common/ptx/cp_async.cuh"
#include "gemm/rows.cuh"
#include "gemm/tile.cuh"

namespace cudamoe::kernels {

// Elements at, at + 1, ... at + n - 1 of a matrix as kPart elements of a tile, zeros behind them.
template <class Element, int kPart>
CUDAMOE_DEVICE Vector<Element, kPart> load_part(const GemmMatrix& matrix, int64_t at, int n, bool aligned) {
  Vector<Element, kPart> part;
  CUDAMOE_UNROLL
  for (int i = 0; i < kPart; i += 4) {
    const int left = n - i < 0 ? 0 : (n - i > 4 ? 4 : n - i);
    const Vector<float, 4> four = matrix.is_bf16 != 0 ? load_four(static_cast<const Bf16*>(matrix.data) + at + i, left, aligned)
                                                      : load_four(static_cast<const float*>(matrix.data) + at + i, left, aligned);
    CUDAMOE_UNROLL
    for (int j = 0; j < 4; ++j) part[i + j] = from_float<Element>(four[j]);
  }
  return part;
}

// Whether vectors of four elements that begin at multiples of four of a row are aligned.
CUDAMOE_DEVICE bool rows_are_aligned(const GemmMatrix& matrix) {
  const bool base = matrix.is_bf16 != 0 ? aligned_for<4>(static_cast<const Bf16*>(matrix.data), matrix.row_stride)
                                        : aligned_for<4>(static_cast<const float*>(matrix.data), matrix.row_stride);
  return base && matrix.group_stride % 4 == 0;
}

CUDAMOE_DEVICE int clip_part(int left, int part) { return left <= 0 ? 0 : (left >= part ? part : left); }

// The parts of a [kRows][kColumns] piece of a tile that a thread copies: one part of every kRowsApart-th row.
template <class Tile, class Layout, int kRows, int kColumns, int kStride>
struct Parts {
  static constexpr int kPartsOfRow = kColumns / Layout::kPart;
  static constexpr int kRowsApart = Tile::kThreads / kPartsOfRow;
  static constexpr int kOwn = kRows / kRowsApart;
  static_assert(kRowsApart * kPartsOfRow == Tile::kThreads && kOwn * kRowsApart == kRows);
  CUDAMOE_DEVICE static int row(int i) { return thread_x() / kPartsOfRow + i * kRowsApart; }
  CUDAMOE_DEVICE static int column() { return thread_x() % kPartsOfRow * Layout::kPart; }
  CUDAMOE_DEVICE static int place(int i) { return row(i) * kStride + column(); }
};

// Rows of x as the left operand: tile[row][depth].
template <class Tile, class Layout, class Element, bool kDirect>
class RowLoader {
 public:
  CUDAMOE_DEVICE RowLoader(const GemmRows& rows, const GemmMatrix& x, const GemmRowTile& tile, int depth)
      : x_(x), left_(depth - Own::column()), aligned_(rows_are_aligned(x)) {
    CUDAMOE_UNROLL
    for (int i = 0; i < Own::kOwn; ++i) {
      const int64_t source = Own::row(i) < tile.rows ? source_row(rows, tile.begin + Own::row(i)) : -1;
      at_[i] = source < 0 ? -1 : source * x.row_stride + (rows.offsets == nullptr ? tile.group * x.group_stride : 0) + Own::column();
    }
  }

  CUDAMOE_DEVICE void begin(Shared<Element> tile) {
    CUDAMOE_UNROLL
    for (int i = 0; i < Own::kOwn; ++i) {
      const int n = at_[i] < 0 ? 0 : clip_part(left_, Layout::kPart);
      const int64_t at = n == 0 ? 0 : at_[i];
      if constexpr (kDirect) {
        ptx::cp_async<16>(tile + Own::place(i), static_cast<const Element*>(x_.data) + at, n * static_cast<int>(sizeof(Element)));
      } else {
        staged_[i] = load_part<Element, Layout::kPart>(x_, at, n, aligned_);
      }
      if (at_[i] >= 0) at_[i] += Layout::kDepth;
    }
    left_ -= Layout::kDepth;
  }
  CUDAMOE_DEVICE void finish(Shared<Element> tile) const {
    if constexpr (!kDirect) {
      CUDAMOE_UNROLL
      for (int i = 0; i < Own::kOwn; ++i) store(tile + Own::place(i), staged_[i]);
    }
  }

 private:
  using Own = Parts<Tile, Layout, Tile::kRows, Layout::kDepth, Layout::kLeftStride>;

  const GemmMatrix& x_;
  int left_;  // depth from the thread's part of the next step on
  bool aligned_;
  int64_t at_[Own::kOwn];  // the element where that part begins; -1: a row of zeros
  Vector<Element, Layout::kPart> staged_[kDirect ? 1 : Own::kOwn];
};

// Packed weights as the right operand: tile[depth][column]. Their rows are aligned, and zero up to a multiple of a part.
template <class Tile, class Layout, class Element>
class PackedLoader {
 public:
  CUDAMOE_DEVICE PackedLoader(const GemmProduct& product, int64_t group, int first_column)
      : from_(static_cast<const Element*>(product.packed) + group * product.packed_group_stride + Own::row(0) * product.packed_row_stride +
              first_column + Own::column()),
        row_stride_(product.packed_row_stride),
        left_(first_column + Own::column() < product.packed_row_stride ? product.depth - Own::row(0) : 0) {}

  CUDAMOE_DEVICE void begin(Shared<Element> tile) {
    CUDAMOE_UNROLL
    for (int i = 0; i < Own::kOwn; ++i) {
      const bool inside = left_ > i * Own::kRowsApart;
      const Element* from = inside ? from_ + i * Own::kRowsApart * row_stride_ : from_;
      ptx::cp_async<16>(tile + Own::place(i), from, inside ? 16 : 0);
    }
    left_ -= Layout::kDepth;
    if (left_ > 0) from_ += Layout::kDepth * row_stride_;
  }

 private:
  using Own = Parts<Tile, Layout, Layout::kDepth, Tile::kColumns, Layout::kRightStride>;

  const Element* from_;
  const int64_t& row_stride_;
  int left_;  // rows from the thread's first of the next step on
};

// Columns of a matrix over the row space, rows as the depth: tile[row][column]. The gathered numbers of a step are loaded a step ahead.
template <class Tile, class Layout, class Element, bool kDirect, int kColumns, int kStride>
class ColumnLoader {
 public:
  CUDAMOE_DEVICE ColumnLoader(const GemmRows& rows, bool gathered, const GemmMatrix& matrix, const GemmRowTile& chunk, int first_column,
                              int columns)
      : rows_(rows),
        matrix_(matrix),
        gathered_(gathered && rows.gather != nullptr),
        aligned_(rows_are_aligned(matrix)),
        columns_(clip_part(columns - first_column - Own::column(), Layout::kPart)),
        first_((rows.offsets == nullptr ? chunk.group * matrix.group_stride : 0) + first_column + Own::column()),
        row_(chunk.begin + Own::row(0)),
        left_(chunk.rows - Own::row(0)) {
    look_ahead();
  }

  CUDAMOE_DEVICE void begin(Shared<Element> tile) {
    CUDAMOE_UNROLL
    for (int i = 0; i < Own::kOwn; ++i) {
      const int64_t row = gathered_ ? next_[i] : row_ + i * Own::kRowsApart;
      const int n = left_ <= i * Own::kRowsApart || row < 0 ? 0 : columns_;
      const int64_t at = n == 0 ? 0 : first_ + row * matrix_.row_stride;
      if constexpr (kDirect) {
        ptx::cp_async<16>(tile + Own::place(i), static_cast<const Element*>(matrix_.data) + at, n * static_cast<int>(sizeof(Element)));
      } else {
        staged_[i] = load_part<Element, Layout::kPart>(matrix_, at, n, aligned_);
      }
    }
    row_ += Layout::kDepth;
    left_ -= Layout::kDepth;
    look_ahead();
  }
  CUDAMOE_DEVICE void finish(Shared<Element> tile) const {
    if constexpr (!kDirect) {
      CUDAMOE_UNROLL
      for (int i = 0; i < Own::kOwn; ++i) store(tile + Own::place(i), staged_[i]);
    }
  }

 private:
  using Own = Parts<Tile, Layout, Layout::kDepth, kColumns, kStride>;

  CUDAMOE_DEVICE void look_ahead() {
    if (!gathered_) return;
    CUDAMOE_UNROLL
    for (int i = 0; i < Own::kOwn; ++i) {
      next_[i] = left_ > i * Own::kRowsApart ? static_cast<int32_t>(source_row(rows_, row_ + i * Own::kRowsApart)) : -1;
    }
  }

  const GemmRows& rows_;
  const GemmMatrix& matrix_;
  bool gathered_, aligned_;
  int columns_;                   // of the thread's part that are inside the matrix
  int64_t first_;                 // element of row 0 where the part begins
  int64_t row_;                   // the thread's first row of the next step
  int left_;                      // rows of the chunk from there on
  int32_t next_[Own::kOwn] = {};  // where rows are gathered, their rows; -1: a row of zeros
  Vector<Element, Layout::kPart> staged_[kDirect ? 1 : Own::kOwn];
};

// The ring of kSteps places for the tiles of a step.
template <class Layout, class Element>
class Ring {
 public:
  CUDAMOE_DEVICE Shared<Element> here() const { return dynamic_shared<Element>() + here_; }
  CUDAMOE_DEVICE Shared<Element> ahead() const {
    return dynamic_shared<Element>() + (here_ == 0 ? (kSteps - 1) * Layout::kStep : here_ - Layout::kStep);
  }
  CUDAMOE_DEVICE void advance() { here_ = here_ == (kSteps - 1) * Layout::kStep ? 0 : here_ + Layout::kStep; }

 private:
  int here_ = 0;
};

}  // namespace cudamoe::kernels
