// cudamoe_gemm_forward and its work space query: the rules of their arguments.
#include "core/gemm/rules.h"

namespace cudamoe {
namespace {

using Args = cudamoe_gemm_forward_args;

int64_t strided_groups(const Args& args) { return args.offsets == nullptr ? args.groups : 1; }

GemmMatrix x_of(const Args& args) {
  const int64_t rows = args.gather == nullptr || args.rows == 0 ? args.rows : args.x_rows;
  return {"x",         "x_row_stride", "x_group_stride", args.x, rows, args.k, args.x_row_stride, args.x_group_stride, strided_groups(args),
          args.x_dtype};
}

GemmMatrix y_of(const Args& args, const char* name, const void* data) {
  return {
      name,        "y_row_stride", "y_group_stride", data, args.rows, args.n, args.y_row_stride, args.y_group_stride, strided_groups(args),
      args.y_dtype};
}

Check& check_shape(Check& check, const Args& args) {
  check_gemm_shape(check, args.groups, args.rows, args.n, args.k);
  return check.dtype("x_dtype", args.x_dtype).dtype("packed_dtype", args.packed_dtype).dtype("y_dtype", args.y_dtype);
}

Check& check_arguments(Check& check, const Args& args, const cudamoe_stream* stream) {
  check_shape(check, args);
  check_gemm_rows(check, args.offsets, args.gather, args.rows, args.x_rows);
  check_gemm_activation(check, args.activation, args.activation_slope).flag("accumulate", args.accumulate);
  check.require(args.accumulate == 0 || args.activation == CUDAMOE_ACTIVATION_NONE,
                "accumulate is 1 and activation is %d; it must be 0 (none) then", args.activation);
  check.require(args.accumulate == 0 || args.preactivation == nullptr, "accumulate is 1 and preactivation is set; it must be null then");
  const GemmMatrix x = x_of(args), y = y_of(args, "y", args.y), before = y_of(args, "preactivation", args.preactivation);
  check_gemm_input(check, x);
  check_gemm_output(check, y);
  if (args.bias != nullptr) {
    check.optional("bias", args.bias, alignof(float));
    if (args.groups > 1) check.stride("bias_group_stride", args.bias_group_stride, args.n, args.groups);
  }
  check_gemm_data(check, x);
  check_gemm_data(check, y);
  check.optional("preactivation", args.preactivation, static_cast<size_t>(dtype_bytes(args.y_dtype)));
  check.data("packed", args.packed, 64, args.rows);
  if (!check.ok()) return check;
  const int64_t needed = needed_bytes(stream, &Backend::gemm_forward_workspace, args);
  check.workspace(args.workspace, args.workspace_bytes, needed);
  if (!check.ok() || args.rows == 0) return check;

  struct Input {
    const char* name;
    const void* data;
    int64_t bytes;
  };
  const Input inputs[] = {{"x", args.x, x.span()},
                          {"packed", args.packed, gemm_packed_bytes(stream, args.groups, args.n, args.k, 0, args.packed_dtype)},
                          {"bias", args.bias, ((args.groups - 1) * args.bias_group_stride + args.n) * 4},
                          {"offsets", args.offsets, (args.groups + int64_t{1}) * 8},
                          {"gather", args.gather, args.rows * 4}};
  const Input outputs[] = {
      {"y", args.y, y.span()}, {"preactivation", args.preactivation, before.span()}, {"workspace", args.workspace, needed}};
  for (const Input& output : outputs) {
    for (const Input& input : inputs) check.disjoint(output.name, output.data, output.bytes, input.name, input.data, input.bytes);
  }
  check.disjoint("preactivation", args.preactivation, before.span(), "y", args.y, y.span());
  check.disjoint("workspace", args.workspace, needed, "y", args.y, y.span());
  return check.disjoint("workspace", args.workspace, needed, "preactivation", args.preactivation, before.span());
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_gemm_forward_workspace(cudamoe_stream* stream, const cudamoe_gemm_forward_args* args, int64_t* bytes) {
  return run_query("cudamoe_gemm_forward_workspace", stream, args, bytes, &Backend::gemm_forward_workspace, check_shape);
}

cudamoe_status cudamoe_gemm_forward(cudamoe_stream* stream, const cudamoe_gemm_forward_args* args) {
  return run_operation("cudamoe_gemm_forward", stream, args, &Backend::gemm_forward, check_arguments);
}

}  // extern "C"
