// Gates and routing.
#include <algorithm>

#include "device/cases.h"

namespace cudamoe::bench {
namespace {

constexpr int32_t kGates = 3, kExperts = 16, kChoices = 2;
constexpr int64_t kInputs = 256, kColumns = kGates * kExperts;

const void* packed_weights(DeviceEngine& engine) {
  cudamoe_gemm_pack_args args{};
  args.struct_size = sizeof args;
  args.groups = 1;
  args.n = kColumns;
  args.k = kInputs;
  args.weights = engine.random(kColumns * kInputs);
  args.weights_row_stride = kInputs;
  require(cudamoe_gemm_packed_bytes(engine.stream(), &args, &args.packed_bytes));
  args.packed = engine.allocate(args.packed_bytes);
  require(cudamoe_gemm_pack(engine.stream(), &args));
  return args.packed;
}

cudamoe_gate_forward_args forward_args(DeviceEngine& engine, int64_t batch) {
  cudamoe_gate_forward_args args{};
  args.struct_size = sizeof args;
  args.gates = kGates;
  args.experts = kExperts;
  args.top_k = kChoices;
  args.score_mode = CUDAMOE_SCORE_SOFTMAX_TOPK;
  args.renormalise = 1;
  args.rows = batch;
  args.k_in = kInputs;
  args.x = engine.random(batch * kInputs);
  args.x_row_stride = kInputs;
  args.packed = packed_weights(engine);
  args.bias = engine.random(kColumns);
  args.logits = engine.allocate_of<float>(batch * kColumns);
  args.probabilities = engine.allocate_of<float>(batch * kColumns);
  args.chosen = engine.allocate_of<int32_t>(batch * kGates * kChoices);
  args.weights = engine.allocate_of<float>(batch * kGates * kChoices);
  args.expert_counts = engine.allocate_of<int64_t>(kColumns);
  args.probability_sums = engine.allocate_of<double>(kColumns);
  require(cudamoe_gate_forward_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  return args;
}

Prepared forward(DeviceEngine& engine, int64_t batch) {
  const cudamoe_gate_forward_args args = forward_args(engine, batch);
  const double rows = static_cast<double>(batch);
  return {[&engine, args] { require(cudamoe_gate_forward(engine.stream(), &args)); },
          {rows * (4 * kInputs + 8 * kColumns + 8 * kGates * kChoices) + 4.0 * kInputs * kColumns, 2 * rows * kInputs * kColumns},
          {}};
}

Prepared backward(DeviceEngine& engine, int64_t batch) {
  const cudamoe_gate_forward_args gate = forward_args(engine, batch);
  require(cudamoe_gate_forward(engine.stream(), &gate));
  cudamoe_gate_backward_args args{};
  args.struct_size = sizeof args;
  args.gates = kGates;
  args.experts = kExperts;
  args.top_k = kChoices;
  args.score_mode = gate.score_mode;
  args.renormalise = 1;
  args.rows = batch;
  args.logits = gate.logits;
  args.probabilities = gate.probabilities;
  args.chosen = gate.chosen;
  args.weights = gate.weights;
  args.dweights = engine.random(batch * kGates * kChoices);
  args.expert_counts = gate.expert_counts;
  args.balance_coefficient = 0.01f;
  args.dlogits = engine.allocate_of<float>(batch * kColumns);
  args.dlogits_row_stride = kColumns;
  const double rows = static_cast<double>(batch);
  return {
      [&engine, args] { require(cudamoe_gate_backward(engine.stream(), &args)); }, {rows * (8 * kColumns + 12 * kGates * kChoices), 0}, {}};
}

// Two experts of each sample.
std::vector<int32_t> choices_of(int64_t batch) {
  std::vector<int32_t> chosen;
  Numbers numbers;
  for (int64_t i = 0; i < batch; ++i) {
    const int64_t first = numbers.below(kExperts);
    chosen.push_back(static_cast<int32_t>(first));
    chosen.push_back(static_cast<int32_t>((first + 1 + numbers.below(kExperts - 1)) % kExperts));
  }
  return chosen;
}

Prepared routing(DeviceEngine& engine, int64_t batch) {
  cudamoe_routing_args args{};
  args.struct_size = sizeof args;
  args.experts = kExperts;
  args.samples = batch;
  args.choices = kChoices;
  args.chosen = engine.upload(choices_of(batch));
  args.offsets = engine.allocate_of<int64_t>(kExperts + 1);
  args.sample_of_slot = engine.allocate_of<int32_t>(batch * kChoices);
  args.pair_of_slot = engine.allocate_of<int32_t>(batch * kChoices);
  args.slot_of_pair = engine.allocate_of<int32_t>(batch * kChoices);
  require(cudamoe_routing_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  return {[&engine, args] { require(cudamoe_routing(engine.stream(), &args)); }, {16.0 * static_cast<double>(batch * kChoices), 0}, {}};
}

// Groups of four samples, of which an expert takes one. Only the first run finds slots to take away: those of later ones are gone.
Prepared group_capacity(DeviceEngine& engine, int64_t batch) {
  constexpr int64_t kGroup = 4, kPairsOfGroup = kGroup * kChoices;
  const std::vector<int32_t> chosen = choices_of(batch);
  const int64_t pairs = batch * kChoices;
  int64_t dropped = 0;
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const auto group = chosen.begin() + pair / kPairsOfGroup * kPairsOfGroup;
    dropped += std::find(group, chosen.begin() + pair, chosen[pair]) != chosen.begin() + pair;
  }
  cudamoe_group_capacity_args args{};
  args.struct_size = sizeof args;
  args.experts = kExperts;
  args.samples = batch;
  args.choices = kChoices;
  args.group = kGroup;
  args.capacity = 1;
  args.chosen = engine.upload(chosen);
  args.slot_of_pair = engine.allocate_of<int32_t>(pairs);
  args.dropped_pairs = engine.allocate_of<int32_t>(pairs);
  args.dropped = engine.allocate_of<int64_t>(kExperts);
  return {[&engine, args] { require(cudamoe_group_capacity(engine.stream(), &args)); },
          {12.0 * static_cast<double>(pairs) + 4.0 * static_cast<double>(dropped), 0},
          {}};
}

}  // namespace

std::vector<Case> gating_cases() {
  return {{"gates of 3 tasks, training", forward},
          {"gates of 3 tasks, backward", backward},
          {"routing", routing},
          {"capacity within groups of 4", group_capacity}};
}

}  // namespace cudamoe::bench
