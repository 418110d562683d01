// The norm family.
#include "norm/norm.h"

#include "cuda/device.h"

namespace cudamoe::cuda {
namespace {

cudamoe_status forward(void* handle, const cudamoe_layer_norm_forward_args& args) {
  const Stream& stream = stream_of(handle);
  const kernels::NormForward norm{args.rows, args.width,        args.x,    args.x_row_stride,         args.gamma,   args.beta,
                                  args.y,    args.y_row_stride, args.mean, args.reciprocal_deviation, args.epsilon, 1};
  return stream.check(kernels::norm_forward(norm, stream.get()), "cudamoe_layer_norm_forward");
}

cudamoe_status rms_forward(void* handle, const cudamoe_rms_norm_forward_args& args) {
  const Stream& stream = stream_of(handle);
  const kernels::NormForward norm{args.rows, args.width,        args.x,  args.x_row_stride, args.gamma,   nullptr,
                                  args.y,    args.y_row_stride, nullptr, args.reciprocal,   args.epsilon, 0};
  return stream.check(kernels::norm_forward(norm, stream.get()), "cudamoe_rms_norm_forward");
}

template <class Args>
int64_t backward_workspace(void*, const Args& args) {
  return kernels::norm_chunks(args.rows) * 2 * args.width * static_cast<int64_t>(sizeof(float));
}

cudamoe_status backward(void* handle, const cudamoe_layer_norm_backward_args& args) {
  const Stream& stream = stream_of(handle);
  const bool sums = args.dgamma != nullptr || args.dbeta != nullptr;
  auto* partials = static_cast<float*>(args.workspace);
  const kernels::NormBackward norm{args.rows,
                                   args.width,
                                   args.x,
                                   args.x_row_stride,
                                   args.gamma,
                                   args.mean,
                                   args.reciprocal_deviation,
                                   args.dy,
                                   args.dy_row_stride,
                                   args.dx,
                                   args.dx_row_stride,
                                   sums ? partials : nullptr};
  cudaError_t error = kernels::norm_backward(norm, stream.get());
  if (error == cudaSuccess && sums) {
    error = kernels::norm_sum_chunks(partials, kernels::norm_chunks(args.rows), args.width, args.accumulate != 0, args.dgamma, args.dbeta,
                                     stream.get());
  }
  return stream.check(error, "cudamoe_layer_norm_backward");
}

cudamoe_status rms_backward(void* handle, const cudamoe_rms_norm_backward_args& args) {
  const Stream& stream = stream_of(handle);
  auto* partials = args.dgamma != nullptr ? static_cast<float*>(args.workspace) : nullptr;
  const kernels::NormBackward norm{args.rows, args.width,         args.x,  args.x_row_stride,  args.gamma, nullptr, args.reciprocal,
                                   args.dy,   args.dy_row_stride, args.dx, args.dx_row_stride, partials};
  cudaError_t error = kernels::norm_backward(norm, stream.get());
  if (error == cudaSuccess && partials != nullptr) {
    error = kernels::norm_sum_chunks(partials, kernels::norm_chunks(args.rows), args.width, args.accumulate != 0, args.dgamma, nullptr,
                                     stream.get());
  }
  return stream.check(error, "cudamoe_rms_norm_backward");
}

}  // namespace

void register_norm(Backend& table) {
  table.layer_norm_forward = forward;
  table.layer_norm_backward_workspace = backward_workspace<cudamoe_layer_norm_backward_args>;
  table.layer_norm_backward = backward;
  table.rms_norm_forward = rms_forward;
  table.rms_norm_backward_workspace = backward_workspace<cudamoe_rms_norm_backward_args>;
  table.rms_norm_backward = rms_backward;
}

}  // namespace cudamoe::cuda
