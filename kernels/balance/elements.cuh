// Where the runs of four columns of a [rows, width] matrix lie.
#pragma once

#include "balance/balance.h"
#include "common/kernel.cuh"
#include "common/quad.cuh"

namespace cudamoe::kernels {

struct QuadPlace {
  int64_t row, column;
};

// Run number `quad`, and those that follow it at a distance of `step` runs: one division, then additions.
class QuadWalk {
 public:
  CUDAMOE_DEVICE QuadWalk(int64_t width, int64_t quad, int step) {
    of_row_ = (width + 3) / 4;
    row_ = quad / of_row_;
    quad_ = quad - row_ * of_row_;
    step_rows_ = step / of_row_;
    step_quads_ = step - step_rows_ * of_row_;
  }
  CUDAMOE_DEVICE QuadPlace place() const { return {row_, 4 * quad_}; }
  CUDAMOE_DEVICE void next() {
    row_ += step_rows_;
    quad_ += step_quads_;
    if (quad_ >= of_row_) {
      quad_ -= of_row_;
      ++row_;
    }
  }

 private:
  int64_t of_row_, row_, quad_, step_rows_, step_quads_;
};

// Whether every run of four columns is whole and can be read at once.
CUDAMOE_HOST_DEVICE bool gradients_aligned(const BalanceGradients& gradients) {
  return gradients.width % 4 == 0 && aligned_for<4>(gradients.data, gradients.rows > 1 ? gradients.row_stride : 4) &&
         (gradients.tasks == 1 || gradients.task_stride % 4 == 0);
}

}  // namespace cudamoe::kernels
