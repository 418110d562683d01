// cudamoe_gemm_pack and its size query: the rules of their arguments.
#include "core/gemm/rules.h"

namespace cudamoe {
namespace {

Check& check_shape(Check& check, const cudamoe_gemm_pack_args& args) {
  check_gemm_shape(check, args.groups, 0, args.n, args.k);
  return check.flag("transposed", args.transposed).dtype("dtype", args.dtype);
}

Check& check_arguments(Check& check, const cudamoe_gemm_pack_args& args, const cudamoe_stream* stream) {
  check_shape(check, args);
  check_gemm_weights(check, "weights_row_stride", "weights_group_stride", args.groups, args.n, args.k, args.weights_row_stride,
                     args.weights_group_stride);
  check.pointer("weights", args.weights, alignof(float)).pointer("packed", args.packed, 64);
  if (!check.ok()) return check;
  const int64_t needed = needed_bytes(stream, &Backend::gemm_packed_bytes, args);
  check.require(args.packed_bytes >= needed, "packed_bytes is %lld; these weights need %lld", static_cast<long long>(args.packed_bytes),
                static_cast<long long>(needed));
  return check.disjoint("packed", args.packed, needed, "weights", args.weights,
                        gemm_weights_bytes(args.groups, args.n, args.k, args.weights_row_stride, args.weights_group_stride));
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_gemm_packed_bytes(cudamoe_stream* stream, const cudamoe_gemm_pack_args* args, int64_t* bytes) {
  return run_query("cudamoe_gemm_packed_bytes", stream, args, bytes, &Backend::gemm_packed_bytes, check_shape);
}

cudamoe_status cudamoe_gemm_pack(cudamoe_stream* stream, const cudamoe_gemm_pack_args* args) {
  return run_operation("cudamoe_gemm_pack", stream, args, &Backend::gemm_pack, check_arguments);
}

}  // extern "C"
