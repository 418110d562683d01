// The gradient of a fused gate on its logits, with those of the balance and the z loss.
//
// With v the gradient on the weights (sparse) or probabilities (dense), p the softmax or sigmoid over all experts, w the weights of
// the chosen, c the chosen experts, s the scores (logits, with noise):
//   dense softmax          ds = p (v - <p, v>)
//   dense sigmoid          ds = sigmoid'(s) u,   u = v, or (v - <q, v>) / sum p for q = p / sum p
//   softmax over chosen    ds[c] = w (v - <w, v>)                              TOPK_SOFTMAX, NOISY, renormalised SOFTMAX_TOPK
//   softmax, then top-k    as dense softmax, with v at the chosen
//   sigmoid                ds[c] = sigmoid'(s[c]) u, u as above over the chosen
//   balance loss           adds balance counts[e] to the gradient on p[e]
//   noise                  dclean = ds, dnoise = ds n sigmoid(noise logit), n the forward's normal number
//   z loss                 adds z logsumexp(clean) softmax(clean) to dclean
// Logits that are NaN, or have a noise logit that is, get 0 in a sparse gate.
//
// Floor: what was stored read once, dlogits written once. Tiling: a group of 1 to 32 lanes for a row and gate, one or more experts a
// lane; blocks of 128 threads. Shared memory: 4 bytes an expert of each group.
// Order of sums: a lane's experts or choices ascending, then the lanes by a butterfly; no sum crosses rows.
#include "gating/scores.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 128;

CUDAMOE_DEVICE float sigmoid_derivative(float x) {
  if (is_nan(x)) return 0;
  const float e = exp(-abs(x)), base = 1.0f + e;
  return e / (base * base);
}

// One row of one gate, by a group of lanes.
class GateGradient {
 public:
  CUDAMOE_DEVICE GateGradient(const GateBackward& gate, const LaneGroup& group, bool active, int64_t row, int at_gate, Shared<float> upper)
      : gate_(gate),
        options_(gate.options),
        group_(group),
        row_(row),
        at_gate_(at_gate),
        experts_(active ? gate.options.experts : 0),
        choices_(active ? gate.options.top_k : 0),
        upper_(upper) {
    const int64_t own = options_.columns(), item = row * options_.gates + at_gate;
    logits_ = gate.logits == nullptr ? nullptr : gate.logits + item * own;
    pair_ = item * options_.experts;
    choice_ = item * options_.top_k;
    out_ = gate.dlogits + row * gate.dlogits_row_stride + at_gate * own;
  }

  CUDAMOE_DEVICE void run() {
    const bool sparse = options_.top_k > 0, sigmoids = options_.score == GateScore::kSigmoid, over_chosen = options_.softmax_over_chosen();
    const bool through_softmax = !sigmoids && (!over_chosen || gate_.balance != 0);
    const auto logit = [&](int e) { return logits_[e]; };

    // upper = v of each expert, the balance loss's part left out where v goes past the softmax over all experts.
    for (int e = group_.lane(); e < experts_; e += group_.width()) upper_[e] = sparse ? 0.0f : gate_.dprobabilities[pair_ + e];
    if (sparse) {
      scatter_chosen(over_chosen, sigmoids);
    } else if (sigmoids && options_.renormalise != 0) {
      renormalise_dense();
    }

    const bool computes = through_softmax && gate_.probabilities == nullptr;
    SoftmaxSums sums{0.0f, 1.0f};
    if (computes || gate_.z != 0) sums = softmax_sums(group_, experts_, sparse, logit);
    const float scale = 1.0f / sums.sum;
    const auto probability = [&](int e) {
      return computes ? exp(sanitise(logits_[e], sparse) - sums.largest) * scale : gate_.probabilities[pair_ + e];
    };
    const auto balance = [&](int e) {
      const int64_t pair = int64_t{at_gate_} * options_.experts + e;
      return gate_.balance == 0 ? 0.0f : static_cast<float>(gate_.balance * static_cast<double>(gate_.expert_counts[pair]));
    };
    float dot = 0;
    if (through_softmax) {
      for (int e = group_.lane(); e < experts_; e += group_.width()) {
        const float v = upper_[e];
        dot = fma(probability(e), over_chosen ? balance(e) : v + balance(e), dot);
      }
      dot = group_.sum(dot);
    }
    const float z = gate_.z == 0 ? 0.0f : gate_.z * (sums.log_sum() / sums.sum);
    for (int e = group_.lane(); e < experts_; e += group_.width()) {
      const float v = upper_[e];
      float gradient = over_chosen ? v : 0.0f;
      if (through_softmax) gradient = fma(probability(e), (over_chosen ? balance(e) : v + balance(e)) - dot, gradient);
      if (sigmoids) {
        const float x = logits_[e];
        gradient = (v + balance(e)) * sigmoid_derivative(x);
        if (!sparse && is_nan(x)) gradient = x;
      }
      const bool unknown = sparse && (is_nan(logits_[e]) || (options_.has_noise() && is_nan(logits_[options_.experts + e])));
      if (unknown) gradient = 0;
      if (options_.score == GateScore::kNoisy) out_[options_.experts + e] = noise_gradient(e, gradient);
      if (gate_.z != 0 && !unknown) gradient = fma(z, exp(sanitise(logits_[e], sparse) - sums.largest), gradient);
      out_[e] = gradient;
    }
  }

