// Checks of layer normalisation.
#include "core/abi.h"

namespace cudamoe {
namespace {

template <class Args>
void check_shape(Check& check, const Args& args) {
  check.count("rows", args.rows).count("width", args.width, 1);
}

void check_matrix(Check& check, const char* field, const float* data, const char* stride_field, int64_t stride, int64_t rows,
                  int64_t width) {
  check.data(field, data, alignof(float), rows).stride(stride_field, stride, width, rows);
}

// An output may be the input itself, element for element, or be apart from it.
void check_same_or_disjoint(Check& check, const char* out_field, const float* out, int64_t out_stride, const char* in_field,
                            const float* in, int64_t in_stride, int64_t rows, int64_t width) {
  if (!check.ok()) return;
  if (out == in) {
    check.require(out_stride == in_stride || rows <= 1, "%s is %s but their row strides are %lld and %lld; in place they must be equal",
                  out_field, in_field, static_cast<long long>(out_stride), static_cast<long long>(in_stride));
  } else {
    check.disjoint(out_field, out, span_bytes(rows, width, out_stride, 4), in_field, in, span_bytes(rows, width, in_stride, 4));
  }
}

void check_forward(Check& check, const cudamoe_layer_norm_forward_args& args, const cudamoe_stream*) {
  check_shape(check, args);
  check.require(!check.ok() || args.epsilon > 0, "epsilon is %g; it must be greater than 0", static_cast<double>(args.epsilon));
  check.real("epsilon", args.epsilon, 0, std::numeric_limits<float>::max());
  check_matrix(check, "x", args.x, "x_row_stride", args.x_row_stride, args.rows, args.width);
  check_matrix(check, "y", args.y, "y_row_stride", args.y_row_stride, args.rows, args.width);
  check.optional("gamma", args.gamma, alignof(float)).optional("beta", args.beta, alignof(float));
  check.optional("mean", args.mean, alignof(float)).optional("reciprocal_deviation", args.reciprocal_deviation, alignof(float));
  check_same_or_disjoint(check, "y", args.y, args.y_row_stride, "x", args.x, args.x_row_stride, args.rows, args.width);
  if (!check.ok()) return;
  const int64_t y = span_bytes(args.rows, args.width, args.y_row_stride, 4), x = span_bytes(args.rows, args.width, args.x_row_stride, 4);
  check.disjoint("y", args.y, y, "gamma", args.gamma, args.width * 4).disjoint("y", args.y, y, "beta", args.beta, args.width * 4);
  check.disjoint("mean", args.mean, args.rows * 4, "x", args.x, x).disjoint("mean", args.mean, args.rows * 4, "y", args.y, y);
  check.disjoint("reciprocal_deviation", args.reciprocal_deviation, args.rows * 4, "x", args.x, x);
  check.disjoint("reciprocal_deviation", args.reciprocal_deviation, args.rows * 4, "y", args.y, y);
  check.disjoint("reciprocal_deviation", args.reciprocal_deviation, args.rows * 4, "mean", args.mean, args.rows * 4);
}

void check_backward(Check& check, const cudamoe_layer_norm_backward_args& args, const cudamoe_stream* stream) {
  check_shape(check, args);
  check.flag("accumulate", args.accumulate);
  check_matrix(check, "x", args.x, "x_row_stride", args.x_row_stride, args.rows, args.width);
  check.optional("gamma", args.gamma, alignof(float));
  check.data("mean", args.mean, alignof(float), args.rows)
      .data("reciprocal_deviation", args.reciprocal_deviation, alignof(float), args.rows);
  check_matrix(check, "dy", args.dy, "dy_row_stride", args.dy_row_stride, args.rows, args.width);
  check_matrix(check, "dx", args.dx, "dx_row_stride", args.dx_row_stride, args.rows, args.width);
  check.optional("dgamma", args.dgamma, alignof(float)).optional("dbeta", args.dbeta, alignof(float));
  check_same_or_disjoint(check, "dx", args.dx, args.dx_row_stride, "dy", args.dy, args.dy_row_stride, args.rows, args.width);
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
                   check_shape<cudamoe_layer_norm_backward_args>);
}

cudamoe_status cudamoe_layer_norm_backward(cudamoe_stream* stream, const cudamoe_layer_norm_backward_args* args) {
  return run_operation("cudamoe_layer_norm_backward", stream, args, &Backend::layer_norm_backward, check_backward);
}

}  // extern "C"
