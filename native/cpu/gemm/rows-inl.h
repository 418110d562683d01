// The rows of the left operand of a product.
//
// Include it after <hwy/highway.h> in a file that is compiled once for each target.
#if defined(CUDAMOE_CPU_GEMM_ROWS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CUDAMOE_CPU_GEMM_ROWS_INL_H
#undef CUDAMOE_CPU_GEMM_ROWS_INL_H
#else
#define CUDAMOE_CPU_GEMM_ROWS_INL_H
#endif

#include <hwy/highway.h>

#include "cpu/gemm/product.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

// Row `row` of x in the row space, from column `column`; null when its gathered number is out of bounds.
template <class T>
HWY_INLINE const T* row_of_x(const Product& product, int64_t group, int64_t row, int64_t column) {
  const T* x = static_cast<const T*>(product.x) + (product.groups.offsets == nullptr ? group * product.x_group_stride : 0) + column;
  if (product.gather == nullptr) return x + row * product.x_row_stride;
  const int64_t source = product.gather[row];
  return source < 0 || source >= product.x_rows ? nullptr : x + source * product.x_row_stride;
}

// Reports that row_of_x gave null.
inline void report_row(const Product& product, int64_t row, Stream& stream) {
  stream.report("%s: gather[%lld] is %lld; x has %lld rows", product.function, static_cast<long long>(product.first_row + row),
                static_cast<long long>(product.gather[row]), static_cast<long long>(product.x_rows));
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#endif
