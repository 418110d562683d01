// Checks of gated products.
#include "core/abi.h"
#include "core/gemm/rules.h"
#include "core/matrix.h"

namespace cudamoe {
namespace {

template <class Args>
void check_shape(Check& check, const Args& args) {
  check_gemm_activation(check, args.activation, args.activation_slope).zero("reserved", args.reserved);
  check.count("rows", args.rows).count("width", args.width, 1);
}

void check_forward(Check& check, const cudamoe_gated_product_forward_args& args, const cudamoe_stream*) {
  check_shape(check, args);
  const Matrix a{"a", args.a, "a_row_stride", args.a_row_stride, args.rows, args.width};
  const Matrix b{"b", args.b, "b_row_stride", args.b_row_stride, args.rows, args.width};
  const Matrix y{"y", args.y, "y_row_stride", args.y_row_stride, args.rows, args.width};
  for (const Matrix& matrix : {a, b, y}) check_matrix(check, matrix);
  check_apart(check, y, a);
  check_apart(check, y, b);
}

void check_backward(Check& check, const cudamoe_gated_product_backward_args& args, const cudamoe_stream*) {
  check.flag("accumulate_a", args.accumulate_a).flag("accumulate_b", args.accumulate_b);
  check_shape(check, args);
  const Matrix a{"a", args.a, "a_row_stride", args.a_row_stride, args.rows, args.width};
  const Matrix b{"b", args.b, "b_row_stride", args.b_row_stride, args.rows, args.width};
  const Matrix dy{"dy", args.dy, "dy_row_stride", args.dy_row_stride, args.rows, args.width};
  const Matrix da{"da", args.da, "da_row_stride", args.da_row_stride, args.rows, args.width};
  const Matrix db{"db", args.db, "db_row_stride", args.db_row_stride, args.rows, args.width};
  for (const Matrix& matrix : {a, b, dy, da, db}) check_matrix(check, matrix);
  for (const Matrix& out : {da, db}) {
    for (const Matrix& in : {a, b, dy}) check_apart(check, out, in);
  }
  check_apart(check, da, db);
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_gated_product_forward(cudamoe_stream* stream, const cudamoe_gated_product_forward_args* args) {
  return run_operation("cudamoe_gated_product_forward", stream, args, &Backend::gated_product_forward, check_forward);
}

cudamoe_status cudamoe_gated_product_backward(cudamoe_stream* stream, const cudamoe_gated_product_backward_args* args) {
  return run_operation("cudamoe_gated_product_backward", stream, args, &Backend::gated_product_backward, check_backward);
}

}  // extern "C"
