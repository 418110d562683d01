// cudamoe_gemm_wgrad and its work space query: the rules of their arguments.
#include "core/gemm/rules.h"

namespace cudamoe {
namespace {

using Args = cudamoe_gemm_wgrad_args;

int64_t strided_groups(const Args& args) { return args.offsets == nullptr ? args.groups : 1; }

GemmMatrix x_of(const Args& args) {
  const int64_t rows = args.gather == nullptr || args.rows == 0 ? args.rows : args.x_rows;
  return {"x",         "x_row_stride", "x_group_stride", args.x, rows, args.k, args.x_row_stride, args.x_group_stride, strided_groups(args),
          args.x_dtype};
}
GemmMatrix dz_of(const Args& args) {
  return {"dz",
          "dz_row_stride",
          "dz_group_stride",
          args.dz,
          args.rows,
          args.n,
          args.dz_row_stride,
          args.dz_group_stride,
          strided_groups(args),
          args.dz_dtype};
}

Check& check_shape(Check& check, const Args& args) {
  check_gemm_shape(check, args.groups, args.rows, args.n, args.k);
  return check.dtype("dz_dtype", args.dz_dtype).dtype("x_dtype", args.x_dtype).dtype("compute_dtype", args.compute_dtype);
}

Check& check_arguments(Check& check, const Args& args, const cudamoe_stream* stream) {
  check_shape(check, args);
  check_gemm_rows(check, args.offsets, args.gather, args.rows, args.x_rows);
  check.flag("accumulate", args.accumulate);
  const GemmMatrix x = x_of(args), dz = dz_of(args);
  check_gemm_input(check, x);
  check_gemm_input(check, dz);
  check_gemm_weights(check, "dw_row_stride", "dw_group_stride", args.groups, args.n, args.k, args.dw_row_stride, args.dw_group_stride);
  if (args.dbias != nullptr) {
    check.optional("dbias", args.dbias, alignof(float));
    if (args.groups > 1) check.stride("dbias_group_stride", args.dbias_group_stride, args.n, args.groups);
  }
  check_gemm_data(check, x);
  check_gemm_data(check, dz);
  check.pointer("dw", args.dw, alignof(float));
  if (!check.ok()) return check;
  const int64_t needed = needed_bytes(stream, &Backend::gemm_wgrad_workspace, args);
  check.workspace(args.workspace, args.workspace_bytes, needed);
  if (!check.ok()) return check;

  struct Input {
    const char* name;
    const void* data;
    int64_t bytes;
  };
  const Input inputs[] = {{"x", args.x, x.span()},
                          {"dz", args.dz, dz.span()},
                          {"offsets", args.offsets, (args.groups + int64_t{1}) * 8},
                          {"gather", args.gather, args.rows * 4}};
  const int64_t dw_bytes = gemm_weights_bytes(args.groups, args.n, args.k, args.dw_row_stride, args.dw_group_stride);
  const int64_t dbias_bytes = ((args.groups - 1) * args.dbias_group_stride + args.n) * 4;
  for (const Input& input : inputs) {
    check.disjoint("dw", args.dw, dw_bytes, input.name, input.data, input.bytes);
    check.disjoint("dbias", args.dbias, dbias_bytes, input.name, input.data, input.bytes);
    check.disjoint("workspace", args.workspace, needed, input.name, input.data, input.bytes);
  }
  check.disjoint("dbias", args.dbias, dbias_bytes, "dw", args.dw, dw_bytes);
  check.disjoint("workspace", args.workspace, needed, "dw", args.dw, dw_bytes);
  return check.disjoint("workspace", args.workspace, needed, "dbias", args.dbias, dbias_bytes);
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_gemm_wgrad_workspace(cudamoe_stream* stream, const cudamoe_gemm_wgrad_args* args, int64_t* bytes) {
  return run_query("cudamoe_gemm_wgrad_workspace", stream, args, bytes, &Backend::gemm_wgrad_workspace, check_shape);
}

cudamoe_status cudamoe_gemm_wgrad(cudamoe_stream* stream, const cudamoe_gemm_wgrad_args* args) {
  return run_operation("cudamoe_gemm_wgrad", stream, args, &Backend::gemm_wgrad, check_arguments);
}

}  // extern "C"
