// The fused gate and the routing. The gate's floor: x read once, its outputs written once, at copy bandwidth; or its multiply-adds.
#include <string>

#include "support/harness.h"

namespace cudamoe::bench {
namespace {

struct GateShape {
  int64_t rows, k_in;
  int32_t gates, experts, top_k, mode;

  int64_t columns() const { return int64_t{gates} * experts * (mode == CUDAMOE_SCORE_NOISY ? 2 : 1); }
  std::string title(const char* pass) const {
    static const char* const kModes[] = {"softmax", "top-k softmax", "sigmoid", "noisy"};
    return std::string("gate ") + pass + " " + std::to_string(rows) + " x " + std::to_string(k_in) + ", " + std::to_string(gates) + " x " +
           std::to_string(experts) + " " + kModes[mode] + (top_k > 0 ? " top " + std::to_string(top_k) : " dense");
  }
};

struct Gate {
  cudamoe_gate_forward_args forward{};
  cudamoe_gate_backward_args backward{};
};

Gate make_gate(Engine& engine, const GateShape& s, bool keeps_logits) {
  const int64_t pairs = s.rows * s.gates * s.experts, chosen = s.rows * s.gates * s.top_k;
  cudamoe_gemm_pack_args pack{};
  pack.struct_size = sizeof pack;
  pack.groups = 1;
  pack.n = s.columns();
  pack.k = s.k_in;
  pack.weights = engine.random(s.columns() * s.k_in);
  pack.weights_row_stride = s.k_in;
  require(cudamoe_gemm_packed_bytes(engine.stream(), &pack, &pack.packed_bytes));
  pack.packed = engine.allocate(pack.packed_bytes);
  require(cudamoe_gemm_pack(engine.stream(), &pack));

  Gate gate;
  cudamoe_gate_forward_args& f = gate.forward;
  f.struct_size = sizeof f;
  f.gates = s.gates;
  f.experts = s.experts;
  f.top_k = s.top_k;
  f.score_mode = s.mode;
  f.rows = s.rows;
  f.k_in = s.k_in;
  f.x = engine.random(s.rows * s.k_in);
  f.x_row_stride = s.k_in;
  f.packed = pack.packed;
  f.bias = engine.random(s.columns());
  if (keeps_logits) f.logits = engine.allocate_of<float>(s.rows * s.columns());
  if (s.top_k == 0) {
    f.probabilities = engine.allocate_of<float>(pairs);
  } else {
    f.chosen = engine.allocate_of<int32_t>(chosen);
    f.weights = engine.allocate_of<float>(chosen);
    f.expert_counts = engine.allocate_of<int64_t>(s.gates * s.experts);
  }
  require(cudamoe_gate_forward_workspace(engine.stream(), &f, &f.workspace_bytes));
  f.workspace = engine.allocate(f.workspace_bytes);
  require(cudamoe_gate_forward(engine.stream(), &f));

  cudamoe_gate_backward_args& b = gate.backward;
  b.struct_size = sizeof b;
  b.gates = s.gates;
  b.experts = s.experts;
  b.top_k = s.top_k;
  b.score_mode = s.mode;
  b.rows = s.rows;
  b.logits = f.logits;
  b.probabilities = f.probabilities;
  b.chosen = f.chosen;
  b.weights = f.weights;
  b.dprobabilities = s.top_k == 0 ? engine.random(pairs) : nullptr;
  b.dweights = s.top_k > 0 ? engine.random(chosen) : nullptr;
  b.dlogits = engine.allocate_of<float>(s.rows * s.columns());
  b.dlogits_row_stride = s.columns();
  return gate;
}

void gates(Bench& bench, Engine& engine) {
  const GateShape shapes[] = {{65536, 256, 3, 8, 0, CUDAMOE_SCORE_SOFTMAX_TOPK}, {4096, 256, 3, 8, 0, CUDAMOE_SCORE_SOFTMAX_TOPK},
                              {256, 256, 3, 8, 0, CUDAMOE_SCORE_SOFTMAX_TOPK},   {65536, 256, 1, 16, 2, CUDAMOE_SCORE_TOPK_SOFTMAX},
                              {65536, 256, 3, 8, 2, CUDAMOE_SCORE_SOFTMAX_TOPK}, {4096, 256, 1, 16, 2, CUDAMOE_SCORE_NOISY},
                              {4096, 256, 1, 64, 4, CUDAMOE_SCORE_SIGMOID}};
  for (const GateShape& s : shapes) {
    const double rows = static_cast<double>(s.rows), columns = static_cast<double>(s.columns()), k_in = static_cast<double>(s.k_in);
    const double outputs = s.top_k == 0 ? static_cast<double>(s.gates * s.experts) : 2.0 * s.gates * s.top_k;
    if (bench.selected(s.title("forward"))) {
      Gate serving = make_gate(engine, s, false), training = make_gate(engine, s, true);
      bench.table(engine, s.title("forward"), {2 * rows * columns * k_in, 4 * rows * (k_in + outputs)},
                  {{"outputs only", [&] { require(cudamoe_gate_forward(engine.stream(), &serving.forward)); }},
                   {"and logits", [&] { require(cudamoe_gate_forward(engine.stream(), &training.forward)); }}});
    }
    if (bench.selected(s.title("backward"))) {
      const bool reads_logits = s.top_k > 0;
      Gate gate = make_gate(engine, s, reads_logits);
      bench.table(engine, s.title("backward"), {0, 4 * rows * (2 * outputs + columns * (reads_logits ? 2 : 1))},
                  {{"cudamoe", [&] { require(cudamoe_gate_backward(engine.stream(), &gate.backward)); }}});
    }
  }
}

void routings(Bench& bench, Engine& engine) {
  static const char* const kOrders[] = {"sample major", "choice major", "priority"};
  for (int64_t samples : {4096, 65536}) {
    for (int32_t order : {CUDAMOE_ORDER_SAMPLE_MAJOR, CUDAMOE_ORDER_CHOICE_MAJOR, CUDAMOE_ORDER_PRIORITY}) {
      const std::string title = "routing " + std::to_string(samples) + " x 2 to 16, " + kOrders[order];
      if (!bench.selected(title)) continue;
      const int64_t pairs = 2 * samples;
      cudamoe_routing_args a{};
      a.struct_size = sizeof a;
      a.experts = 16;
      a.samples = samples;
      a.choices = 2;
      a.order = order;
      auto* chosen = engine.allocate_of<int32_t>(pairs);
      uint32_t state = 1;
      for (int64_t i = 0; i < pairs; ++i) chosen[i] = static_cast<int32_t>((state = state * 1664525u + 1013904223u) >> 28);
      a.chosen = chosen;
      a.weights = engine.random(pairs);
      a.offsets = engine.allocate_of<int64_t>(17);
      a.sample_of_slot = engine.allocate_of<int32_t>(pairs);
      a.pair_of_slot = engine.allocate_of<int32_t>(pairs);
      a.slot_of_pair = engine.allocate_of<int32_t>(pairs);
      require(cudamoe_routing_workspace(engine.stream(), &a, &a.workspace_bytes));
      a.workspace = engine.allocate(a.workspace_bytes);
      bench.table(engine, title, {0, 20.0 * static_cast<double>(pairs)},
                  {{"cudamoe", [&] { require(cudamoe_routing(engine.stream(), &a)); }}});
    }
  }
}

const Suite kGates(
    "gate", gates,
    "forward: x read once and the outputs written once, or the multiply-adds of the logits: these are the longer floor from\n"
    "    some 12 columns (gates x experts) on with AVX-512, for x from memory or cache. backward: bytes alone");
const Suite kRoutings("routing", routings);

}  // namespace
}  // namespace cudamoe::bench
