// The kernels of the norm family, as the host launches them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/target.cuh"

namespace cudamoe::kernels {

struct NormForward {
  int64_t rows, width;
  const float* x;
  int64_t x_row_stride;
  const float* gamma;  // or null = 1
  const float* beta;   // or null = 0
  float* y;
  int64_t y_row_stride;
  float* mean;        // or null
  float* reciprocal;  // or null
  float epsilon;
  int32_t centred;  // 0: by the root of the mean square, as if the mean were 0
};
cudaError_t norm_forward(const NormForward& norm, cudaStream_t stream);

// Rows that one block of the backward takes, and their number: each leaves partial sums of dgamma and dbeta.
CUDAMOE_HOST_DEVICE int64_t norm_chunk_rows(int64_t rows) { return rows <= 16 * 1024 ? 16 : (rows + 1023) / 1024; }
CUDAMOE_HOST_DEVICE int64_t norm_chunks(int64_t rows) { return (rows + norm_chunk_rows(rows) - 1) / norm_chunk_rows(rows); }

struct NormBackward {
  int64_t rows, width;
  const float* x;
  int64_t x_row_stride;
  const float* gamma;
  const float* mean;  // null: not centred, the mean is taken as the constant 0
  const float* reciprocal;
  const float* dy;
  int64_t dy_row_stride;
  float* dx;  // may be dy
  int64_t dx_row_stride;
  float* partials;  // [norm_chunks(rows), {dgamma, dbeta}, width], or null: no sums
};
// dx, and the partial sums.
cudaError_t norm_backward(const NormBackward& norm, cudaStream_t stream);

// dgamma and dbeta [width], either may be null, (+)= the sums of the partials.
cudaError_t norm_sum_chunks(const float* partials, int64_t chunks, int64_t width, bool accumulate, float* dgamma, float* dbeta,
                            cudaStream_t stream);

}  // namespace cudamoe::kernels
