// Checks of layer normalisation.
#include "core/norm/rules.h"

namespace cudamoe {
namespace {

void check_forward(Check& check, const cudamoe_layer_norm_forward_args& args, const cudamoe_stream*) {
  check_norm_shape(check, args);
  check_epsilon(check, args.epsilon);
  check_matrix(check, {"x", args.x, "x_row_stride", args.x_row_stride, args.rows, args.width});
  check_matrix(check, {"y", args.y, "y_row_stride", args.y_row_stride, args.rows, args.width});
  check.optional("gamma", args.gamma, alignof(float)).optional("beta", args.beta, alignof(float));
  check.optional("mean", args.mean, alignof(float)).optional("reciprocal_deviation", args.reciprocal_deviation, alignof(float));
  check_same_or_disjoint(check, {"y", args.y, "y_row_stride", args.y_row_stride, args.rows, args.width},
                         {"x", args.x, "x_row_stride", args.x_row_stride, args.rows, args.width});
  if (!check.ok()) return;
  const int64_t y = span_bytes(args.rows, args.width, args.y_row_stride, 4), x = span_bytes(args.rows, args.width, args.x_row_stride, 4);
  check.disjoint("y", args.y, y, "gamma", args.gamma, args.width * 4).disjoint("y", args.y, y, "beta", args.beta, args.width * 4);
  check.disjoint("mean", args.mean, args.rows * 4, "x", args.x, x).disjoint("mean", args.mean, args.rows * 4, "y", args.y, y);
  check.disjoint("reciprocal_deviation", args.reciprocal_deviation, args.rows * 4, "x", args.x, x);
  check.disjoint("reciprocal_deviation", args.reciprocal_deviation, args.rows * 4, "y", args.y, y);
  check.disjoint("reciprocal_deviation", args.reciprocal_deviation, args.rows * 4, "mean", args.mean, args.rows * 4);
}

void check_backward(Check& check, const cudamoe_layer_norm_backward_args& args, const cudamoe_stream* stream) {
  check_norm_shape(check, args);
  check.flag("accumulate", args.accumulate);
  check_matrix(check, {"x", args.x, "x_row_stride", args.x_row_stride, args.rows, args.width});
  check.optional("gamma", args.gamma, alignof(float));
  check.data("mean", args.mean, alignof(float), args.rows)
      .data("reciprocal_deviation", args.reciprocal_deviation, alignof(float), args.rows);
  check_matrix(check, {"dy", args.dy, "dy_row_stride", args.dy_row_stride, args.rows, args.width});
  check_matrix(check, {"dx", args.dx, "dx_row_stride", args.dx_row_stride, args.rows, args.width});
  check.optional("dgamma", args.dgamma, alignof(float)).optional("dbeta", args.dbeta, alignof(float));
  check_same_or_disjoint(check, {"dx", args.dx, "dx_row_stride", args.dx_row_stride, args.rows, args.width},
                         {"dy", args.dy, "dy_row_stride", args.dy_row_stride, args.rows, args.width});
  if (!check.ok()) return;
  const int64_t dx = span_bytes(args.rows, args.width, args.dx_row_stride, 4);
  check.disjoint("dx", args.dx, dx, "x", args.x, span_bytes(args.rows, args.width, args.x_row_stride, 4));
  check.disjoint("dx", args.dx, dx, "dgamma", args.dgamma, args.width * 4).disjoint("dx", args.dx, dx, "dbeta", args.dbeta, args.width * 4);
  check.disjoint("dx", args.dx, dx, "gamma", args.gamma, args.width * 4);
  check.disjoint("dgamma", args.dgamma, args.width * 4, "dbeta", args.dbeta, args.width * 4);
  if (check.ok())
    check.workspace(args.workspace, args.workspace_bytes, needed_bytes(stream, &Backend::layer_norm_backward_workspace, args));
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_layer_norm_forward(cudamoe_stream* stream, const cudamoe_layer_norm_forward_args* args) {
  return run_operation("cudamoe_layer_norm_forward", stream, args, &Backend::layer_norm_forward, check_forward);
}

cudamoe_status cudamoe_layer_norm_backward_workspace(cudamoe_stream* stream, const cudamoe_layer_norm_backward_args* args, int64_t* bytes) {
  return run_query("cudamoe_layer_norm_backward_workspace", stream, args, bytes, &Backend::layer_norm_backward_workspace,
                   check_norm_shape<cudamoe_layer_norm_backward_args>);
}

cudamoe_status cudamoe_layer_norm_backward(cudamoe_stream* stream, const cudamoe_layer_norm_backward_args* args) {
  return run_operation("cudamoe_layer_norm_backward", stream, args, &Backend::layer_norm_backward, check_backward);
}

}  // extern "C"
