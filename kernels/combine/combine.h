// The kernels of the combine family, as the host launches them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/activation.h"
#include "common/report.cuh"

namespace cudamoe::kernels {

// Expert outputs: element (b, e, j) at b * row_stride + e * expert_stride + j, or with slots row s at s * row_stride.
template <class Pointer>
struct CombineExperts {
  Pointer data;
  int64_t row_stride, expert_stride;
};

struct CombineShape {
  int32_t tasks, choices;  // experts, or choices a task
  int64_t rows, width;
  const int32_t* slots;  // [rows, tasks * choices]; null: dense
  int64_t expert_rows;   // sparse: the bound of the slots
  int32_t is_bf16;
  OffenderCell* offender;
  DeviceReport* report;

  int64_t pairs() const { return rows * tasks * choices; }
};

struct CombineForward {
  CombineShape shape;
  const float* gates;     // [rows, tasks, choices]
  const float* residual;  // [tasks, choices] or null
  CombineExperts<const void*> expert;
  float* y;
  int64_t y_row_stride, y_task_stride;
};
cudaError_t combine_forward(const CombineForward& combine, cudaStream_t stream);

struct CombineBackward {
  CombineShape shape;
  const float* gates;
  const float* residual;
  CombineExperts<const void*> expert;
  const void* below;  // what the activation's derivative is taken from, in the layout of expert
  Activation activation;
  float slope;
  const float* dy;
  int64_t dy_row_stride, dy_task_stride;
  const float* task_scale;  // [tasks] or null
  CombineExperts<void*> dexpert;
  float* dgates;  // [rows, tasks, choices] or null
};
cudaError_t combine_backward(const CombineBackward& combine, cudaStream_t stream);

// sums[i] = sum over the rows of values[row][i], plus sums[i] with accumulate. `partials` holds combine_chunks(rows) * width.
CUDAMOE_HOST_DEVICE int64_t combine_chunk_rows(int64_t rows) { return rows <= 256 * 256 ? 256 : (rows + 255) / 256; }
CUDAMOE_HOST_DEVICE int64_t combine_chunks(int64_t rows) { return (rows + combine_chunk_rows(rows) - 1) / combine_chunk_rows(rows); }
cudaError_t combine_sum_rows(const float* values, int64_t rows, int64_t width, bool accumulate, double* partials, float* sums,
                             cudaStream_t stream);

}  // namespace cudamoe::kernels
