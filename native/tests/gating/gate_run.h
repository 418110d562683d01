// Runs a fused gate through the ABI on poisoned memory.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "reference/gate.h"
#include "support/buffer.h"

namespace cudamoe::test {

struct GateCase {
  reference::GateOptions options;
  int64_t rows = 0, k_in = 1, gap = 0, row_offset = 0;
  bool wants_logits = true, wants_probabilities = true, wants_statistics = true;
  bool step_on_device = false;                    // the step of the noise is read there; the arguments say another one
  std::vector<float> x, w, bias, selection_bias;  // [rows, k_in], [columns, k_in], [columns] or empty, [gates, experts] or empty
};

// Says the step of a case, whose number in device memory is `numbers`, in arguments of a gate.
template <class Args>
void set_step(const GateCase& c, const Buffer<cudamoe_step_numbers>& numbers, Args& args) {
  args.seed = c.options.seed;
  args.step = c.step_on_device && c.options.step >= 0 ? 1 : c.options.step;
  args.numbers = c.step_on_device ? numbers.data() : nullptr;
  args.row_offset = c.row_offset;
}

struct GateOutput {
  std::vector<float> logits, probabilities, weights;
  std::vector<int32_t> chosen;
  std::vector<int64_t> counts;
  std::vector<double> probability_sums, z_sums;
};

inline GateOutput run_gate(TestDevice& device, const GateCase& c) {
  const reference::GateOptions& o = c.options;
  const int64_t columns = o.columns(), stride = c.k_in + c.gap, pairs = o.gates * o.experts;
  cudamoe_gemm_pack_args pack{};
  pack.struct_size = sizeof pack;
  pack.groups = 1;
  pack.n = columns;
  pack.k = c.k_in;
  pack.weights_row_stride = c.k_in;
  int64_t bytes = -1;
  CUDAMOE_EXPECT_OK(cudamoe_gemm_packed_bytes(device.stream(), &pack, &bytes));
  const Buffer<float> w(device, c.w);
  const Buffer<unsigned char> packed(device, bytes);
  pack.weights = w.data();
  pack.packed = packed.data();
  pack.packed_bytes = bytes;
  CUDAMOE_EXPECT_OK(cudamoe_gemm_pack(device.stream(), &pack));

  std::vector<float> spread(c.rows > 0 ? (c.rows - 1) * stride + c.k_in : 0, std::numeric_limits<float>::quiet_NaN());
  for (int64_t i = 0; i < c.rows * c.k_in; ++i) spread[i / c.k_in * stride + i % c.k_in] = c.x[i];
  const Buffer<float> x(device, spread, c.gap % 3), bias(device, c.bias), selection_bias(device, c.selection_bias);
  const bool sparse = o.top_k > 0;
  const Buffer<float> logits(device, c.wants_logits ? c.rows * columns : 0),
      probabilities(device, c.wants_probabilities ? c.rows * pairs : 0);
  const Buffer<float> weights(device, c.rows * o.gates * o.top_k);
  const Buffer<int32_t> chosen(device, c.rows * o.gates * o.top_k);
  const Buffer<int64_t> counts(device, sparse && c.wants_statistics ? pairs : 0);
  const Buffer<double> sums(device, c.wants_statistics ? pairs : 0), z(device, c.wants_statistics ? o.gates : 0);
  cudamoe_gate_forward_args a{};
  a.struct_size = sizeof a;
  a.gates = static_cast<int32_t>(o.gates);
  a.experts = static_cast<int32_t>(o.experts);
  a.top_k = static_cast<int32_t>(o.top_k);
  a.score_mode = o.score_mode;
  a.renormalise = o.renormalise;
  a.rows = c.rows;
  a.k_in = c.k_in;
  const Buffer<cudamoe_step_numbers> numbers(device, std::vector<cudamoe_step_numbers>{{o.step, 0, 0, 0, 0}});
  set_step(c, numbers, a);
  CUDAMOE_EXPECT_OK(cudamoe_gate_forward_workspace(device.stream(), &a, &bytes));
  const Workspace workspace(device, bytes);
  a.x = x.data();
  a.x_row_stride = stride;
  a.packed = packed.data();
  a.bias = c.bias.empty() ? nullptr : bias.data();
  a.selection_bias = c.selection_bias.empty() ? nullptr : selection_bias.data();
  a.logits = c.wants_logits ? logits.data() : nullptr;
  a.probabilities = c.wants_probabilities ? probabilities.data() : nullptr;
  a.chosen = sparse ? chosen.data() : nullptr;
  a.weights = sparse ? weights.data() : nullptr;
  a.expert_counts = sparse && c.wants_statistics ? counts.data() : nullptr;
  a.probability_sums = c.wants_statistics ? sums.data() : nullptr;
  a.z_sums = c.wants_statistics ? z.data() : nullptr;
  a.workspace = workspace.data();
  a.workspace_bytes = bytes;
  CUDAMOE_EXPECT_OK(cudamoe_gate_forward(device.stream(), &a));
  EXPECT_TRUE(logits.guards_intact() && probabilities.guards_intact() && weights.guards_intact() && chosen.guards_intact());
  EXPECT_TRUE(counts.guards_intact() && sums.guards_intact() && z.guards_intact() && workspace.guards_intact());
  return {logits.get(), probabilities.get(), weights.get(), chosen.get(), counts.get(), sums.get(), z.get()};
}

}  // namespace cudamoe::test
