// What samples of results are compared by, beside the same sums in double precision: which rows, operands as kernels multiply them, and
// when a result is off. A block of kSampleThreads a sample.
#pragma once

#include "common/activation.cuh"
#include "common/samples.h"
#include "gemm/rows.cuh"

namespace cudamoe::kernels {

inline constexpr int kSampleThreads = 128;  // of a block

CUDAMOE_DEVICE double magnitude(double x) { return x < 0 ? -x : x; }

CUDAMOE_DEVICE float element(const GemmMatrix& matrix, int64_t group, int64_t row, int64_t column) {
  const int64_t at = group * matrix.group_stride + row * matrix.row_stride + column;
  return matrix.is_bf16 != 0 ? to_float(static_cast<const Bf16*>(matrix.data)[at]) : static_cast<const float*>(matrix.data)[at];
}

// The operand as the kernel multiplies it.
CUDAMOE_DEVICE double operand(const GemmMatrix& matrix, int64_t group, int64_t row, int64_t column, bool rounded) {
  const float value = element(matrix, group, row, column);
  return rounded ? to_float(to_bf16(value)) : value;
}

CUDAMOE_DEVICE double bound_of(int64_t terms, double magnitudes) {
  constexpr double kUnit = 32.0 / (1 << 24);
  return kUnit * sqrt(static_cast<double>(terms)) * magnitudes;
}

// Whether a result is off. What is not finite is left to the tests: a split of infinity is NaN.
CUDAMOE_DEVICE bool is_wrong(float result, double expected, double bound, bool is_bf16) {
  if (!is_finite(expected)) return false;
  constexpr double kHalfUnit = 1.0 / 256, kRoundings = 1.0 / (1 << 20);
  const double most = bound + magnitude(expected) * (is_bf16 ? kHalfUnit : kRoundings) + 1e-30;
  return !(magnitude(result - expected) <= most);
}

struct SampledRow {
  int64_t group, row;  // group -1: there is none
};

CUDAMOE_DEVICE SampledRow strided_row(const GemmRows& rows, int64_t sample, int64_t samples) {
  if (rows.rows == 0) return {-1, 0};
  const int64_t group = sample % rows.groups, of_group = sample / rows.groups, per_group = ceil_divide(samples, int64_t{rows.groups});
  return {group, per_group > 1 ? of_group * (rows.rows - 1) / (per_group - 1) : sample % rows.rows};
}

CUDAMOE_DEVICE SampledRow ragged_row(const GemmRows& rows, int64_t sample, int64_t samples) {
  const int64_t even = samples / 2, used = rows.offsets[rows.groups];
  if (used == 0) return {-1, 0};
  if (sample >= even) {
    const int64_t group = (sample - even) / 2 * rows.groups / ceil_divide(samples - even, int64_t{2});
    const int64_t begin = rows.offsets[group], end = rows.offsets[group + 1];
    if (begin == end) return {-1, 0};
    return {group, sample % 2 == 0 ? begin : end - 1};
  }
  const int64_t row = even > 1 ? sample * (used - 1) / (even - 1) : 0;
  // The last group that begins at or before the row.
  int64_t low = 0, high = rows.groups - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (rows.offsets[middle] <= row) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return {low, row};
}

CUDAMOE_DEVICE SampledRow sampled_row(const GemmRows& rows, int64_t sample, int64_t samples) {
  return rows.offsets == nullptr ? strided_row(rows, sample, samples) : ragged_row(rows, sample, samples);
}

// A result and how far another way to compute it may be from it.
struct Bounded {
  double value, bound;
};

// What the activation makes of a sum that is off by `bound` at most. None is steeper than 1.13, but for a LeakyReLU whose slope is.
CUDAMOE_DEVICE Bounded activate_bounded(Activation activation, double sum, double bound, float slope) {
  const double steepness = magnitude(slope);
  bound *= steepness > 2 ? steepness : 2;
  if (activation != Activation::kNone) bound += 1e-6;
  return {activate(activation, static_cast<float>(sum), slope), bound};
}

}  // namespace cudamoe::kernels
