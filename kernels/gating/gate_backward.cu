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
// Where probabilities were stored a logit is read only if it may be NaN: its probability is then 0, or that of all experts alike.
//
// Floor: what was stored read once, dlogits written once. Tiling: a group of 1 to 32 lanes for a row and gate, whose lane i has the runs of
// four experts i, i + width, ...; blocks of 128 threads, the grid strides. Accesses of 16 bytes where everything is aligned. Shared memory:
// 4 bytes an expert of each group, and 4 bytes for each expert of all gates where they are up to 1024.
// Order of sums: a lane's experts or choices ascending, then the lanes by a butterfly; no sum crosses rows.
#include "common/quad.cuh"
#include "gating/scores.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 128, kMostBalances = 1024;

// Between the groups' parts of the shared memory, in floats: whole runs of four, and neighbours in different banks.
CUDAMOE_HOST_DEVICE int upper_stride(int experts) { return (experts + 3) / 4 * 4 + 4; }

CUDAMOE_HOST_DEVICE int balances_of(const GateBackward& gate) {
  const int64_t pairs = int64_t{gate.options.gates} * gate.options.experts;
  return gate.balance != 0 && pairs <= kMostBalances ? static_cast<int>(pairs) : 0;
}

// The gradient of the balance loss on a probability of a gate's expert.
CUDAMOE_DEVICE float balance_of(const GateBackward& gate, int64_t pair) {
  return static_cast<float>(gate.balance * static_cast<double>(gate.expert_counts[pair]));
}

CUDAMOE_DEVICE float sigmoid_derivative(float x) {
  if (is_nan(x)) return 0;
  const float e = exp(-abs(x)), base = 1.0f + e;
  return e / (base * base);
}

// One row of one gate, by a group of lanes.
template <bool kWhole>
class GateGradient {
 public:
  CUDAMOE_DEVICE GateGradient(const GateBackward& gate, const LaneGroup& group, bool active, int64_t row, int at_gate, Shared<float> upper,
                              Shared<float> balances)
      : gate_(gate),
        options_(gate.options),
        group_(group),
        row_(row),
        at_gate_(at_gate),
        experts_(active ? gate.options.experts : 0),
        choices_(active ? gate.options.top_k : 0),
        upper_(upper),
        balances_(balances) {
    const int64_t own = options_.columns(), item = row * options_.gates + at_gate;
    logits_ = gate.logits == nullptr ? nullptr : gate.logits + item * own;
    pair_ = item * options_.experts;
    choice_ = item * options_.top_k;
    out_ = gate.dlogits + row * gate.dlogits_row_stride + at_gate * own;
  }

