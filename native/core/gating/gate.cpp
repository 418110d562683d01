// Checks of the fused gate.
#include <array>

#include "core/abi.h"

namespace cudamoe {
namespace {

constexpr int32_t kMaxGates = 4096;
constexpr int64_t kMaxCounter = int64_t{1} << 48;  // steps and samples that the noise tells apart

// The rules that forward and backward have in common.
template <class Args>
void check_shape(Check& check, const Args& args) {
  check.range("gates", args.gates, 1, kMaxGates).range("experts", args.experts, 1, CUDAMOE_MAX_EXPERTS);
  check.range("score_mode", args.score_mode, CUDAMOE_SCORE_SOFTMAX_TOPK, CUDAMOE_SCORE_NOISY);
  check.flag("renormalise", args.renormalise).count("rows", args.rows);
  if (!check.ok()) return;
  check.range("top_k", args.top_k, 0, args.experts < CUDAMOE_MAX_TOPK ? args.experts : CUDAMOE_MAX_TOPK);
  const bool softmax = args.score_mode == CUDAMOE_SCORE_SOFTMAX_TOPK, sigmoid = args.score_mode == CUDAMOE_SCORE_SIGMOID;
  check.require(args.top_k > 0 || softmax || sigmoid, "top_k is 0 and score_mode is %d; a dense gate takes SOFTMAX_TOPK or SIGMOID",
                args.score_mode);
  check.require(
      args.renormalise == 0 || sigmoid || (softmax && args.top_k > 0),
      "renormalise is 1 with score_mode %d and top_k %d; it is for SIGMOID and for sparse SOFTMAX_TOPK, the others sum to 1 already",
      args.score_mode, args.top_k);
  const int64_t columns = int64_t{args.gates} * args.experts * 2;
  check.require(checked_product(args.rows, columns * 8) != kOverflow, "rows is %lld; the logits exceed the address space",
                static_cast<long long>(args.rows));
}

template <class Args>
int64_t columns_of(const Args& args) {
  return int64_t{args.gates} * args.experts * (args.score_mode == CUDAMOE_SCORE_NOISY ? 2 : 1);
}

template <class Args>
bool has_noise(const Args& args) {
  return args.score_mode == CUDAMOE_SCORE_NOISY && args.step >= 0;
}

template <class Args>
const cudamoe_step_numbers* numbers_read(const Args& args) {
  return has_noise(args) ? args.numbers : nullptr;
}

template <class Args>
void check_noise(Check& check, const Args& args) {
  if (!has_noise(args)) return;
  check.range("step", args.step, 0, kMaxCounter - 1).range("row_offset", args.row_offset, 0, kMaxCounter - args.rows);
  check.optional("numbers", args.numbers, alignof(cudamoe_step_numbers));
}

struct Range {
  const char* field;
  const void* data;
  int64_t bytes;
};

template <size_t kOutputs, size_t kInputs>
void check_apart(Check& check, const std::array<Range, kOutputs>& outputs, const std::array<Range, kInputs>& inputs) {
  for (size_t i = 0; i < kOutputs; ++i) {
    const Range& out = outputs[i];
    for (const Range& in : inputs) check.disjoint(out.field, out.data, out.bytes, in.field, in.data, in.bytes);
    for (size_t j = 0; j < i; ++j) check.disjoint(out.field, out.data, out.bytes, outputs[j].field, outputs[j].data, outputs[j].bytes);
  }
}

void check_forward_shape(Check& check, const cudamoe_gate_forward_args& args) {
  check_shape(check, args);
  check.count("k_in", args.k_in, 1);
  const int64_t columns = check.ok() ? columns_of(args) : 0;
  check.require(checked_product(args.k_in, columns * 4) != kOverflow, "k_in is %lld; the weights exceed the address space",
                static_cast<long long>(args.k_in));
}

void check_forward(Check& check, const cudamoe_gate_forward_args& args, const cudamoe_stream* stream) {
  check_forward_shape(check, args);
  if (!check.ok()) return;
  const bool sparse = args.top_k > 0;
  const int64_t gates = args.gates, experts = args.experts, columns = columns_of(args);
  const int64_t logits = args.rows * columns, probabilities = args.rows * gates * experts, chosen = args.rows * gates * args.top_k;
  check.data("x", args.x, alignof(float), args.rows).stride("x_row_stride", args.x_row_stride, args.k_in, args.rows);
  check.pointer("packed", args.packed, 64).optional("bias", args.bias, alignof(float));
  check.optional("selection_bias", args.selection_bias, alignof(float)).optional("logits", args.logits, alignof(float));
  if (args.score_mode != CUDAMOE_SCORE_SIGMOID || !sparse) {
    check.must_be_null("selection_bias", args.selection_bias, "unless score_mode is SIGMOID and top_k > 0");
  }
  if (sparse) {
    check.optional("probabilities", args.probabilities, alignof(float)).optional("expert_counts", args.expert_counts, alignof(int64_t));
    check.data("chosen", args.chosen, alignof(int32_t), chosen).data("weights", args.weights, alignof(float), chosen);
  } else {
    check.data("probabilities", args.probabilities, alignof(float), probabilities);
    check.must_be_null("chosen", args.chosen, "when top_k is 0").must_be_null("weights", args.weights, "when top_k is 0");
    check.must_be_null("expert_counts", args.expert_counts, "when top_k is 0");
  }
  check.optional("probability_sums", args.probability_sums, alignof(double)).optional("z_sums", args.z_sums, alignof(double));
  check_noise(check, args);
  if (!check.ok()) return;
  const std::array<Range, 7> outputs{{{"logits", args.logits, logits * 4},
                                      {"probabilities", args.probabilities, probabilities * 4},
                                      {"chosen", args.chosen, chosen * 4},
                                      {"weights", args.weights, chosen * 4},
                                      {"expert_counts", args.expert_counts, gates * experts * 8},
                                      {"probability_sums", args.probability_sums, gates * experts * 8},
                                      {"z_sums", args.z_sums, gates * 8}}};
  const std::array<Range, 4> inputs{{{"x", args.x, span_bytes(args.rows, args.k_in, args.x_row_stride, 4)},
                                     {"bias", args.bias, columns * 4},
                                     {"numbers", numbers_read(args), sizeof(cudamoe_step_numbers)},
                                     {"selection_bias", args.selection_bias, gates * experts * 4}}};
  check_apart(check, outputs, inputs);
  if (check.ok()) check.workspace(args.workspace, args.workspace_bytes, needed_bytes(stream, &Backend::gate_forward_workspace, args));
}

// Gradients of the outputs and what the forward stored.
void check_gradients(Check& check, const cudamoe_gate_backward_args& args, int64_t probabilities, int64_t chosen) {
  if (args.top_k > 0) {
    check.data("chosen", args.chosen, alignof(int32_t), chosen).data("weights", args.weights, alignof(float), chosen);
    check.data("dweights", args.dweights, alignof(float), chosen).must_be_null("dprobabilities", args.dprobabilities, "when top_k > 0");
    check.optional("probabilities", args.probabilities, alignof(float)).optional("expert_counts", args.expert_counts, alignof(int64_t));
    if (args.balance_coefficient == 0) return;
    check.data("probabilities", args.probabilities, alignof(float), probabilities);
    check.pointer("expert_counts", args.expert_counts, alignof(int64_t));
    return;
  }
  check.require(args.balance_coefficient == 0, "balance_coefficient is %g; it must be 0 when top_k is 0",
                static_cast<double>(args.balance_coefficient));
  check.data("probabilities", args.probabilities, alignof(float), probabilities);
  check.data("dprobabilities", args.dprobabilities, alignof(float), probabilities);
  check.must_be_null("chosen", args.chosen, "when top_k is 0").must_be_null("weights", args.weights, "when top_k is 0");
  check.must_be_null("dweights", args.dweights, "when top_k is 0").must_be_null("expert_counts", args.expert_counts, "when top_k is 0");
}

void check_backward(Check& check, const cudamoe_gate_backward_args& args, const cudamoe_stream*) {
  check_shape(check, args);
  constexpr double kLargest = std::numeric_limits<float>::max();
  check.real("balance_coefficient", args.balance_coefficient, -kLargest).real("z_coefficient", args.z_coefficient, -kLargest);
  if (!check.ok()) return;
  const int64_t gates = args.gates, experts = args.experts, columns = columns_of(args);
  const int64_t probabilities = args.rows * gates * experts, chosen = args.rows * gates * args.top_k;
  if (args.top_k == 0 && args.score_mode == CUDAMOE_SCORE_SOFTMAX_TOPK && args.z_coefficient == 0) {
    check.optional("logits", args.logits, alignof(float));
  } else {
    check.data("logits", args.logits, alignof(float), args.rows);
  }
  check_gradients(check, args, probabilities, chosen);
  check.data("dlogits", args.dlogits, alignof(float), args.rows);
  check.stride("dlogits_row_stride", args.dlogits_row_stride, columns, args.rows);
  check_noise(check, args);
  if (!check.ok()) return;
  const std::array<Range, 1> outputs{{{"dlogits", args.dlogits, span_bytes(args.rows, columns, args.dlogits_row_stride, 4)}}};
  const std::array<Range, 8> inputs{{{"logits", args.logits, args.rows * columns * 4},
                                     {"numbers", numbers_read(args), sizeof(cudamoe_step_numbers)},
                                     {"probabilities", args.probabilities, probabilities * 4},
                                     {"chosen", args.chosen, chosen * 4},
                                     {"weights", args.weights, chosen * 4},
                                     {"dprobabilities", args.dprobabilities, probabilities * 4},
                                     {"dweights", args.dweights, chosen * 4},
                                     {"expert_counts", args.expert_counts, gates * experts * 8}}};
  check_apart(check, outputs, inputs);
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_gate_forward_workspace(cudamoe_stream* stream, const cudamoe_gate_forward_args* args, int64_t* bytes) {
  return run_query("cudamoe_gate_forward_workspace", stream, args, bytes, &Backend::gate_forward_workspace, check_forward_shape);
}

cudamoe_status cudamoe_gate_forward(cudamoe_stream* stream, const cudamoe_gate_forward_args* args) {
  return run_operation("cudamoe_gate_forward", stream, args, &Backend::gate_forward, check_forward);
}

cudamoe_status cudamoe_gate_backward(cudamoe_stream* stream, const cudamoe_gate_backward_args* args) {
  return run_operation("cudamoe_gate_backward", stream, args, &Backend::gate_backward, check_backward);
}

}  // extern "C"
