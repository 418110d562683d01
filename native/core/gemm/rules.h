// Rules that the gemm operations share.
#pragma once

#include "core/abi.h"

namespace cudamoe {

inline constexpr int32_t kMaxGroups = 65535;

// groups, rows, n, k.
Check& check_gemm_shape(Check& check, int32_t groups, int64_t rows, int64_t n, int64_t k);

// A matrix of the row space: `rows` rows of `width` elements at `row_stride`; for each of several strided groups another one
// at `group_stride`.
struct GemmMatrix {
  const char* name;
  const char* row_stride_name;
  const char* group_stride_name;
  const void* data;
  int64_t rows, width, row_stride, group_stride;
  int64_t groups;  // 1 for ragged groups
  int32_t dtype;

  int64_t span() const { return groups <= 0 ? 0 : span_bytes(1, span_elements(), 1, dtype_bytes(dtype)); }

 private:
  int64_t span_elements() const { return rows <= 0 ? 0 : (groups - 1) * group_stride + (rows - 1) * row_stride + width; }
};

// The strides of a matrix; of one that is written also that no two groups share an element.
Check& check_gemm_input(Check& check, const GemmMatrix& matrix);
Check& check_gemm_output(Check& check, const GemmMatrix& matrix);

// Weights or their gradient, [groups, n, k]; bytes that they span.
Check& check_gemm_weights(Check& check, const char* row_stride_name, const char* group_stride_name, int32_t groups, int64_t n, int64_t k,
                          int64_t row_stride, int64_t group_stride);
inline int64_t gemm_weights_bytes(int32_t groups, int64_t n, int64_t k, int64_t row_stride, int64_t group_stride) {
  return ((groups - 1) * group_stride + (n - 1) * row_stride + k) * 4;
}

// The pointer of a matrix.
Check& check_gemm_data(Check& check, const GemmMatrix& matrix);

// offsets and gather; `rows` and `x_rows` as in the header.
Check& check_gemm_rows(Check& check, const int64_t* offsets, const int32_t* gather, int64_t rows, int64_t x_rows);

// The activation's number and, for LeakyReLU, its slope: not negative, so that the derivative can be had from the output.
Check& check_gemm_activation(Check& check, int32_t activation, float slope);

// Bytes of packed weights as the stream's backend lays them out.
int64_t gemm_packed_bytes(const cudamoe_stream* stream, int32_t groups, int64_t n, int64_t k, int32_t transposed, int32_t dtype);

}  // namespace cudamoe
