// The combine family. The gradient of the residual weights is a sum over rows of dgates, which lie in the work space when the caller does
// not want them.
#include "combine/combine.h"

#include "cuda/device.h"

namespace cudamoe::cuda {
namespace {

template <class Args>
kernels::CombineShape shape_of(const Args& args, const Stream& stream) {
  return {args.tasks,
          args.choices,
          args.rows,
          args.width,
          args.slot_of_pair,
          args.expert_rows,
          args.expert_dtype == CUDAMOE_BF16 ? 1 : 0,
          static_cast<kernels::OffenderCell*>(stream.scratch()),
          stream.device_report()};
}

cudamoe_status forward(void* handle, const cudamoe_combine_forward_args& args) {
  if (args.width == 0) return CUDAMOE_OK;
  const Stream& stream = stream_of(handle);
  const kernels::CombineForward combine{
      shape_of(args, stream), args.gates,        args.residual, {args.expert, args.expert_row_stride, args.expert_stride}, args.y,
      args.y_row_stride,      args.y_task_stride};
  return stream.check(kernels::combine_forward(combine, stream.get()), "cudamoe_combine_forward");
}

int64_t partial_bytes(const cudamoe_combine_backward_args& args) {
  return kernels::combine_chunks(args.rows) * args.tasks * args.choices * static_cast<int64_t>(sizeof(double));
}

int64_t backward_workspace(void*, const cudamoe_combine_backward_args& args) {
  return partial_bytes(args) + args.rows * args.tasks * args.choices * static_cast<int64_t>(sizeof(float));
}

cudamoe_status backward(void* handle, const cudamoe_combine_backward_args& args) {
  const Stream& stream = stream_of(handle);
  const bool from_preactivation = args.activation == CUDAMOE_ACTIVATION_GELU || args.activation == CUDAMOE_ACTIVATION_SILU;
  auto* partials = static_cast<double*>(args.workspace);
  float* dgates = args.dgates;
  if (dgates == nullptr && args.dresidual != nullptr)
    dgates = reinterpret_cast<float*>(static_cast<char*>(args.workspace) + partial_bytes(args));
  const kernels::CombineBackward combine{shape_of(args, stream),
                                         args.gates,
                                         args.residual,
                                         {args.expert, args.expert_row_stride, args.expert_stride},
                                         from_preactivation ? args.preactivation : args.expert,
                                         static_cast<kernels::Activation>(args.activation),
                                         args.activation_slope,
                                         args.dy,
                                         args.dy_row_stride,
                                         args.dy_task_stride,
                                         args.task_scale,
                                         {args.dexpert, args.dexpert_row_stride, args.dexpert_stride},
                                         dgates};
  cudaError_t error = kernels::combine_backward(combine, stream.get());
  if (error == cudaSuccess && args.dresidual != nullptr) {
    error = kernels::combine_sum_rows(dgates, args.rows, int64_t{args.tasks} * args.choices, args.accumulate_residual != 0, partials,
                                      args.dresidual, stream.get());
  }
  return stream.check(error, "cudamoe_combine_backward");
}

}  // namespace

void register_combine(Backend& table) {
  table.combine_forward = forward;
  table.combine_backward_workspace = backward_workspace;
  table.combine_backward = backward;
}

}  // namespace cudamoe::cuda