  CUDAMOE_DEVICE void run() const {
    const bool sparse = options_.top_k > 0, sigmoids = options_.score == GateScore::kSigmoid, over_chosen = options_.softmax_over_chosen();
    const bool through_softmax = !sigmoids && (!over_chosen || gate_.balance != 0);
    const auto logit = [&](int e) { return logits_[e]; };

    // upper = v of each expert, the balance loss's part left out where v goes past the softmax over all experts.
    for_quads([&](int e, int left) { store(upper_ + e, sparse ? Quad{} : load_quad<kWhole>(gate_.dprobabilities + pair_ + e, left)); });
    if (sparse) {
      scatter_chosen(over_chosen, sigmoids);
    } else if (sigmoids && options_.renormalise != 0) {
      renormalise_dense();
    }

    const bool computes = through_softmax && gate_.probabilities == nullptr;
    SoftmaxSums sums{0.0f, 1.0f};
    if (computes || gate_.z != 0) sums = softmax_sums(group_, experts_, sparse, logit);
    const float scale = 1.0f / sums.sum;
    const auto probabilities = [&](int e, int left) {
      if (!computes) return load_quad<kWhole>(gate_.probabilities + pair_ + e, left);
      Quad p = {};
      CUDAMOE_UNROLL
      for (int i = 0; i < 4; ++i) {
        if (i < left) p[i] = exp(sanitise(logits_[e + i], sparse) - sums.largest) * scale;
      }
      return p;
    };
    // In f64: from experts that are alike it is subtracted all but wholly.
    double wide_dot = 0;
    if (through_softmax) {
      for_quads([&](int e, int left) {
        const Quad p = probabilities(e, left), v = load<4>(upper_ + e);
        CUDAMOE_UNROLL
        for (int i = 0; i < 4; ++i) {
          if (i >= left) continue;
          const float factor = over_chosen ? balance(e + i) : v[i] + balance(e + i);
          wide_dot = fma(static_cast<double>(p[i]), static_cast<double>(factor), wide_dot);
        }
      });
      wide_dot = group_.sum(wide_dot);
    }
    const float dot = static_cast<float>(wide_dot);

    const float z = gate_.z == 0 ? 0.0f : gate_.z * (sums.log_sum() / sums.sum);
    const bool wants_logits = sigmoids || gate_.z != 0 || (sparse && (computes || options_.has_noise()));
    const float alike = 1.0f / static_cast<float>(options_.experts);
    for_quads([&](int e, int left) {
      const Quad v = load<4>(upper_ + e);
      Quad p = {}, x = {}, of_noise = {};
      if (through_softmax) p = probabilities(e, left);
      bool may_be_nan = false;  // and have a gradient
      CUDAMOE_UNROLL
      for (int i = 0; i < 4; ++i) may_be_nan = may_be_nan || (through_softmax ? p[i] == 0 || p[i] == alike : v[i] != 0);
      if (wants_logits || (sparse && may_be_nan)) x = load_quad<kWhole>(logits_ + e, left);
      if (options_.has_noise()) of_noise = load_quad<kWhole>(logits_ + options_.experts + e, left);
      Quad gradients, noise_gradients = {};
      CUDAMOE_UNROLL
      for (int i = 0; i < 4; ++i) {
        if (i >= left) continue;
        float gradient = over_chosen ? v[i] : 0.0f;
        if (through_softmax) gradient = fma(p[i], (over_chosen ? balance(e + i) : v[i] + balance(e + i)) - dot, gradient);
        if (sigmoids) {
          gradient = (v[i] + balance(e + i)) * sigmoid_derivative(x[i]);
          if (!sparse && is_nan(x[i])) gradient = x[i];
        }
        const bool unknown = sparse && (is_nan(x[i]) || is_nan(of_noise[i]));
        if (unknown) gradient = 0;
        if (options_.has_noise() && gradient != 0)
          noise_gradients[i] = gradient * gate_noise(options_, row_, at_gate_, e + i) * gate_sigmoid(of_noise[i], true);
        if (gate_.z != 0 && !unknown) gradient = fma(z, exp(sanitise(x[i], sparse) - sums.largest), gradient);
        gradients[i] = gradient;
      }
      store_quad<kWhole>(out_ + e, gradients, left);
      if (options_.score == GateScore::kNoisy) store_quad<kWhole>(out_ + options_.experts + e, noise_gradients, left);
    });
  }

 private:
  // Choice j, or -1 when it is out of range.
  CUDAMOE_DEVICE int chosen(int j) const {
    const int expert = gate_.chosen[choice_ + j];
    return expert < 0 || expert >= options_.experts ? -1 : expert;
  }

  // Calls use(first, how many there are from it on) for the lane's runs of four experts.
  template <class Use>
  CUDAMOE_DEVICE void for_quads(Use&& use) const {
    for (int e = 4 * group_.lane(); e < experts_; e += 4 * group_.width()) use(e, experts_ - e);
  }

  CUDAMOE_DEVICE float balance(int e) const {
    if (gate_.balance == 0) return 0.0f;
    const int64_t pair = int64_t{at_gate_} * options_.experts + e;
    if (balances_of(gate_) == 0) return balance_of(gate_, pair);
    return balances_[pair];
  }

