// Rows of experts: the fused kernel, or two products with h in memory.
#include "cuda/expert/trial.h"

namespace cudamoe::cuda {
namespace {

constexpr const char* kFunction = "cudamoe_expert_forward";

std::optional<FusedExpert> fuse(const Device& device, const cudamoe_expert_forward_args& args) {
  if (args.n > 128) return std::nullopt;
  const auto tile = args.n <= 64 ? kernels::ExpertTile::kForward64 : kernels::ExpertTile::kForward128;
  return fuse_experts(device, args.packed_dtype, args.k, args.hidden, tile, 1);
}

kernels::GemmMatrix matrix_of(const cudamoe_expert_forward_args& args, const void* data, int64_t row_stride, int64_t group_stride,
                              int32_t dtype) {
  const bool many = args.offsets == nullptr && args.groups > 1;
  return {data, row_stride, many ? group_stride : 0, dtype == CUDAMOE_BF16 ? 1 : 0};
}

// h of the products where the caller wants none, of the type in which the second takes it.
int64_t hidden_bytes(const cudamoe_expert_forward_args& args) {
  const int64_t rows = (args.offsets == nullptr ? args.groups : 1) * args.rows;
  return rows * args.hidden * (args.packed_dtype == CUDAMOE_BF16 ? 2 : 4);
}

struct ForwardCall {
  const Stream& stream;
  cudamoe_expert_forward_args args;
  std::optional<FusedExpert> fused;

  kernels::GemmMatrix x() const { return matrix_of(args, args.x, args.x_row_stride, args.x_group_stride, args.x_dtype); }
  kernels::GemmMatrix y() const { return matrix_of(args, args.y, args.y_row_stride, args.y_group_stride, args.y_dtype); }
  kernels::GemmMatrix h() const { return matrix_of(args, args.h, args.h_row_stride, args.h_group_stride, args.h_dtype); }
  kernels::GemmMatrix before() const { return matrix_of(args, args.h_preactivation, args.h_row_stride, args.h_group_stride, args.h_dtype); }

  kernels::GemmRows rows() const {
    kernels::GemmRows rows{};
    rows.offsets = args.offsets;
    rows.gather = args.gather;
    rows.rows = args.rows;
    rows.x_rows = args.x_rows;
    rows.groups = args.groups;
    rows.function = kernels::GemmFunction::kExpertForward;
    rows.report = stream.device_report();
    return rows;
  }

  kernels::Expert describe() const {
    kernels::Expert expert = describe_experts(args, *fused);
    expert.form = kernels::ExpertForm::kForward;
    expert.rows = rows();
    expert.inspectors = args.offsets == nullptr ? 0 : 1;
    expert.x = x();
    expert.y = y();
    expert.h = h();
    expert.before = before();
    expert.tasks = 1;
    return expert;
  }

  cudaError_t run_fused() const {
    const kernels::Expert expert = describe();
    kernels::ExpertLaunch launch = fused->launch;
    const int64_t tiles =
        args.offsets == nullptr ? args.groups * parts_of(args.rows, kernels::kExpertRows) : args.rows / kernels::kExpertRows + args.groups;
    launch.blocks = expert_blocks(stream.device(), tiles, expert.inspectors);
    const cudaError_t error = map_weights(expert, args.groups, launch);
    return error == cudaSuccess ? kernels::expert_forward(expert, launch, stream.get()) : error;
  }

  cudamoe_status run_products() const {
    const kernels::GemmMatrix own = matrix_of(args, args.workspace, args.hidden, args.rows * args.hidden, args.packed_dtype);
    return run_two_products(stream, args, {rows(), x(), args.h == nullptr ? own : h(), before(), y()}, kFunction);
  }

  cudaError_t compare(kernels::SampleCounts* counts) const {
    return kernels::expert_compare(describe(), nullptr, kExpertSamples, counts, stream.get());
  }

  CallKind kind() const {
    Bits form = expert_form_bits(args);
    form.add(is_aligned(x()), 1).add(is_aligned(y()), 1).add(is_aligned(h()), 1);
    form.add(args.h != nullptr, 1).add(args.h_preactivation != nullptr, 1).add(args.h_dtype == CUDAMOE_BF16, 1);
    form.add(args.offsets != nullptr, 1).add(args.gather != nullptr, 1).add(args.x_group_stride != 0, 1);
    form.add(power_above(args.groups), 5).add(power_above(args.rows), 6);
    return {expert_shape_bits(args.n, args.k, args.hidden), form.get() | kExpertForwardKind};
  }

  std::string words() const {
    return std::to_string(args.k) + " -> " + std::to_string(args.hidden) + " -> " + std::to_string(args.n) + ", " +
           std::to_string(args.groups) + (args.offsets != nullptr ? " ragged" : "") + (args.gather != nullptr ? " gathered" : "") +
           " groups, up to 2^" + std::to_string(power_above(args.rows)) + " rows";
  }

  cudaError_t write_to(TrialMemory& memory) {
    const int64_t groups = args.offsets == nullptr ? args.groups : 1;
    const bool h_aligned = is_aligned(h());
    cudaError_t error =
        replace(memory, groups * args.rows, args.n, is_aligned(y()), args.y_dtype == CUDAMOE_BF16, &args.y, &args.y_row_stride);
    args.y_group_stride = args.rows * args.y_row_stride;
    for (void** data : {&args.h, &args.h_preactivation}) {
      if (error == cudaSuccess && *data != nullptr)
        error = replace(memory, groups * args.rows, args.hidden, h_aligned, args.h_dtype == CUDAMOE_BF16, data, &args.h_row_stride);
    }
    args.h_group_stride = args.rows * args.h_row_stride;
    return error;
  }
};

}  // namespace

int64_t expert_forward_workspace(void* handle, const cudamoe_expert_forward_args& args) {
  const Device& device = stream_of(handle).device();
  return fuse(device, args) && !device.trials().on() ? 0 : hidden_bytes(args);
}

cudamoe_status expert_forward(void* handle, const cudamoe_expert_forward_args& args) {
  if (const cudamoe_status status = check_expert_size(args, kFunction); status != CUDAMOE_OK) return status;
  if (args.rows == 0) return CUDAMOE_OK;
  const Stream& stream = stream_of(handle);
  const ForwardCall call{stream, args, fuse(stream.device(), args)};
  return call.fused ? choose_and_run(call, *call.fused, kFunction) : call.run_products();
}

}  // namespace cudamoe::cuda
