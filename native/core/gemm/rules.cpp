#include "core/gemm/rules.h"

namespace cudamoe {
namespace {

long long ll(int64_t value) { return static_cast<long long>(value); }

}  // namespace

Check& check_gemm_shape(Check& check, int32_t groups, int64_t rows, int64_t n, int64_t k) {
  check.range("groups", groups, 1, kMaxGroups).count("rows", rows).count("n", n, 1).count("k", k, 1);
  // Room for the padding of packed weights as well.
  const int64_t elements = check.ok() ? checked_product(n + 64, k + 64) : 0;
  return check.require(elements != kOverflow && checked_product(elements, groups) != kOverflow,
                       "groups is %d, n is %lld and k is %lld; that many weights exceed the address space", groups, ll(n), ll(k));
}

Check& check_gemm_input(Check& check, const GemmMatrix& matrix) {
  check.stride(matrix.row_stride_name, matrix.row_stride, matrix.width, matrix.rows);
  if (matrix.groups > 1) check.stride(matrix.group_stride_name, matrix.group_stride, 0, matrix.groups);
  return check;
}

Check& check_gemm_output(Check& check, const GemmMatrix& matrix) {
  check_gemm_input(check, matrix);
  if (!check.ok() || matrix.groups <= 1 || matrix.rows <= 0) return check;
  const int64_t stacked = (matrix.rows - 1) * matrix.row_stride + matrix.width;
  const bool one_after_the_other = matrix.group_stride >= stacked;
  const bool side_by_side =
      matrix.group_stride >= matrix.width && matrix.row_stride >= (matrix.groups - 1) * matrix.group_stride + matrix.width;
  return check.require(
      one_after_the_other || side_by_side,
      "%s is %lld with %s %lld; the %lld groups of %lld x %lld must not share elements (at least %lld, or side by side in a row)",
      matrix.group_stride_name, ll(matrix.group_stride), matrix.row_stride_name, ll(matrix.row_stride), ll(matrix.groups), ll(matrix.rows),
      ll(matrix.width), ll(stacked));
}

Check& check_gemm_weights(Check& check, const char* row_stride_name, const char* group_stride_name, int32_t groups, int64_t n, int64_t k,
                          int64_t row_stride, int64_t group_stride) {
  check.stride(row_stride_name, row_stride, k, n);
  if (groups > 1 && check.ok()) check.stride(group_stride_name, group_stride, n * row_stride, groups);
  return check;
}

Check& check_gemm_data(Check& check, const GemmMatrix& matrix) {
  return check.data(matrix.name, matrix.data, static_cast<size_t>(dtype_bytes(matrix.dtype)), matrix.rows);
}

Check& check_gemm_rows(Check& check, const int64_t* offsets, const int32_t* gather, int64_t rows, int64_t x_rows) {
  check.optional("offsets", offsets, alignof(int64_t)).optional("gather", gather, alignof(int32_t));
  if (gather == nullptr) return check;
  check.require(offsets != nullptr, "gather is set and offsets is null; gather is for ragged groups only");
  return check.count("x_rows", x_rows, rows > 0 ? 1 : 0);
}

Check& check_gemm_activation(Check& check, int32_t activation, float slope) {
  check.range("activation", activation, CUDAMOE_ACTIVATION_NONE, CUDAMOE_ACTIVATION_TANH);
  if (activation == CUDAMOE_ACTIVATION_LEAKY_RELU) check.real("activation_slope", static_cast<double>(slope), 0.0);
  return check;
}

int64_t gemm_packed_bytes(const cudamoe_stream* stream, int32_t groups, int64_t n, int64_t k, int32_t transposed, int32_t dtype) {
  cudamoe_gemm_pack_args args{};
  args.struct_size = sizeof args;
  args.groups = groups;
  args.n = n;
  args.k = k;
  args.transposed = transposed;
  args.dtype = dtype;
  return needed_bytes(stream, &Backend::gemm_packed_bytes, args);
}

}  // namespace cudamoe