 private:
  // Choice j, or -1 when it is out of range.
  CUDAMOE_DEVICE int chosen(int j) const {
    const int expert = gate_.chosen[choice_ + j];
    return expert < 0 || expert >= options_.experts ? -1 : expert;
  }

  CUDAMOE_DEVICE void scatter_chosen(bool over_chosen, bool sigmoids) {
    const bool renormalises = sigmoids && options_.renormalise != 0;
    float dot = 0, sum = 0;
    for (int j = group_.lane(); j < choices_; j += group_.width()) {
      const int expert = chosen(j);
      if (expert < 0) {
        note_offender(gate_.offender, choice_ + j);
        continue;
      }
      dot = fma(gate_.weights[choice_ + j], gate_.dweights[choice_ + j], dot);
      if (renormalises) sum += gate_sigmoid(logits_[expert], true);
    }
    dot = group_.sum(dot);
    sum = group_.sum(sum);
    // The lane of an expert adds what is its own, so that also an expert that stands twice gets a sum in order.
    for (int j = 0; j < choices_; ++j) {
      const int expert = chosen(j);
      if (expert < 0 || (expert & (group_.width() - 1)) != group_.lane()) continue;
      float v = gate_.dweights[choice_ + j];
      if (over_chosen) v = gate_.weights[choice_ + j] * (v - dot);
      if (renormalises) v = sum == 0 ? 0.0f : (v - dot) / sum;
      upper_[expert] += v;
    }
  }

  CUDAMOE_DEVICE void renormalise_dense() {
    float sum = 0, dot = 0;
    for (int e = group_.lane(); e < experts_; e += group_.width()) {
      const float v = upper_[e];
      sum += gate_sigmoid(logits_[e], false);
      dot = fma(gate_.probabilities[pair_ + e], v, dot);
    }
    sum = group_.sum(sum);
    dot = group_.sum(dot);
    for (int e = group_.lane(); e < experts_; e += group_.width()) {
      const float v = upper_[e];
      upper_[e] = sum == 0 ? 0.0f : (v - dot) / sum;
    }
  }

  CUDAMOE_DEVICE float noise_gradient(int e, float gradient) const {
    if (!options_.has_noise() || gradient == 0) return 0;
    return gradient * gate_noise(options_, row_, at_gate_, e) * gate_sigmoid(logits_[options_.experts + e], true);
  }

  const GateBackward& gate_;
  const GateOptions& options_;
  const LaneGroup& group_;
  int64_t row_;
  int at_gate_, experts_, choices_;
  Shared<float> upper_;
  const float* logits_;
  int64_t pair_, choice_;  // of the row's first expert, first choice
  float* out_;
};

CUDAMOE_KERNEL(kThreads, 8) gradient_kernel(const CUDAMOE_GRID_CONSTANT GateBackward gate) {
  const LaneGroup group(gate_group_width(gate.options.experts));
  const int groups = kThreads / group.width(), own = thread_x() / group.width();
  const int64_t items = gate.rows * gate.options.gates;
  const Shared<float> upper = dynamic_shared<float>() + own * gate.options.experts;
  for (int64_t base = int64_t{block_x()} * groups; base < items; base += int64_t{grid_size_x()} * groups) {
    const bool active = base + own < items;
    const int64_t item = active ? base + own : 0, row = item / gate.options.gates;
    GateGradient(gate, group, active, row, static_cast<int>(item - row * gate.options.gates), upper).run();
  }
  sync_block();
  if (thread_x() == 0 && gate.options.top_k > 0) {
    report_offender(gate.offender, gate.report, static_cast<uint32_t>(grid_size_x()), [&](int64_t choice) {
      return DeviceReport{ReportCode::kGateChosen, 0, {choice, gate.chosen[choice], gate.options.experts}, {}};
    });
  }
}

}  // namespace

cudaError_t gate_backward(const GateBackward& gate, cudaStream_t stream) {
  constexpr int64_t kMostBlocks = int64_t{1} << 20;
  const int groups = kThreads / gate_group_width(gate.options.experts);
  const int64_t blocks = ceil_divide(gate.rows * gate.options.gates, int64_t{groups});
  if (blocks == 0) return cudaSuccess;
  return launch({.name = "gate_backward",
                 .grid = {static_cast<int>(blocks < kMostBlocks ? blocks : kMostBlocks)},
                 .block = {kThreads},
                 .dynamic_shared_bytes = int64_t{groups} * gate.options.experts * 4,
                 .stream = stream},
                gradient_kernel, gate);
}

}  // namespace cudamoe::kernels
