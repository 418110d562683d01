// Checks of normalisation by the root of the mean square.
#include "core/norm/rules.h"

namespace cudamoe {
namespace {

void check_forward(Check& check, const cudamoe_rms_norm_forward_args& args, const cudamoe_stream*) {
  check_norm_shape(check, args);
  check_epsilon(check, args.epsilon);
  const Matrix x{"x", args.x, "x_row_stride", args.x_row_stride, args.rows, args.width};
  const Matrix y{"y", args.y, "y_row_stride", args.y_row_stride, args.rows, args.width};
  check_matrix(check, x);
  check_matrix(check, y);
  check.optional("gamma", args.gamma, alignof(float)).optional("reciprocal", args.reciprocal, alignof(float));
  check_same_or_disjoint(check, y, x);
  if (!check.ok()) return;
  check.disjoint("y", args.y, y.bytes(), "gamma", args.gamma, args.width * 4);
  check.disjoint("reciprocal", args.reciprocal, args.rows * 4, "x", args.x, x.bytes());
  check.disjoint("reciprocal", args.reciprocal, args.rows * 4, "y", args.y, y.bytes());
}

void check_backward(Check& check, const cudamoe_rms_norm_backward_args& args, const cudamoe_stream* stream) {
  check_norm_shape(check, args);
  check.flag("accumulate", args.accumulate);
  const Matrix x{"x", args.x, "x_row_stride", args.x_row_stride, args.rows, args.width};
  const Matrix dy{"dy", args.dy, "dy_row_stride", args.dy_row_stride, args.rows, args.width};
  const Matrix dx{"dx", args.dx, "dx_row_stride", args.dx_row_stride, args.rows, args.width};
  for (const Matrix& matrix : {x, dy, dx}) check_matrix(check, matrix);
  check.optional("gamma", args.gamma, alignof(float)).data("reciprocal", args.reciprocal, alignof(float), args.rows);
  check.optional("dgamma", args.dgamma, alignof(float));
  check_same_or_disjoint(check, dx, dy);
  if (!check.ok()) return;
  check.disjoint("dx", args.dx, dx.bytes(), "x", args.x, x.bytes());
  check.disjoint("dx", args.dx, dx.bytes(), "dgamma", args.dgamma, args.width * 4);
  check.disjoint("dx", args.dx, dx.bytes(), "gamma", args.gamma, args.width * 4);
  check.disjoint("dx", args.dx, dx.bytes(), "reciprocal", args.reciprocal, args.rows * 4);
  if (check.ok()) check.workspace(args.workspace, args.workspace_bytes, needed_bytes(stream, &Backend::rms_norm_backward_workspace, args));
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_rms_norm_forward(cudamoe_stream* stream, const cudamoe_rms_norm_forward_args* args) {
  return run_operation("cudamoe_rms_norm_forward", stream, args, &Backend::rms_norm_forward, check_forward);
}

cudamoe_status cudamoe_rms_norm_backward_workspace(cudamoe_stream* stream, const cudamoe_rms_norm_backward_args* args, int64_t* bytes) {
  return run_query("cudamoe_rms_norm_backward_workspace", stream, args, bytes, &Backend::rms_norm_backward_workspace,
                   check_norm_shape<cudamoe_rms_norm_backward_args>);
}

cudamoe_status cudamoe_rms_norm_backward(cudamoe_stream* stream, const cudamoe_rms_norm_backward_args* args) {
  return run_operation("cudamoe_rms_norm_backward", stream, args, &Backend::rms_norm_backward, check_backward);
}

}  // extern "C"
