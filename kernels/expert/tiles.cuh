// The copies of the kernel by warps into shared memory: rows of x, each warp its own, and units of weights, all warps together.
#pragma once

#include "common/ptx/barrier.cuh"
#include "expert/expert.h"
#include "expert/layers.cuh"
#include "expert/walk.cuh"
#include "gemm/load_tile.cuh"

namespace cudamoe::kernels {

// The lanes of a warp meet. As a barrier of the block's, it costs no registers where the compiler cannot tell that they are together, which
// sync_warp and shuffles do: about a hundred, for lanes that might go other ways.
CUDAMOE_DEVICE void meet_warp() { ptx::sync_part(1 + warp_id(), kWarp); }

inline constexpr int kExpertWarps = kExpertRows / 16, kExpertThreads = kExpertWarps * kWarp;

// The copy of a warp's 16 rows of x, part by part: a lane has every 32nd part, of 8 elements.
class RowCopy {
 public:
  static constexpr int kPart = 8;

  CUDAMOE_DEVICE RowCopy(const Expert& expert, const GemmRowTile& tile, Shared<Bf16> to)
      : expert_(expert), x_(expert.x), to_(to), columns_(expert.depth), parts_(expert_depth(expert.depth) / kPart) {
    const int first = computed_here(warp_id() * 16), lane = computed_here(lane_id());
    rounds_ = tile.group >= 0 && first < tile.rows ? parts_ / 2 : 0;  // 16 * parts is a multiple of 32: all lanes go as many rounds
    begin_ = tile.begin + first;
    rows_ = tile.rows - first;
    offset_ = expert.rows.offsets == nullptr ? tile.group * x_.group_stride : 0;
    row_ = lane / parts_;
    part_ = lane % parts_;
  }

  // By cp.async: rows of bf16 whose parts are aligned. What is not there becomes zeros.
  CUDAMOE_DEVICE void begin() {
    CUDAMOE_NO_UNROLL
    for (int round = 0; round < rounds_; ++round) {
      const Part part = next();
      ptx::cp_async<16>(part.to, static_cast<const Bf16*>(x_.data) + part.at, part.elements * 2);
    }
  }
  // Through registers: any rows.
  CUDAMOE_DEVICE void convert() {
    const bool aligned = rows_are_aligned(x_);
    CUDAMOE_NO_UNROLL
    for (int round = 0; round < rounds_; ++round) {
      const Part part = next();
      store(part.to, load_part<Bf16, kPart>(x_, part.at, part.elements, aligned));
    }
  }

 private:
  struct Part {
    Shared<Bf16> to;
    int64_t at;
    int elements;
  };
  CUDAMOE_DEVICE Part next() {
    int64_t source = -1;
    if (row_ < rows_) source = row_of_x(expert_, begin_ + row_);
    const int n = source < 0 ? 0 : clip_part(columns_ - part_ * kPart, kPart);
    const Part part{to_ + (row_ * (parts_ * kPart + kExpertPadding) + part_ * kPart),
                    n == 0 ? 0 : source * x_.row_stride + offset_ + part_ * kPart, n};
    for (part_ += kWarp; part_ >= parts_; part_ -= parts_) ++row_;
    return part;
  }

  const Expert& expert_;
  const GemmMatrix& x_;
  Shared<Bf16> to_;
  int columns_, parts_, rounds_;
  int row_ = 0, part_ = 0;
  int rows_ = 0;  // of the tile from the warp's first on
  int64_t begin_ = 0, offset_ = 0;
};

// Begins the copy of the weights of a slice of one expert, both layers; what lies beyond them is zeros. All threads of the block.
template <int kColumns>
CUDAMOE_DEVICE void begin_unit(const Expert& expert, int number, int slice, int first_column, Shared<Bf16> to) {
  if (number < 0) return;
  const auto copy = [&](const ExpertLayer& layer, int rows, int valid_rows, int first_row, int parts, int column, Shared<Bf16> place,
                        int stride) {
    const auto* from = static_cast<const Bf16*>(layer.packed) + number * layer.group_stride;
    CUDAMOE_NO_UNROLL
    for (int i = computed_here(thread_x()); i < rows * parts; i += kExpertThreads) {
      const int row = i / parts, part = i % parts;
      const bool inside = first_row + row < valid_rows && column + 8 * part < layer.row_stride;
      ptx::cp_async<16>(place + (row * stride + 8 * part), from + (inside ? (first_row + row) * layer.row_stride + column + 8 * part : 0),
                        inside ? 16 : 0);
    }
  };
  const int depth = expert_depth(expert.depth);
  copy(expert.first, depth, expert.depth, 0, kExpertSlice / 8, slice * kExpertSlice, to, kFirstStride);
  copy(expert.second, kExpertSlice, expert.hidden, slice * kExpertSlice, kColumns / 8, first_column, to + depth * kFirstStride,
       kColumns + kExpertPadding);
}

}  // namespace cudamoe::kernels