  CUDAMOE_DEVICE void scatter_chosen(bool over_chosen, bool sigmoids) const {
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
      if (expert < 0 || (expert / 4 & (group_.width() - 1)) != group_.lane()) continue;
      float v = gate_.dweights[choice_ + j];
      if (over_chosen) v = gate_.weights[choice_ + j] * (v - dot);
      if (renormalises) v = sum == 0 ? 0.0f : (v - dot) / sum;
      upper_[expert] += v;
    }
  }

  CUDAMOE_DEVICE void renormalise_dense() const {
    float sum = 0, dot = 0;
    for_quads([&](int e, int left) {
      const Quad v = load<4>(upper_ + e), x = load_quad<kWhole>(logits_ + e, left);
      const Quad p = load_quad<kWhole>(gate_.probabilities + pair_ + e, left);
      CUDAMOE_UNROLL
      for (int i = 0; i < 4; ++i) {
        if (i >= left) continue;
        sum += gate_sigmoid(x[i], false);
        dot = fma(p[i], v[i], dot);
      }
    });
    sum = group_.sum(sum);
    dot = group_.sum(dot);
    for_quads([&](int e, int) {
      Quad v = load<4>(upper_ + e);
      CUDAMOE_UNROLL
      for (int i = 0; i < 4; ++i) v[i] = sum == 0 ? 0.0f : (v[i] - dot) / sum;
      store(upper_ + e, v);
    });
  }

  const GateBackward& gate_;
  const GateOptions& options_;
  const LaneGroup& group_;
  int64_t row_;
  int at_gate_, experts_, choices_;
  Shared<float> upper_, balances_;
  const float* logits_;
  int64_t pair_, choice_;  // of the row's first expert, first choice
  float* out_;
};

template <bool kWhole>
CUDAMOE_KERNEL(kThreads, 5)
gradient_kernel(const CUDAMOE_GRID_CONSTANT GateBackward gate) {
  const LaneGroup group(gate_group_width(gate.options.experts, 0));
  const int groups = kThreads / group.width(), own = thread_x() / group.width();
  const int64_t items = gate.rows * gate.options.gates;
  const Shared<float> memory = dynamic_shared<float>(), balances = memory + groups * upper_stride(gate.options.experts);
  for (int pair = thread_x(); pair < balances_of(gate); pair += kThreads) balances[pair] = balance_of(gate, pair);
  sync_block();
  for (int64_t base = int64_t{block_x()} * groups; base < items; base += int64_t{grid_size_x()} * groups) {
    const bool active = base + own < items;
    const int64_t item = active ? base + own : 0;
    const int64_t row =
        items <= INT32_MAX ? int64_t{static_cast<uint32_t>(item) / static_cast<uint32_t>(gate.options.gates)} : item / gate.options.gates;
    GateGradient<kWhole>(gate, group, active, row, static_cast<int>(item - row * gate.options.gates),
                         memory + own * upper_stride(gate.options.experts), balances)
        .run();
  }
  if (gate.options.top_k == 0) return;
  sync_block();
  if (thread_x() == 0) {
    report_offender(gate.offender, gate.report, static_cast<uint32_t>(grid_size_x()), [&](int64_t choice) {
      return DeviceReport{ReportCode::kGateChosen, 0, {choice, gate.chosen[choice], gate.options.experts}, {}};
    });
  }
}

}  // namespace

cudaError_t gate_backward(const GateBackward& gate, cudaStream_t stream) {
  constexpr int64_t kMostBlocks = 2048;
  const int groups = kThreads / gate_group_width(gate.options.experts, 0);
  const int64_t blocks = ceil_divide(gate.rows * gate.options.gates, int64_t{groups});
  if (blocks == 0) return cudaSuccess;
  const bool whole = gate.options.experts % 4 == 0 && aligned_for<4>(gate.logits) && aligned_for<4>(gate.probabilities) &&
                     aligned_for<4>(gate.dprobabilities) && aligned_for<4>(gate.dlogits, gate.dlogits_row_stride);
  const int64_t floats = int64_t{groups} * upper_stride(gate.options.experts) + balances_of(gate);
  return launch({.name = "gate_backward",
                 .grid = {static_cast<int>(blocks < kMostBlocks ? blocks : kMostBlocks)},
                 .block = {kThreads},
                 .dynamic_shared_bytes = floats * 4,
                 .stream = stream},
                whole ? gradient_kernel<true> : gradient_kernel<false>, gate);
}

}  // namespace cudamoe::kernels
