// What becomes of the sums that a warp holds for its 16 rows: rows of a matrix, or mixtures for several tasks.
#pragma once

#include "expert/layers.cuh"
#include "gemm/rows.cuh"

namespace cudamoe::kernels {

// Where the two rows of a lane are: rows lane / 4 and lane / 4 + 8 of the warp's 16.
struct LaneRows {
  int64_t row[2];  // of the row space; -1: not there

  CUDAMOE_DEVICE explicit LaneRows(const GemmRowTile& tile) {
    const int first = computed_here(warp_id() * 16 + lane_id() / 4);
    CUDAMOE_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int in_tile = first + 8 * h;
      row[h] = in_tile < tile.rows ? tile.begin + in_tile : -1;
    }
  }
};

// Writes sums to rows that begin at base + rows * stride + offset. kShuffles: rows of bf16 in pieces of 16 bytes where they allow it, which
// takes shuffles (tiles.cuh says what they cost). Every lane of the warp takes part.
template <bool kShuffles, class T, int kTiles>
CUDAMOE_DEVICE void store_at(T* base, int64_t stride, const LaneRows& rows, const int64_t (&offset)[2], bool pairs, bool pieces, int first,
                             int columns, const FragmentSums<kTiles>& sum) {
  T* const at[2] = {rows.row[0] < 0 ? nullptr : base + rows.row[0] * stride + offset[0],
                    rows.row[1] < 0 ? nullptr : base + rows.row[1] * stride + offset[1]};
  if constexpr (kShuffles && std::is_same_v<T, Bf16>) {
    if (pieces && columns % 8 == 0 && aligned_for<8>(base, stride)) return store_sums_wide(at, first, columns, sum);
  }
  store_sums(at, first, columns, pairs && aligned_for<2>(base, stride), sum);
}

// Writes sums as rows of a matrix of the row space.
template <bool kShuffles, int kTiles>
CUDAMOE_DEVICE void store_rows(const GemmMatrix& matrix, int64_t offset, const GemmRowTile& tile, int first, int columns,
                               const FragmentSums<kTiles>& sum) {
  const LaneRows rows(tile);
  const auto store_as = [&](auto* base) {
    store_at<kShuffles>(base + offset, matrix.row_stride, rows, {0, 0}, true, true, first, columns, sum);
  };
  if (matrix.is_bf16 != 0) {
    store_as(static_cast<Bf16*>(const_cast<void*>(matrix.data)));
  } else {
    store_as(static_cast<float*>(const_cast<void*>(matrix.data)));
  }
}

// The mixtures of kTasks tasks from first_task on, for the warp's rows.
template <int kTiles, int kTasks, bool kShuffles>
class Mixtures {
 public:
  CUDAMOE_DEVICE void clear() {
    CUDAMOE_UNROLL
    for (int t = 0; t < kTasks; ++t) sum_[t].clear();
  }

  // Of an output for each task, for the two rows of a lane; 0 where there is no row or task.
  struct Weights {
    float value[kTasks][2];
  };
  // `number` is the expert (dense) or the choice.
  CUDAMOE_DEVICE static Weights weights(const Expert& expert, const GemmRowTile& tile, int first_task, int number) {
    const LaneRows rows(tile);
    const bool dense = expert.form == ExpertForm::kDense;
    Weights weights = {};
    CUDAMOE_UNROLL
    for (int t = 0; t < kTasks; ++t) {
      const int task = first_task + t;
      if (dense && task >= expert.tasks) break;
      CUDAMOE_UNROLL
      for (int h = 0; h < 2; ++h) {
        if (rows.row[h] < 0) continue;
        const int64_t pairs = dense ? rows.row[h] * expert.tasks + task : load_constant(expert.items + rows.row[h]);
        weights.value[t][h] = load_constant(expert.gates + pairs * expert.choices + number);
        if (expert.residual != nullptr) weights.value[t][h] += load_constant(expert.residual + task * expert.experts + number);
      }
    }
    return weights;
  }
  CUDAMOE_DEVICE void add(const Weights& weights, const FragmentSums<kTiles>& output) {
    CUDAMOE_UNROLL
    for (int t = 0; t < kTasks; ++t) {
      CUDAMOE_UNROLL
      for (int j = 0; j < kTiles; ++j) {
        CUDAMOE_UNROLL
        for (int e = 0; e < 4; ++e) sum_[t].value[j][e] = fma(weights.value[t][e / 2], output.value[j][e], sum_[t].value[j][e]);
      }
    }
  }

  CUDAMOE_DEVICE void store(const Expert& expert, const GemmRowTile& tile, int first_task, int first_column) const {
    if (expert.form == ExpertForm::kSparse) {
      // A row is an item: sample and task.
      LaneRows rows(tile);
      int64_t offset[2] = {};
      CUDAMOE_UNROLL
      for (int h = 0; h < 2; ++h) {
        if (rows.row[h] < 0) continue;
        const int32_t item = load_constant(expert.items + rows.row[h]);
        rows.row[h] = item / expert.tasks;
        offset[h] = item % expert.tasks * expert.y_task_stride;
      }
      const auto store_as = [&](auto* base) {
        const bool one = expert.tasks == 1;
        store_at<kShuffles>(base, expert.y.row_stride, rows, offset, one || expert.y_task_stride % 2 == 0,
                            one || expert.y_task_stride % 8 == 0, first_column, expert.columns, sum_[0]);
      };
      if (expert.y.is_bf16 != 0) {
        store_as(static_cast<Bf16*>(const_cast<void*>(expert.y.data)));
      } else {
        store_as(static_cast<float*>(const_cast<void*>(expert.y.data)));
      }
      return;
    }
    CUDAMOE_UNROLL
    for (int t = 0; t < kTasks; ++t) {
      if (first_task + t >= expert.tasks) break;
      store_rows<kShuffles>(expert.y, (first_task + t) * expert.y_task_stride, tile, first_column, expert.columns, sum_[t]);
    }
  }

 private:
  FragmentSums<kTiles> sum_[kTasks];
};

}  // namespace cudamoe::kernels
