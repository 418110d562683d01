// The gemm family: what kernels are told of a call, and where a weight gradient keeps its partial sums.
#include "cuda/gemm/gemm.h"

#include <algorithm>

#include "cuda/gemm/candidates.h"

namespace cudamoe::cuda {
namespace {

using kernels::GemmTile;

static_assert(static_cast<int>(kernels::Activation::kRelu) == CUDAMOE_ACTIVATION_RELU &&
              static_cast<int>(kernels::Activation::kGelu) == CUDAMOE_ACTIVATION_GELU &&
              static_cast<int>(kernels::Activation::kTanh) == CUDAMOE_ACTIVATION_TANH);

kernels::GemmMatrix matrix_of(const void* data, int64_t row_stride, int64_t group_stride, int64_t strided_groups, int32_t dtype) {
  return {data, row_stride, strided_groups > 1 ? group_stride : 0, dtype == CUDAMOE_BF16 ? 1 : 0};
}

template <class Args>
int64_t strided_groups(const Args& args) {
  return args.offsets == nullptr ? args.groups : 1;
}

template <class Args>
kernels::GemmRows rows_of(const Args& args, kernels::GemmFunction function, const Stream& stream) {
  kernels::GemmRows rows{};
  rows.offsets = args.offsets;
  rows.rows = args.rows;
  rows.groups = args.groups;
  rows.function = function;
  rows.report = stream.device_report();
  if constexpr (requires { args.gather; }) {
    rows.gather = args.gather;
    rows.x_rows = args.x_rows;
  }
  return rows;
}

int64_t packed_bytes(void*, const cudamoe_gemm_pack_args& args) {
  const int64_t columns = args.transposed != 0 ? args.k : args.n, depth = args.transposed != 0 ? args.n : args.k;
  return args.groups * depth * kernels::gemm_packed_stride(columns) * (args.dtype == CUDAMOE_BF16 ? 2 : 4);
}

// CUDAMOE_OK when the kernels take weights of that size: they count columns and depth in 32 bits.
template <class Args>
cudamoe_status check_size(const Args& args, const char* function) {
  if (args.n <= kernels::kGemmMost && args.k <= kernels::kGemmMost) return CUDAMOE_OK;
  return fail(CUDAMOE_ERROR_UNSUPPORTED, "%s: n is %lld and k is %lld; on a GPU they must be at most %lld", function,
              static_cast<long long>(args.n), static_cast<long long>(args.k), static_cast<long long>(kernels::kGemmMost));
}

cudamoe_status pack(void* handle, const cudamoe_gemm_pack_args& args) {
  if (const cudamoe_status status = check_size(args, "cudamoe_gemm_pack"); status != CUDAMOE_OK) return status;
  const Stream& stream = stream_of(handle);
  const bool transposed = args.transposed != 0;
  const kernels::GemmPack pack{args.weights,
                               args.weights_row_stride,
                               args.weights_group_stride,
                               transposed ? args.k : args.n,
                               transposed ? args.n : args.k,
                               args.groups,
                               args.transposed,
                               args.dtype == CUDAMOE_BF16 ? 1 : 0,
                               args.packed};
  return stream.check(kernels::gemm_pack(pack, stream.get()), "cudamoe_gemm_pack");
}

}  // namespace

cudamoe_status run_product(const Stream& stream, kernels::GemmProduct& product, int32_t packed_dtype, const char* function) {
  product.rows.offender = static_cast<kernels::OffenderCell*>(stream.scratch());
  product.packed_row_stride = kernels::gemm_packed_stride(product.columns);
  product.packed_group_stride = product.depth * product.packed_row_stride;
  if (product.rows.rows == 0) return CUDAMOE_OK;
  return choose_and_run(stream, product, packed_dtype, function);
}

namespace {

template <class Args>
int64_t no_workspace(void*, const Args&) {
  return 0;
}

cudamoe_status forward(void* handle, const cudamoe_gemm_forward_args& args) {
  if (const cudamoe_status status = check_size(args, "cudamoe_gemm_forward"); status != CUDAMOE_OK) return status;
  const Stream& stream = stream_of(handle);
  const int64_t groups = strided_groups(args);
  kernels::GemmProduct product{};
  product.rows = rows_of(args, kernels::GemmFunction::kForward, stream);
  product.columns = static_cast<int32_t>(args.n);
  product.depth = static_cast<int32_t>(args.k);
  product.x = matrix_of(args.x, args.x_row_stride, args.x_group_stride, groups, args.x_dtype);
  product.packed = args.packed;
  product.y = matrix_of(args.y, args.y_row_stride, args.y_group_stride, groups, args.y_dtype);
  product.before = product.y;
  product.before.data = args.preactivation;
  product.bias = args.bias;
  product.bias_group_stride = args.bias_group_stride;
  product.activation = static_cast<kernels::Activation>(args.activation);
  product.slope = args.activation_slope;
  product.accumulate = args.accumulate;
  return run_product(stream, product, args.packed_dtype, "cudamoe_gemm_forward");
}

cudamoe_status dgrad(void* handle, const cudamoe_gemm_dgrad_args& args) {
  if (const cudamoe_status status = check_size(args, "cudamoe_gemm_dgrad"); status != CUDAMOE_OK) return status;
  const Stream& stream = stream_of(handle);
  const int64_t groups = strided_groups(args);
  kernels::GemmProduct product{};
  product.rows = rows_of(args, kernels::GemmFunction::kDgrad, stream);
  product.columns = static_cast<int32_t>(args.k);
  product.depth = static_cast<int32_t>(args.n);
  product.x = matrix_of(args.dz, args.dz_row_stride, args.dz_group_stride, groups, args.dz_dtype);
  product.packed = args.packed;
  product.y = matrix_of(args.dx, args.dx_row_stride, args.dx_group_stride, groups, args.dx_dtype);
  product.below = matrix_of(args.activation == CUDAMOE_ACTIVATION_NONE ? nullptr : args.below, args.below_row_stride,
                            args.below_group_stride, groups, args.dx_dtype);
  product.activation = static_cast<kernels::Activation>(args.activation);
  product.slope = args.activation_slope;
  product.derivative = 1;
  product.accumulate = args.accumulate;
  return run_product(stream, product, args.packed_dtype, "cudamoe_gemm_dgrad");
}

bool is_for_wgmma(const Device& device, const cudamoe_gemm_wgrad_args& args) {
  return device.architecture() == 90 && args.compute_dtype == CUDAMOE_BF16;
}

WgradPlan plan_wgrad(const Device& device, const cudamoe_gemm_wgrad_args& args) {
  constexpr int64_t kShortest = 512, kLongest = int64_t{1} << 30, kMultiple = 128;
  const int64_t groups = strided_groups(args);
  WgradPlan plan{};
  plan.tile = args.n > 64 && args.k > 32 ? GemmTile::kLarge : GemmTile::kMedium;
  plan.wgmma_tile = {args.n > 64 ? 128 : 64, args.k > 128 ? 256 : 128};
  int64_t rows_of_blocks;
  if (is_for_wgmma(device, args)) {
    // A block for each multiprocessor. Chunks that end with their group make up to a block more for each group; all should run at once.
    constexpr int64_t kBlocks = 132;
    const int64_t tiles = divide_up(args.n, plan.wgmma_tile.rows) * divide_up(args.k, plan.wgmma_tile.columns);
    rows_of_blocks = divide_up(groups * args.rows * tiles, std::max(kBlocks - tiles * args.groups, kBlocks / 2));
  } else {
    // Enough blocks for a large GPU, and chunks that are long beside the partial sums that they leave.
    constexpr int64_t kBlocks = 384;
    const int64_t tiles = divide_up(args.n, kernels::gemm_tile_rows(plan.tile)) *
                          divide_up(args.k, kernels::gemm_tile_columns(plan.tile, args.compute_dtype == CUDAMOE_BF16));
    rows_of_blocks = divide_up(groups * args.rows, divide_up(kBlocks, tiles));
  }
  plan.chunk_rows = divide_up(std::clamp(rows_of_blocks, kShortest, kLongest), kMultiple) * kMultiple;
  if (args.rows > plan.chunk_rows) {
    plan.partials =
        args.offsets == nullptr ? args.groups * divide_up(args.rows, plan.chunk_rows) : args.rows / plan.chunk_rows + args.groups;
  }
  return plan;
}

int64_t wgrad_workspace(void* handle, const cudamoe_gemm_wgrad_args& args) {
  return plan_wgrad(stream_of(handle).device(), args).partials * kernels::gemm_wgrad_partial_floats(args.n, args.k) *
         static_cast<int64_t>(sizeof(float));
}

cudamoe_status wgrad(void* handle, const cudamoe_gemm_wgrad_args& args) {
  if (const cudamoe_status status = check_size(args, "cudamoe_gemm_wgrad"); status != CUDAMOE_OK) return status;
  const Stream& stream = stream_of(handle);
  const WgradPlan plan = plan_wgrad(stream.device(), args);
  const int64_t groups = strided_groups(args);
  kernels::GemmWgrad wgrad{};
  wgrad.rows = rows_of(args, kernels::GemmFunction::kWgrad, stream);
  wgrad.rows.offender = static_cast<kernels::OffenderCell*>(stream.scratch());
  wgrad.n = static_cast<int32_t>(args.n);
  wgrad.k = static_cast<int32_t>(args.k);
  wgrad.dz = matrix_of(args.dz, args.dz_row_stride, args.dz_group_stride, groups, args.dz_dtype);
  wgrad.x = matrix_of(args.x, args.x_row_stride, args.x_group_stride, groups, args.x_dtype);
  wgrad.dw = args.dw;
  wgrad.dw_row_stride = args.dw_row_stride;
  wgrad.dw_group_stride = args.dw_group_stride;
  wgrad.dbias = args.dbias;
  wgrad.dbias_group_stride = args.dbias_group_stride;
  wgrad.accumulate = args.accumulate;
  wgrad.chunk_rows = static_cast<int32_t>(plan.chunk_rows);
  wgrad.partials = plan.partials > 0 ? static_cast<float*>(args.workspace) : nullptr;
  return choose_and_run(stream, wgrad, plan, args.compute_dtype);
}

}  // namespace

void register_gemm(Backend& table) {
  table.gemm_packed_bytes = packed_bytes;
  table.gemm_pack = pack;
  table.gemm_forward_workspace = no_workspace<cudamoe_gemm_forward_args>;
  table.gemm_forward = forward;
  table.gemm_dgrad_workspace = no_workspace<cudamoe_gemm_dgrad_args>;
  table.gemm_dgrad = dgrad;
  table.gemm_wgrad_workspace = wgrad_workspace;
  table.gemm_wgrad = wgrad;
}

}  // namespace cudamoe::cuda
