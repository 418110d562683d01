// Rows of experts: the fused kernel, or two products with h in memory.
#include "cuda/expert/plan.h"

namespace cudamoe::cuda {
namespace {

constexpr const char* kFunction = "cudamoe_expert_forward";

std::optional<FusedExpert> fuse(const Device& device, const cudamoe_expert_forward_args& args) {
  if (args.n > 128) return std::nullopt;
  const auto tile = args.n <= 64 ? kernels::ExpertTile::kForward64 : kernels::ExpertTile::kForward128;
  return fuse_experts(device, args.packed_dtype, args.k, args.hidden, tile, 1);
}

}  // namespace

int64_t expert_forward_workspace(void* handle, const cudamoe_expert_forward_args& args) {
  if (fuse(stream_of(handle).device(), args)) return 0;
  // h, of the type in which the second product takes it.
  const int64_t rows = (args.offsets == nullptr ? args.groups : 1) * args.rows;
  return rows * args.hidden * (args.packed_dtype == CUDAMOE_BF16 ? 2 : 4);
}

cudamoe_status expert_forward(void* handle, const cudamoe_expert_forward_args& args) {
  if (const cudamoe_status status = check_expert_size(args, kFunction); status != CUDAMOE_OK) return status;
  if (args.rows == 0) return CUDAMOE_OK;
  const Stream& stream = stream_of(handle);
  const bool many = args.offsets == nullptr && args.groups > 1;
  const auto matrix = [&](const void* data, int64_t row_stride, int64_t group_stride, int32_t dtype) {
    return kernels::GemmMatrix{data, row_stride, many ? group_stride : 0, dtype == CUDAMOE_BF16 ? 1 : 0};
  };
  kernels::GemmRows rows{};
  rows.offsets = args.offsets;
  rows.gather = args.gather;
  rows.rows = args.rows;
  rows.x_rows = args.x_rows;
  rows.groups = args.groups;
  rows.function = kernels::GemmFunction::kExpertForward;
  rows.report = stream.device_report();
  const kernels::GemmMatrix x = matrix(args.x, args.x_row_stride, args.x_group_stride, args.x_dtype),
                            y = matrix(args.y, args.y_row_stride, args.y_group_stride, args.y_dtype),
                            h = matrix(args.h, args.h_row_stride, args.h_group_stride, args.h_dtype),
                            before = matrix(args.h_preactivation, args.h_row_stride, args.h_group_stride, args.h_dtype);
  if (auto fused = fuse(stream.device(), args)) {
    kernels::Expert expert = describe_experts(args, *fused);
    expert.form = kernels::ExpertForm::kForward;
    expert.rows = rows;
    expert.inspectors = args.offsets == nullptr ? 0 : 1;
    expert.x = x;
    expert.y = y;
    expert.h = h;
    expert.before = before;
    expert.tasks = 1;
    const int64_t tiles =
        args.offsets == nullptr ? args.groups * parts_of(args.rows, kernels::kExpertRows) : args.rows / kernels::kExpertRows + args.groups;
    fused->launch.blocks = expert_blocks(stream.device(), tiles, expert.inspectors);
    const cudaError_t error = map_weights(expert, args.groups, fused->launch);
    return stream.check(error == cudaSuccess ? kernels::expert_forward(expert, fused->launch, stream.get()) : error, kFunction);
  }
  const kernels::GemmMatrix own = matrix(args.workspace, args.hidden, args.rows * args.hidden, args.packed_dtype);
  return run_two_products(stream, args, {rows, x, args.h == nullptr ? own : h, before, y}, kFunction);
}

}  // namespace cudamoe::cuda
