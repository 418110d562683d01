// The kernels of the activation family, as the host launches them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/activation.h"

namespace cudamoe::kernels {

struct GatedProduct {
  int64_t rows, width;
  const float *a, *b;
  int64_t a_row_stride, b_row_stride;
  Activation activation;
  float slope;
  float* y;
  int64_t y_row_stride;
};
cudaError_t gated_product(const GatedProduct& product, cudaStream_t stream);

struct GatedProductGradient {
  int64_t rows, width;
  const float *a, *b, *dy;
  int64_t a_row_stride, b_row_stride, dy_row_stride;
  Activation activation;
  float slope;
  float *da, *db;
  int64_t da_row_stride, db_row_stride;
  int32_t accumulate_a, accumulate_b;
};
cudaError_t gated_product_gradient(const GatedProductGradient& gradient, cudaStream_t stream);

}  // namespace cudamoe::kernels
