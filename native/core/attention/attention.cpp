// Checks of attention.
#include "core/abi.h"
#include "core/attention/limits.h"
#include "core/matrix.h"

namespace cudamoe {
namespace {

template <class Args>
void check_shape(Check& check, const Args& args) {
  check.zero("reserved", args.reserved).flag("causal", args.causal).flag("shared_keys", args.shared_keys);
  check.range("heads", args.heads, 1, kMaxAttentionHeads).range("key_heads", args.key_heads, 1, kMaxAttentionHeads);
  check.range("head_width", args.head_width, 1, CUDAMOE_MAX_HEAD_WIDTH);
  check.count("sequences", args.sequences).count("queries", args.queries);
  check.range("keys", args.keys, 0, std::numeric_limits<int32_t>::max());
  if (!check.ok()) return;
  check.require(args.heads % args.key_heads == 0, "heads is %d and key_heads is %d; heads must be a multiple of key_heads", args.heads,
                args.key_heads);
  const int64_t rows = checked_product(args.sequences, args.queries), key_rows = checked_product(args.sequences, args.keys);
  check.require(rows != kOverflow && checked_product(rows, int64_t{args.heads} * args.head_width) != kOverflow,
                "sequences is %lld and queries is %lld; the queries exceed the address space", static_cast<long long>(args.sequences),
                static_cast<long long>(args.queries));
  check.require(key_rows != kOverflow && checked_product(key_rows, int64_t{args.key_heads} * args.head_width) != kOverflow,
                "sequences is %lld and keys is %lld; the keys exceed the address space", static_cast<long long>(args.sequences),
                static_cast<long long>(args.keys));
}

// Matrices with the heads side by side.
template <class Args>
Matrix query_heads(const Args& args, const char* field, const float* data, const char* stride_field, int64_t stride) {
  return {field, data, stride_field, stride, args.sequences * args.queries, int64_t{args.heads} * args.head_width};
}

template <class Args>
Matrix key_heads(const Args& args, const char* field, const float* data, const char* stride_field, int64_t stride) {
  const int64_t rows = args.shared_keys != 0 ? args.keys : args.sequences * args.keys;
  return {field, data, stride_field, stride, rows, int64_t{args.key_heads} * args.head_width};
}

// What both directions read.
template <class Args>
void check_inputs(Check& check, const Args& args) {
  check_shape(check, args);
  check.real("scale", args.scale, std::numeric_limits<float>::lowest(), std::numeric_limits<float>::max());
  if (!check.ok()) return;
  check_matrix(check, query_heads(args, "q", args.q, "q_row_stride", args.q_row_stride));
  check_matrix(check, key_heads(args, "k", args.k, "k_row_stride", args.k_row_stride));
  check_matrix(check, key_heads(args, "v", args.v, "v_row_stride", args.v_row_stride));
  check.optional("key_counts", args.key_counts, alignof(int32_t)).optional("key_weights", args.key_weights, alignof(float));
  if (args.key_weights != nullptr) check.stride("key_weights_row_stride", args.key_weights_row_stride, args.keys, args.sequences);
}

void check_forward(Check& check, const cudamoe_attention_forward_args& args, const cudamoe_stream* stream) {
  check_inputs(check, args);
  if (!check.ok()) return;
  const Matrix y = query_heads(args, "y", args.y, "y_row_stride", args.y_row_stride);
  check_matrix(check, y);
  check.optional("log_sum", args.log_sum, alignof(float));
  check_apart(check, y, query_heads(args, "q", args.q, "q_row_stride", args.q_row_stride));
  check_apart(check, y, key_heads(args, "k", args.k, "k_row_stride", args.k_row_stride));
  check_apart(check, y, key_heads(args, "v", args.v, "v_row_stride", args.v_row_stride));
  if (!check.ok()) return;
  check.disjoint("log_sum", args.log_sum, args.sequences * args.queries * args.heads * 4, "y", args.y, y.bytes());
  if (check.ok()) check.workspace(args.workspace, args.workspace_bytes, needed_bytes(stream, &Backend::attention_forward_workspace, args));
}

void check_backward(Check& check, const cudamoe_attention_backward_args& args, const cudamoe_stream* stream) {
  check_inputs(check, args);
  if (!check.ok()) return;
  check_matrix(check, query_heads(args, "y", args.y, "y_row_stride", args.y_row_stride));
  check_matrix(check, query_heads(args, "dy", args.dy, "dy_row_stride", args.dy_row_stride));
  check.data("log_sum", args.log_sum, alignof(float), args.sequences * args.queries);
  const Matrix inputs[] = {
      query_heads(args, "q", args.q, "q_row_stride", args.q_row_stride),
      key_heads(args, "k", args.k, "k_row_stride", args.k_row_stride),
      key_heads(args, "v", args.v, "v_row_stride", args.v_row_stride),
      query_heads(args, "y", args.y, "y_row_stride", args.y_row_stride),
      query_heads(args, "dy", args.dy, "dy_row_stride", args.dy_row_stride),
  };
  const Matrix outputs[] = {
      query_heads(args, "dq", args.dq, "dq_row_stride", args.dq_row_stride),
      key_heads(args, "dk", args.dk, "dk_row_stride", args.dk_row_stride),
      key_heads(args, "dv", args.dv, "dv_row_stride", args.dv_row_stride),
  };
  for (const Matrix& out : outputs) check_matrix(check, out);
  for (const Matrix& out : outputs) {
    for (const Matrix& in : inputs) check_apart(check, out, in);
  }
  check_apart(check, outputs[0], outputs[1]);
  check_apart(check, outputs[0], outputs[2]);
  check_apart(check, outputs[1], outputs[2]);
  if (check.ok()) check.workspace(args.workspace, args.workspace_bytes, needed_bytes(stream, &Backend::attention_backward_workspace, args));
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_attention_forward_workspace(cudamoe_stream* stream, const cudamoe_attention_forward_args* args, int64_t* bytes) {
  return run_query("cudamoe_attention_forward_workspace", stream, args, bytes, &Backend::attention_forward_workspace,
                   check_shape<cudamoe_attention_forward_args>);
}

cudamoe_status cudamoe_attention_forward(cudamoe_stream* stream, const cudamoe_attention_forward_args* args) {
  return run_operation("cudamoe_attention_forward", stream, args, &Backend::attention_forward, check_forward);
}

cudamoe_status cudamoe_attention_backward_workspace(cudamoe_stream* stream, const cudamoe_attention_backward_args* args, int64_t* bytes) {
  return run_query("cudamoe_attention_backward_workspace", stream, args, bytes, &Backend::attention_backward_workspace,
                   check_shape<cudamoe_attention_backward_args>);
}

cudamoe_status cudamoe_attention_backward(cudamoe_stream* stream, const cudamoe_attention_backward_args* args) {
  return run_operation("cudamoe_attention_backward", stream, args, &Backend::attention_backward, check_backward);
}

}  // extern "C"
