// Rules that the expert operations share.
#pragma once

#include "core/gemm/rules.h"

namespace cudamoe {

// Experts, rows, widths and the types that are packed or read.
template <class Args>
Check& check_expert_shape(Check& check, const Args& args, int32_t experts) {
  check.range("hidden", args.hidden, 1, kMaxCount);
  check_gemm_shape(check, experts, args.rows, args.n, args.k);
  const auto fits = [&](int64_t n, int64_t k) {
    const int64_t elements = checked_product(n + 64, k + 64);
    return elements != kOverflow && checked_product(elements, experts) != kOverflow;
  };
  check.require(!check.ok() || (fits(args.hidden, args.k) && fits(args.n, args.hidden)),
                "hidden is %lld, n is %lld and k is %lld; that many weights exceed the address space", static_cast<long long>(args.hidden),
                static_cast<long long>(args.n), static_cast<long long>(args.k));
  return check.dtype("x_dtype", args.x_dtype).dtype("packed_dtype", args.packed_dtype).dtype("y_dtype", args.y_dtype);
}

// The activations of both layers; they have the slope in common.
template <class Args>
Check& check_expert_activations(Check& check, const Args& args) {
  check.range("hidden_activation", args.hidden_activation, CUDAMOE_ACTIVATION_NONE, CUDAMOE_ACTIVATION_TANH);
  check.range("output_activation", args.output_activation, CUDAMOE_ACTIVATION_NONE, CUDAMOE_ACTIVATION_TANH);
  if (args.hidden_activation == CUDAMOE_ACTIVATION_LEAKY_RELU || args.output_activation == CUDAMOE_ACTIVATION_LEAKY_RELU)
    check.real("activation_slope", static_cast<double>(args.activation_slope), 0.0);
  return check;
}

// Packed weights and biases of both layers.
template <class Args>
Check& check_expert_weights(Check& check, const Args& args, int32_t experts) {
  check.data("packed1", args.packed1, 64, args.rows).data("packed2", args.packed2, 64, args.rows);
  check.optional("bias1", args.bias1, alignof(float)).optional("bias2", args.bias2, alignof(float));
  if (experts > 1 && args.bias1 != nullptr) check.stride("bias1_group_stride", args.bias1_group_stride, args.hidden, experts);
  if (experts > 1 && args.bias2 != nullptr) check.stride("bias2_group_stride", args.bias2_group_stride, args.n, experts);
  return check;
}

// What an expert operation reads or writes, in bytes.
struct NamedRange {
  const char* name;
  const void* data;
  int64_t bytes;
};

template <class Args>
void check_expert_overlaps(Check& check, const cudamoe_stream* stream, const Args& args, int32_t experts, const NamedRange* inputs,
                           int input_count, const NamedRange* outputs, int output_count) {
  const NamedRange weights[] = {{"packed1", args.packed1, gemm_packed_bytes(stream, experts, args.hidden, args.k, 0, args.packed_dtype)},
                                {"packed2", args.packed2, gemm_packed_bytes(stream, experts, args.n, args.hidden, 0, args.packed_dtype)},
                                {"bias1", args.bias1, ((experts - 1) * (experts > 1 ? args.bias1_group_stride : 0) + args.hidden) * 4},
                                {"bias2", args.bias2, ((experts - 1) * (experts > 1 ? args.bias2_group_stride : 0) + args.n) * 4}};
  for (int i = 0; i < output_count; ++i) {
    const NamedRange& output = outputs[i];
    for (const NamedRange& input : weights) check.disjoint(output.name, output.data, output.bytes, input.name, input.data, input.bytes);
    for (int j = 0; j < input_count; ++j)
      check.disjoint(output.name, output.data, output.bytes, inputs[j].name, inputs[j].data, inputs[j].bytes);
    for (int j = 0; j < i; ++j) check.disjoint(output.name, output.data, output.bytes, outputs[j].name, outputs[j].data, outputs[j].bytes);
  }
}

}  // namespace cudamoe
