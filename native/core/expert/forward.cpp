// cudamoe_expert_forward and its work space query: the rules of their arguments.
#include <iterator>

#include "core/expert/rules.h"

namespace cudamoe {
namespace {

using Args = cudamoe_expert_forward_args;

Check& check_shape(Check& check, const Args& args) {
  check_expert_shape(check, args, args.groups).dtype("h_dtype", args.h_dtype).zero("reserved", args.reserved);
  check.require(!check.ok() || checked_product(checked_product(args.rows, args.groups), args.hidden) != kOverflow,
                "rows is %lld, groups is %d and hidden is %lld; the hidden rows exceed the address space",
                static_cast<long long>(args.rows), args.groups, static_cast<long long>(args.hidden));
  return check.require(args.h_dtype == CUDAMOE_F32 || args.packed_dtype == CUDAMOE_BF16,
                       "h_dtype is %d with packed_dtype %d; bf16 needs weights packed as bf16", args.h_dtype, args.packed_dtype);
}

Check& check_arguments(Check& check, const Args& args, const cudamoe_stream* stream) {
  check_shape(check, args);
  check_gemm_rows(check, args.offsets, args.gather, args.rows, args.x_rows);
  check_expert_activations(check, args);
  check.require(args.h_preactivation == nullptr || args.h != nullptr, "h_preactivation is set and h is null; it needs h");
  const int64_t groups = args.offsets == nullptr ? args.groups : 1,
                x_rows = args.gather == nullptr || args.rows == 0 ? args.rows : args.x_rows;
  const GemmMatrix x{"x",    "x_row_stride",    "x_group_stride",    args.x, x_rows,
                     args.k, args.x_row_stride, args.x_group_stride, groups, args.x_dtype};
  const auto hidden = [&](const char* name, const void* data) {
    return GemmMatrix{name,        "h_row_stride",    "h_group_stride",    data,   args.rows,
                      args.hidden, args.h_row_stride, args.h_group_stride, groups, args.h_dtype};
  };
  const GemmMatrix h = hidden("h", args.h), before = hidden("h_preactivation", args.h_preactivation);
  const GemmMatrix y{"y",    "y_row_stride",    "y_group_stride",    args.y, args.rows,
                     args.n, args.y_row_stride, args.y_group_stride, groups, args.y_dtype};
  check_gemm_input(check, x);
  check_gemm_output(check, y);
  if (args.h != nullptr) {
    check_gemm_output(check, h);
    check_gemm_data(check, h);
    check.optional("h_preactivation", args.h_preactivation, static_cast<size_t>(dtype_bytes(args.h_dtype)));
  }
  check_gemm_data(check, x);
  check_gemm_data(check, y);
  check_expert_weights(check, args, args.groups);
  if (!check.ok()) return check;
  const int64_t needed = needed_bytes(stream, &Backend::expert_forward_workspace, args);
  check.workspace(args.workspace, args.workspace_bytes, needed);
  if (!check.ok() || args.rows == 0) return check;
  const NamedRange inputs[] = {
      {"x", args.x, x.span()}, {"offsets", args.offsets, (args.groups + int64_t{1}) * 8}, {"gather", args.gather, args.rows * 4}};
  const NamedRange outputs[] = {{"y", args.y, y.span()},
                                {"h", args.h, args.h == nullptr ? 0 : h.span()},
                                {"h_preactivation", args.h_preactivation, args.h_preactivation == nullptr ? 0 : before.span()},
                                {"workspace", args.workspace, needed}};
  check_expert_overlaps(check, stream, args, args.groups, inputs, std::size(inputs), outputs, std::size(outputs));
  return check;
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_expert_forward_workspace(cudamoe_stream* stream, const cudamoe_expert_forward_args* args, int64_t* bytes) {
  return run_query("cudamoe_expert_forward_workspace", stream, args, bytes, &Backend::expert_forward_workspace, check_shape);
}

cudamoe_status cudamoe_expert_forward(cudamoe_stream* stream, const cudamoe_expert_forward_args* args) {
  return run_operation("cudamoe_expert_forward", stream, args, &Backend::expert_forward, check_arguments);
}

}  // extern "C"
