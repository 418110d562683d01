// cudamoe_gemm_forward and cudamoe_gemm_dgrad of the cpu backend: two descriptions of one product.
#include "cpu/gemm/gemm.h"
#include "cpu/gemm/product.h"

namespace cudamoe::cpu {

int64_t gemm_forward_workspace(void* stream, const cudamoe_gemm_forward_args& args) {
  return plan_product(stream_of(stream).device().threads(), args.groups, args.rows, args.offsets != nullptr, args.n, args.k,
                      args.packed_dtype == CUDAMOE_BF16)
      .bytes();
}

cudamoe_status gemm_forward(void* stream, const cudamoe_gemm_forward_args& args) {
  Product product{};
  product.function = "cudamoe_gemm_forward";
  product.groups = {args.groups, args.rows, args.offsets};
  product.columns = args.n;
  product.depth = args.k;
  product.gather = args.gather;
  product.x_rows = args.x_rows;
  product.x = args.x;
  product.x_row_stride = args.x_row_stride;
  product.x_group_stride = args.x_group_stride;
  product.x_bf16 = args.x_dtype == CUDAMOE_BF16;
  product.packed = args.packed;
  product.packed_bf16 = args.packed_dtype == CUDAMOE_BF16;
  product.y = args.y;
  product.y_row_stride = args.y_row_stride;
  product.y_group_stride = args.y_group_stride;
  product.y_bf16 = args.y_dtype == CUDAMOE_BF16;
  product.activation = args.activation;
  product.slope = args.activation_slope;
  product.accumulate = args.accumulate != 0;
  product.bias = args.bias;
  product.bias_group_stride = args.bias_group_stride;
  product.preactivation = args.preactivation;
  return run_product(stream_of(stream), product, static_cast<float*>(args.workspace));
}

int64_t gemm_dgrad_workspace(void* stream, const cudamoe_gemm_dgrad_args& args) {
  return plan_product(stream_of(stream).device().threads(), args.groups, args.rows, args.offsets != nullptr, args.k, args.n,
                      args.packed_dtype == CUDAMOE_BF16)
      .bytes();
}

cudamoe_status gemm_dgrad(void* stream, const cudamoe_gemm_dgrad_args& args) {
  Product product{};
  product.function = "cudamoe_gemm_dgrad";
  product.groups = {args.groups, args.rows, args.offsets};
  product.columns = args.k;
  product.depth = args.n;
  product.x = args.dz;
  product.x_row_stride = args.dz_row_stride;
  product.x_group_stride = args.dz_group_stride;
  product.x_bf16 = args.dz_dtype == CUDAMOE_BF16;
  product.packed = args.packed;
  product.packed_bf16 = args.packed_dtype == CUDAMOE_BF16;
  product.y = args.dx;
  product.y_row_stride = args.dx_row_stride;
  product.y_group_stride = args.dx_group_stride;
  product.y_bf16 = args.dx_dtype == CUDAMOE_BF16;
  product.derivative = true;
  product.activation = args.activation;
  product.slope = args.activation_slope;
  product.accumulate = args.accumulate != 0;
  product.below = args.activation == CUDAMOE_ACTIVATION_NONE ? nullptr : args.below;
  product.below_row_stride = args.below_row_stride;
  product.below_group_stride = args.below_group_stride;
  return run_product(stream_of(stream), product, static_cast<float*>(args.workspace));
}

}  // namespace cudamoe::cpu
