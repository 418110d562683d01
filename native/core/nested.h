// The rule for arrays of rows within rows, such as outputs of several tasks.
#pragma once

#include "core/abi.h"

namespace cudamoe {

// A [rows, inner, width] array in which either the rows or the inner index is the outer one; its elements must not overlap.
// Returns its extent in elements.
inline int64_t check_nested(Check& check, const char* row_field, int64_t row_stride, const char* inner_field, int64_t inner_stride,
                            int64_t rows, int64_t inner, int64_t width) {
  check.stride(row_field, row_stride, width, rows);
  if (inner > 1) check.stride(inner_field, inner_stride, width, inner);
  if (!check.ok() || rows == 0 || width == 0) return 0;
  const int64_t inner_extent = inner > 1 ? (inner - 1) * inner_stride + width : width;
  const int64_t row_extent = (rows - 1) * row_stride + width;
  check.require(inner == 1 || rows == 1 || row_stride >= inner_extent || inner_stride >= row_extent,
                "%s is %lld and %s is %lld; one of them must be at least the extent of the other's index (%lld or %lld), so that elements "
                "do not overlap",
                row_field, static_cast<long long>(row_stride), inner_field, static_cast<long long>(inner_stride),
                static_cast<long long>(inner_extent), static_cast<long long>(row_extent));
  check.require(inner_extent + row_extent <= int64_t{1} << 60, "%s is %lld; the array exceeds the address space", inner_field,
                static_cast<long long>(inner_stride));
  return check.ok() ? inner_extent + row_extent - width : 0;
}

}  // namespace cudamoe
