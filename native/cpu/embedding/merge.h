// Merging: the gradient of a row is the sum of the gradients of its look-ups.
#pragma once

#include <cstdint>

#include "cpu/embedding/plan.h"

namespace cudamoe::cpu {

// Rows of one table whose gradients are merged together.
struct MergeTask {
  const TablePlan* table;
  const float* gradient;  // element (0, 0) of the output's gradient
  int64_t gradient_row_stride;
};

// Merges `rows` rows; row r has the look-ups starts[r] .. starts[r + 1] of the sorted keys; its sum goes to sums + r * sums_stride.
using MergeRows = void (*)(const MergeTask& task, const int64_t* starts, int rows, float* sums, int64_t sums_stride);

// The function for a table, at the instruction-set level in use. The update and the gradient operation use the same one, so
// their sums agree bit for bit.
MergeRows merge_rows_for(const TablePlan& table);

}  // namespace cudamoe::cpu
