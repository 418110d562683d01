// cudamoe_gemm_dgrad and its work space query: the rules of their arguments.
#include "core/gemm/rules.h"

namespace cudamoe {
namespace {

using Args = cudamoe_gemm_dgrad_args;

int64_t strided_groups(const Args& args) { return args.offsets == nullptr ? args.groups : 1; }

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
GemmMatrix dx_of(const Args& args) {
  return {"dx",
          "dx_row_stride",
          "dx_group_stride",
          args.dx,
          args.rows,
          args.k,
          args.dx_row_stride,
          args.dx_group_stride,
          strided_groups(args),
          args.dx_dtype};
}
GemmMatrix below_of(const Args& args) {
  return {"below", "below_row_stride",    "below_group_stride",    args.below,           args.rows,
          args.k,  args.below_row_stride, args.below_group_stride, strided_groups(args), args.dx_dtype};
}

Check& check_shape(Check& check, const Args& args) {
  check_gemm_shape(check, args.groups, args.rows, args.n, args.k);
  return check.dtype("dz_dtype", args.dz_dtype).dtype("packed_dtype", args.packed_dtype).dtype("dx_dtype", args.dx_dtype);
}

Check& check_arguments(Check& check, const Args& args, const cudamoe_stream* stream) {
  check_shape(check, args);
  check_gemm_rows(check, args.offsets, nullptr, args.rows, 0);
  check_gemm_activation(check, args.activation, args.activation_slope).flag("accumulate", args.accumulate);
  const GemmMatrix dz = dz_of(args), dx = dx_of(args), below = below_of(args);
  check_gemm_input(check, dz);
  check_gemm_output(check, dx);
  if (args.below != nullptr) {
    check_gemm_input(check, below);
    check.optional("below", args.below, static_cast<size_t>(dtype_bytes(args.dx_dtype)));
  }
  check_gemm_data(check, dz);
  check_gemm_data(check, dx);
  check.data("packed", args.packed, 64, args.rows);
  if (!check.ok()) return check;
  const int64_t needed = needed_bytes(stream, &Backend::gemm_dgrad_workspace, args);
  check.workspace(args.workspace, args.workspace_bytes, needed);
  if (!check.ok() || args.rows == 0) return check;

  struct Input {
    const char* name;
    const void* data;
    int64_t bytes;
  };
  const Input inputs[] = {{"dz", args.dz, dz.span()},
                          {"packed", args.packed, gemm_packed_bytes(stream, args.groups, args.n, args.k, 1, args.packed_dtype)},
                          {"below", args.below, below.span()},
                          {"offsets", args.offsets, (args.groups + int64_t{1}) * 8}};
  for (const Input& input : inputs) {
    check.disjoint("dx", args.dx, dx.span(), input.name, input.data, input.bytes);
    check.disjoint("workspace", args.workspace, needed, input.name, input.data, input.bytes);
  }
  return check.disjoint("workspace", args.workspace, needed, "dx", args.dx, dx.span());
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_gemm_dgrad_workspace(cudamoe_stream* stream, const cudamoe_gemm_dgrad_args* args, int64_t* bytes) {
  return run_query("cudamoe_gemm_dgrad_workspace", stream, args, bytes, &Backend::gemm_dgrad_workspace, check_shape);
}

cudamoe_status cudamoe_gemm_dgrad(cudamoe_stream* stream, const cudamoe_gemm_dgrad_args* args) {
  return run_operation("cudamoe_gemm_dgrad", stream, args, &Backend::gemm_dgrad, check_arguments);
}

}  // extern "C"
