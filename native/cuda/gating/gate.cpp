// The gates: one kernel where a gate's columns fit its tile; else logits and scores in turns, in spans of rows that keep the logits small
// when the caller does not want them.
#include <algorithm>

#include "cuda/device.h"
#include "gating/gating.h"
#include "gemm/gemm.h"

namespace cudamoe::cuda {
namespace {

static_assert(static_cast<int32_t>(kernels::GateScore::kSoftmaxTopK) == CUDAMOE_SCORE_SOFTMAX_TOPK &&
              static_cast<int32_t>(kernels::GateScore::kTopKSoftmax) == CUDAMOE_SCORE_TOPK_SOFTMAX &&
              static_cast<int32_t>(kernels::GateScore::kSigmoid) == CUDAMOE_SCORE_SIGMOID &&
              static_cast<int32_t>(kernels::GateScore::kNoisy) == CUDAMOE_SCORE_NOISY);

template <class Args>
kernels::GateOptions options_of(const Args& args) {
  static_assert(sizeof(kernels::StepNumbers) == sizeof(cudamoe_step_numbers));
  return {args.gates, args.experts, args.top_k,      static_cast<kernels::GateScore>(args.score_mode),           args.renormalise,
          args.seed,  args.step,    args.row_offset, reinterpret_cast<const kernels::StepNumbers*>(args.numbers)};
}

constexpr int64_t round_up(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// The work space: sums of each block of rows, and the logits of a span of blocks.
struct Layout {
  kernels::GatePlan plan;
  int64_t counts, sums, z, span_blocks, logits;  // bytes but for span_blocks

  explicit Layout(const cudamoe_gate_forward_args& args) : plan(kernels::gate_plan(options_of(args), args.rows)) {
    constexpr int64_t kSpanRows = 8192;
    const int64_t pairs = int64_t{args.gates} * args.experts;
    counts = round_up(plan.blocks * pairs * 8);
    sums = round_up(plan.blocks * pairs * 8);
    z = round_up(plan.blocks * args.gates * 8);
    span_blocks = plan.fused || plan.blocks == 0 ? 0 : std::min(plan.blocks, std::max<int64_t>(kSpanRows / plan.block_rows, 1));
    logits = round_up(std::min(span_blocks * plan.block_rows, args.rows) * args.gates * options_of(args).columns() * 4);
  }
  int64_t all() const { return counts + sums + z + logits; }
};

int64_t forward_workspace(void*, const cudamoe_gate_forward_args& args) { return Layout(args).all(); }

// Spans of blocks, when the gates are wide.
cudaError_t run_wide(const kernels::GateForward& gate, const Layout& layout, float* spare, cudaStream_t stream) {
  const kernels::GatePlan& plan = layout.plan;
  const int64_t columns = int64_t{gate.options.gates} * gate.options.columns();
  const int64_t step = gate.logits != nullptr ? plan.blocks : layout.span_blocks;
  for (int64_t block = 0; block < plan.blocks; block += step) {
    const int64_t blocks = std::min(step, plan.blocks - block), row = block * plan.block_rows;
    kernels::GateForward span = gate;
    span.logits = gate.logits != nullptr ? gate.logits + row * columns : spare;
    cudaError_t error = kernels::gate_logits(span, row, std::min(blocks * plan.block_rows, gate.rows - row), stream);
    if (error == cudaSuccess) error = kernels::gate_scores(gate, plan, block, blocks, span.logits, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudamoe_status forward(void* handle, const cudamoe_gate_forward_args& args) {
  const Stream& stream = stream_of(handle);
  const Layout layout(args);
  char* at = static_cast<char*>(args.workspace);
  kernels::GateForward gate{};
  gate.options = options_of(args);
  gate.rows = args.rows;
  gate.k_in = args.k_in;
  gate.x = static_cast<const float*>(args.x);
  gate.x_row_stride = args.x_row_stride;
  gate.packed = static_cast<const float*>(args.packed);
  gate.packed_stride = kernels::gemm_packed_stride(int64_t{args.gates} * gate.options.columns());
  gate.bias = args.bias;
  gate.selection_bias = args.selection_bias;
  gate.logits = args.logits;
  gate.probabilities = args.probabilities;
  gate.chosen = args.chosen;
  gate.weights = args.weights;
  if (args.expert_counts != nullptr) gate.counts = reinterpret_cast<int64_t*>(at);
  if (args.probability_sums != nullptr) gate.probability_sums = reinterpret_cast<double*>(at + layout.counts);
  if (args.z_sums != nullptr) gate.z_sums = reinterpret_cast<double*>(at + layout.counts + layout.sums);
  auto* spare = reinterpret_cast<float*>(at + layout.counts + layout.sums + layout.z);
  cudaError_t error = cudaSuccess;
  if (layout.plan.blocks > 0) {
    error = layout.plan.fused ? kernels::gate_forward(gate, layout.plan, stream.get()) : run_wide(gate, layout, spare, stream.get());
  }
  if (error == cudaSuccess)
    error = kernels::gate_totals(gate, layout.plan, {args.expert_counts, args.probability_sums, args.z_sums}, stream.get());
  return stream.check(error, "cudamoe_gate_forward");
}

cudamoe_status backward(void* handle, const cudamoe_gate_backward_args& args) {
  const Stream& stream = stream_of(handle);
  const double rows = static_cast<double>(args.rows);
  kernels::GateBackward gate{};
  gate.options = options_of(args);
  gate.rows = args.rows;
  gate.logits = args.logits;
  gate.probabilities = args.probabilities;
  gate.chosen = args.chosen;
  gate.weights = args.weights;
  gate.dprobabilities = args.dprobabilities;
  gate.dweights = args.dweights;
  gate.expert_counts = args.expert_counts;
  if (args.balance_coefficient != 0)
    gate.balance = static_cast<double>(args.balance_coefficient) * args.experts / (rows * rows * std::max(args.top_k, 1));
  gate.z = static_cast<float>(2 * static_cast<double>(args.z_coefficient) / rows);
  gate.dlogits = args.dlogits;
  gate.dlogits_row_stride = args.dlogits_row_stride;
  gate.offender = static_cast<kernels::OffenderCell*>(stream.scratch());
  gate.report = stream.device_report();
  return stream.check(kernels::gate_backward(gate, stream.get()), "cudamoe_gate_backward");
}

}  // namespace

void register_routing(Backend& table);

void register_gating(Backend& table) {
  table.gate_forward = forward;
  table.gate_forward_workspace = forward_workspace;
  table.gate_backward = backward;
  register_routing(table);
}

}  // namespace cudamoe::cuda
