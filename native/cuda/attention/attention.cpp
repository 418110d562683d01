// The attention family. Sums of dk and dv of shared keys lie in the work space, a part for each block of sequences.
#include "attention/attention.h"

#include "core/attention/limits.h"
#include "cuda/device.h"

namespace cudamoe::cuda {
namespace {

template <class Args>
kernels::AttentionShape shape_of(const Args& args, const Stream& stream) {
  return {args.sequences,
          args.queries,
          args.keys,
          args.heads,
          args.key_heads,
          args.head_width,
          args.causal,
          args.shared_keys,
          args.scale,
          args.q,
          args.k,
          args.v,
          args.q_row_stride,
          args.k_row_stride,
          args.v_row_stride,
          args.key_counts,
          args.key_weights,
          args.key_weights_row_stride,
          static_cast<kernels::OffenderCell*>(stream.scratch()),
          stream.device_report()};
}

int64_t forward_workspace(void*, const cudamoe_attention_forward_args&) { return 0; }

cudamoe_status forward(void* handle, const cudamoe_attention_forward_args& args) {
  const Stream& stream = stream_of(handle);
  return stream.check(kernels::attention_forward({shape_of(args, stream), args.y, args.y_row_stride, args.log_sum}, stream.get()),
                      "cudamoe_attention_forward");
}

int64_t key_columns(const cudamoe_attention_backward_args& args) { return int64_t{args.key_heads} * args.head_width; }

// Elements of dk, and as many of dv, behind them.
int64_t partial_elements(const cudamoe_attention_backward_args& args) {
  return args.shared_keys == 0 ? 0 : kernels::attention_sequence_blocks(args.sequences) * args.keys * key_columns(args);
}

int64_t backward_workspace(void*, const cudamoe_attention_backward_args& args) {
  return 2 * partial_elements(args) * static_cast<int64_t>(sizeof(float));
}

cudamoe_status backward(void* handle, const cudamoe_attention_backward_args& args) {
  const Stream& stream = stream_of(handle);
  const bool shared = args.shared_keys != 0;
  const int64_t columns = key_columns(args), blocks = kernels::attention_sequence_blocks(args.sequences);
  float* partial_dk = static_cast<float*>(args.workspace);
  float* partial_dv = partial_dk + partial_elements(args);
  const kernels::AttentionBackward attention{shape_of(args, stream),
                                             args.y,
                                             args.dy,
                                             args.y_row_stride,
                                             args.dy_row_stride,
                                             args.log_sum,
                                             args.dq,
                                             args.dq_row_stride,
                                             shared ? partial_dk : args.dk,
                                             shared ? partial_dv : args.dv,
                                             shared ? columns : args.dk_row_stride,
                                             shared ? columns : args.dv_row_stride};
  cudaError_t error = kernels::attention_backward(attention, stream.get());
  if (error == cudaSuccess && shared)
    error = kernels::attention_sum_blocks(partial_dk, blocks, args.keys, columns, args.dk, args.dk_row_stride, stream.get());
  if (error == cudaSuccess && shared)
    error = kernels::attention_sum_blocks(partial_dv, blocks, args.keys, columns, args.dv, args.dv_row_stride, stream.get());
  return stream.check(error, "cudamoe_attention_backward");
}

int64_t rotary_workspace(void*, const cudamoe_rotary_args& args) {
  return used_positions(args) * args.rotary_width * static_cast<int64_t>(sizeof(float));
}

cudamoe_status rotary(void* handle, const cudamoe_rotary_args& args) {
  const Stream& stream = stream_of(handle);
  const int32_t pairs = args.rotary_width / 2;
  if (pairs == 0 || args.rows == 0) return CUDAMOE_OK;
  auto* turns = static_cast<float*>(args.workspace);
  cudaError_t error =
      kernels::rotary_turns({used_positions(args), args.first_position, pairs, args.inverse, args.base, turns}, stream.get());
  if (error == cudaSuccess) {
    error = kernels::rotary_rows(
        {args.rows, args.positions, args.heads, args.head_width, pairs, args.interleaved, turns, args.x, args.x_row_stride}, stream.get());
  }
  return stream.check(error, "cudamoe_rotary");
}

cudamoe_status sequence_maximum_forward(void* handle, const cudamoe_sequence_maximum_forward_args& args) {
  const Stream& stream = stream_of(handle);
  if (args.sequences == 0 || args.width == 0) return CUDAMOE_OK;
  const kernels::SequenceMaximum maximum{
      args.sequences,        args.positions, args.width,        args.x,      args.x_row_stride,
      args.counts,           args.y,         args.y_row_stride, args.places, static_cast<kernels::OffenderCell*>(stream.scratch()),
      stream.device_report()};
  return stream.check(kernels::sequence_maximum(maximum, stream.get()), "cudamoe_sequence_maximum_forward");
}

cudamoe_status sequence_maximum_backward(void* handle, const cudamoe_sequence_maximum_backward_args& args) {
  const Stream& stream = stream_of(handle);
  if (args.sequences == 0 || args.positions == 0 || args.width == 0) return CUDAMOE_OK;
  const cudaError_t error = kernels::sequence_maximum_gradient(
      {args.sequences, args.positions, args.width, args.places, args.dy, args.dy_row_stride, args.dx, args.dx_row_stride}, stream.get());
  return stream.check(error, "cudamoe_sequence_maximum_backward");
}

}  // namespace

void register_attention(Backend& table) {
  table.attention_forward_workspace = forward_workspace;
  table.attention_forward = forward;
  table.attention_backward_workspace = backward_workspace;
  table.attention_backward = backward;
  table.rotary_workspace = rotary_workspace;
  table.rotary = rotary;
  table.sequence_maximum_forward = sequence_maximum_forward;
  table.sequence_maximum_backward = sequence_maximum_backward;
}

}  // namespace cudamoe::cuda
