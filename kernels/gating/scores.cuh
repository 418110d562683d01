// Softmax, sigmoid, noise and top-k of one row of a gate by a group of lanes: 1, 2, 4 .. 32 neighbouring lanes, of which lane i has the
// experts i, i + width, ...
//
// Special values, as on the cpu. Infinite logits count as the largest finite ones. A NaN logit ranks below everything; in a sparse gate
// it counts as minus infinity in the softmax and as sigmoid 0. Only when all logits that a softmax runs over are NaN or minus infinity do
// they share equally. In a dense gate a NaN is handed on.
//
// Order of sums: a lane's experts ascending, then the lanes by a butterfly; over the chosen in the order of the choice. The sum of a
// softmax is taken in f64 and rounded once, so that it is the same with and without experts whose terms are zero.
#pragma once

#include "common/kernel.cuh"
#include "common/philox.cuh"
#include "gating/gating.h"

namespace cudamoe::kernels {

// All lanes of a warp call the functions of their groups together.
class LaneGroup {
 public:
  CUDAMOE_DEVICE explicit LaneGroup(int width) : width_(width), lane_(lane_id() & (width - 1)) {}

  CUDAMOE_DEVICE int width() const { return width_; }
  CUDAMOE_DEVICE int lane() const { return lane_; }
  // The lane of an expert or choice, and how many the lane has before it.
  CUDAMOE_DEVICE int lane_of(int i) const { return i & (width_ - 1); }
  CUDAMOE_DEVICE int turn_of(int i) const { return i >> count_ones(static_cast<uint32_t>(width_ - 1)); }

  template <class T>
  CUDAMOE_DEVICE T sum(T value) const {
    for (int bits = width_ / 2; bits > 0; bits /= 2) value += shuffle_xor(kFullWarp, value, bits);
    return value;
  }
  CUDAMOE_DEVICE float largest(float value) const {
    for (int bits = width_ / 2; bits > 0; bits /= 2) value = max(value, shuffle_xor(kFullWarp, value, bits));
    return value;
  }
  CUDAMOE_DEVICE uint64_t largest(uint64_t value) const {
    if (width_ == kWarp) {
      const uint32_t high = static_cast<uint32_t>(value >> 32);
      const uint32_t best = reduce_max(kFullWarp, high);
      return uint64_t{best} << 32 | reduce_max(kFullWarp, high == best ? static_cast<uint32_t>(value) : 0u);
    }
    for (int bits = width_ / 2; bits > 0; bits /= 2) {
      const uint64_t other = shuffle_xor(kFullWarp, value, bits);
      value = other > value ? other : value;
    }
    return value;
  }

 private:
  int width_, lane_;
};

// Choices that a lane keeps at most.
inline constexpr int kKeptChoices = 2;

// Experts that a lane holds in registers at most.
inline constexpr int kShortRow = 8;

// The width that suits a number of experts: up to kShortRow a lane.
CUDAMOE_HOST_DEVICE int gate_group_width(int experts, int top_k) {
  int width = 1;
  while (width < kWarp && (kShortRow * width < experts || kKeptChoices * width < top_k)) width *= 2;
  return width;
}

// Infinities become the largest finite numbers; a NaN the lowest in a sparse gate, and stays one in a dense one.
CUDAMOE_DEVICE float sanitise(float x, bool sparse) {
  const float most = float_of_bits(0x7F7FFFFFu);
  if (is_nan(x)) return sparse ? -most : x;
  return max(min(x, most), -most);
}

CUDAMOE_DEVICE float gate_sigmoid(float x, bool sparse) { return sparse && is_nan(x) ? 0.0f : 1.0f / (1.0f + exp(-x)); }
// log(1 + e^x)
CUDAMOE_DEVICE float gate_softplus(float x) { return max(x, 0.0f) + log1p(exp(-abs(x))); }

// Unsigned integers in the order of the scores: NaN lowest, -0 equal to +0.
CUDAMOE_DEVICE uint32_t key_of_score(float score) {
  if (is_nan(score)) return 0;
  const uint32_t bits = bits_of(score + 0.0f);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}
CUDAMOE_DEVICE float score_of_key(uint32_t key) { return float_of_bits((key >> 31) != 0 ? key & 0x7FFFFFFFu : ~key); }

// The standard normal number of (seed, step, sample, gate, expert), as the cpu backend draws it: Philox words of four neighbouring experts,
// Box-Muller for two words; r cos(2 pi v) for the even, r sin(2 pi v) for the odd expert.
CUDAMOE_DEVICE float gate_noise(const GateOptions& options, int64_t row, int gate, int expert) {
  const auto sample = static_cast<uint64_t>(options.row_offset + row), step = static_cast<uint64_t>(options.step_of_noise());
  const uint32_t quads = static_cast<uint32_t>(options.experts + 3) / 4;
  const Philox words =
      philox(static_cast<uint32_t>(options.seed), static_cast<uint32_t>(options.seed >> 32),
             {{static_cast<uint32_t>(sample), static_cast<uint32_t>((sample >> 32 & 0xFFFFu) | (step >> 32 & 0xFFFFu) << 16),
               static_cast<uint32_t>(step), static_cast<uint32_t>(gate) * quads + static_cast<uint32_t>(expert) / 4}});
  const bool second = (expert & 2) != 0;
  const uint32_t w0 = second ? words.word[2] : words.word[0], w1 = second ? words.word[3] : words.word[1];
  const float u = (static_cast<float>(w0 >> 9) + 0.5f) * 0x1p-23f, turns2 = static_cast<float>(w1 >> 8) * 0x1p-23f;
  const float r = sqrt(log(u) * -2.0f);
  return r * ((expert & 1) == 0 ? cos_pi(turns2) : sin_pi(turns2));
}

struct SoftmaxSums {
  float largest;  // of the sanitised logits
  float sum;      // of exp(logit - largest)

  CUDAMOE_DEVICE float log_sum() const { return largest + log(sum); }
};

// Of logit(0) .. logit(count - 1); count is 0 in groups that have no row.
template <class Logit>
CUDAMOE_DEVICE SoftmaxSums softmax_sums(const LaneGroup& group, int count, bool sparse, Logit&& logit) {
  float largest = -infinity();
  double sum = 0;
  for (int e = group.lane(); e < count; e += group.width()) largest = max(largest, sanitise(logit(e), true));
  largest = group.largest(largest);
  for (int e = group.lane(); e < count; e += group.width()) sum += static_cast<double>(exp(sanitise(logit(e), sparse) - largest));
  return {largest, static_cast<float>(group.sum(sum))};
}

// The choices of a row, of which each lane keeps its own until their weights are known.
class GateChoices {
 public:
  // Choice j.
  CUDAMOE_DEVICE void add(const LaneGroup& group, int j, int expert, float weight) {
    CUDAMOE_UNROLL
    for (int k = 0; k < kKeptChoices; ++k) {
      const bool keeps = group.lane_of(j) == group.lane() && group.turn_of(j) == k;
      chosen_[k] = keeps ? expert : chosen_[k];
      weights_[k] = keeps ? weight : weights_[k];
    }
    sum_ += weight;
  }

  CUDAMOE_DEVICE void store(const GateForward& gate, const LaneGroup& group, int64_t at_row, int at_gate) const {
    const int top_k = gate.options.top_k;
    const float share = 1.0f / sum_;
    const int64_t at = (at_row * gate.options.gates + at_gate) * top_k;
    CUDAMOE_UNROLL
    for (int k = 0; k < kKeptChoices; ++k) {
      const int j = group.lane() + k * group.width();
      if (j >= top_k) continue;
      float weight = weights_[k];
      if (gate.options.softmax_over_chosen()) {
        weight *= share;
      } else if (gate.options.renormalise != 0) {
        weight = sum_ == 0 ? 1.0f / static_cast<float>(top_k) : weight / sum_;
      }
      gate.chosen[at + j] = chosen_[k];
      gate.weights[at + j] = weight;
    }
  }

 private:
  int chosen_[kKeptChoices] = {};
  float weights_[kKeptChoices] = {}, sum_ = 0;
};

// Sums of a softmax over the lanes' x[0 .. count - 1], and its terms exp(x - largest).
template <int kPer>
CUDAMOE_DEVICE SoftmaxSums softmax_terms(const LaneGroup& group, int count, bool sparse, const float (&x)[kPer], float (&terms)[kPer]) {
  float largest = -infinity();
  double sum = 0;
  CUDAMOE_UNROLL
  for (int i = 0; i < kPer; ++i) largest = max(largest, i < count ? sanitise(x[i], true) : -infinity());
  largest = group.largest(largest);
  CUDAMOE_UNROLL
  for (int i = 0; i < kPer; ++i) {
    terms[i] = i < count ? exp(sanitise(x[i], sparse) - largest) : 0.0f;
    sum += static_cast<double>(terms[i]);
  }
  return {largest, static_cast<float>(group.sum(sum))};
}

// One row of a gate of at most kPer experts a lane, which stay in registers. `row` holds the clean logits of a group's experts, and where
// wanted takes their probabilities. Answers log sum exp of the clean logits where z_sums are wanted, 0 else.
template <int kPer, class NoiseLogit, class Count>
CUDAMOE_DEVICE float gate_short_row(const GateForward& gate, const LaneGroup& group, bool active, int64_t at_row, int at_gate,
                                    Shared<float> row, bool wants_probabilities, NoiseLogit&& noise_logit, Count&& count_expert) {
  const GateOptions& options = gate.options;
  const int experts = active ? options.experts : 0, top_k = options.top_k, width = group.width();
  const int count = experts > group.lane() ? group.turn_of(experts - 1 - group.lane()) + 1 : 0;
  const bool sparse = top_k > 0, sigmoids = options.score == GateScore::kSigmoid, over_chosen = options.softmax_over_chosen();
  const bool wants_sums = !sigmoids && (wants_probabilities || !over_chosen), wants_z = gate.z_sums != nullptr;

  float x[kPer], terms[kPer] = {};
  const auto load_row = [&] {
    CUDAMOE_UNROLL
    for (int i = 0; i < kPer; ++i) x[i] = i < count ? static_cast<float>(row[group.lane() + i * width]) : 0.0f;
  };
  load_row();
  SoftmaxSums sums{0.0f, 1.0f};
  float log_sum = 0;
  if (wants_z || (wants_sums && !options.has_noise())) sums = softmax_terms(group, count, sparse, x, terms);
  if (wants_z) log_sum = sums.log_sum();
  if (options.has_noise()) {
    CUDAMOE_NO_UNROLL
    for (int e = group.lane(); e < experts; e += width) {
      const float clean = row[e];
      row[e] = fma(gate_noise(options, at_row, at_gate, e), gate_softplus(noise_logit(e)), clean);
    }
    load_row();
    if (wants_sums) sums = softmax_terms(group, count, sparse, x, terms);
  }
  const float scale = 1.0f / sums.sum;

  if (sparse) {
    const float* bias = gate.selection_bias == nullptr ? nullptr : gate.selection_bias + int64_t{at_gate} * options.experts;
    uint32_t keys[kPer], taken = ~uint32_t{0} << count;  // a bit for each expert of the lane; those that are not there are never free
    CUDAMOE_UNROLL
    for (int i = 0; i < kPer; ++i) {
      float ranked = x[i];
      if (sigmoids && i < count && !is_nan(ranked))
        ranked = gate_sigmoid(ranked, true) + (bias == nullptr ? 0.0f : bias[group.lane() + i * width]);
      keys[i] = key_of_score(ranked);
    }
    GateChoices choices;
    float largest = sums.largest;
    for (int j = 0; j < top_k; ++j) {
      // The best of the lane, of equals the first; then that of the lanes by (score, lower index first) as one number.
      uint32_t key = 0;
      int at = -1;
      CUDAMOE_UNROLL
      for (int i = 0; i < kPer; ++i) {
        const bool better = (taken >> i & 1u) == 0 && (at < 0 || keys[i] > key);
        key = better ? keys[i] : key;
        at = better ? i : at;
      }
      const uint64_t own = at < 0 ? 0 : uint64_t{key} << 32 | ~static_cast<uint32_t>(group.lane() + at * width);
      const uint64_t best = group.largest(own);
      if (best == own && at >= 0) taken |= 1u << at;
      const int expert = static_cast<int>(~static_cast<uint32_t>(best));
      float weight = 0;
      if (sigmoids) {
        if (active) weight = gate_sigmoid(row[expert], true);
      } else {
        const float score = sanitise(score_of_key(static_cast<uint32_t>(best >> 32)), true);
        if (j == 0 && over_chosen) largest = score;
        weight = exp(score - largest);
        if (!over_chosen) weight *= scale;
      }
      if (active && group.lane() == 0) count_expert(expert);
      choices.add(group, j, expert, weight);
    }
    if (active) choices.store(gate, group, at_row, at_gate);
  }

  if (wants_probabilities) {
    sync_warp();  // the look-ups of chosen experts are done
    float sum = 0;
    CUDAMOE_UNROLL
    for (int i = 0; i < kPer; ++i) {
      if (i >= count) continue;
      terms[i] = sigmoids ? gate_sigmoid(x[i], sparse) : terms[i] * scale;
      sum += terms[i];
    }
    const bool normalised = !sparse && sigmoids && options.renormalise != 0;
    if (normalised) sum = group.sum(sum);
    CUDAMOE_UNROLL
    for (int i = 0; i < kPer; ++i) {
      if (i >= count) continue;
      float p = terms[i];
      if (normalised) p = sum == 0 ? 1.0f / static_cast<float>(options.experts) : p / sum;
      row[group.lane() + i * width] = p;
    }
  }
  return log_sum;
}

// The same for any number of experts, which stay in `row`; a lane touches its own but to look up those chosen. Not one function with that
// above: registers are not indexed by a loop's counter, so its loops are unrolled over a bound, its keys are made once and its choices are
// bits of a word; here each round makes the keys again and goes on below the last one taken.
template <class NoiseLogit, class Count>
CUDAMOE_DEVICE float gate_row(const GateForward& gate, const LaneGroup& group, bool active, int64_t at_row, int at_gate, Shared<float> row,
                              bool wants_probabilities, NoiseLogit&& noise_logit, Count&& count_expert) {
  const GateOptions& options = gate.options;
  const int experts = active ? options.experts : 0, top_k = options.top_k;
  const bool sparse = top_k > 0, sigmoids = options.score == GateScore::kSigmoid, over_chosen = options.softmax_over_chosen();
  const auto score = [&](int e) -> float { return row[e]; };

  SoftmaxSums sums{0.0f, 1.0f};
  float log_sum = 0;
  const bool wants_sums = !sigmoids && (wants_probabilities || !over_chosen);
  const bool wants_z = gate.z_sums != nullptr;
  if (wants_z || (wants_sums && !options.has_noise())) sums = softmax_sums(group, experts, sparse, score);
  if (wants_z) log_sum = sums.log_sum();
  if (options.has_noise()) {
    for (int e = group.lane(); e < experts; e += group.width()) {
      const float clean = row[e];
      row[e] = fma(gate_noise(options, at_row, at_gate, e), gate_softplus(noise_logit(e)), clean);
    }
    if (wants_sums) sums = softmax_sums(group, experts, sparse, score);
  }
  const float scale = 1.0f / sums.sum;

  if (sparse) {
    const float* bias = gate.selection_bias == nullptr ? nullptr : gate.selection_bias + int64_t{at_gate} * options.experts;
    // The order of (score, lower index first) as one number, different for every expert: a round takes the largest below the last taken.
    uint64_t last = ~uint64_t{0};
    float largest = 0;
    GateChoices choices;
    for (int j = 0; j < top_k; ++j) {
      uint64_t best = 0;
      for (int e = group.lane(); e < experts; e += group.width()) {
        const float logit = row[e];
        float ranked = logit;
        if (sigmoids && !is_nan(logit)) ranked = gate_sigmoid(logit, true) + (bias == nullptr ? 0.0f : bias[e]);
        const uint64_t key = uint64_t{key_of_score(ranked)} << 32 | ~static_cast<uint32_t>(e);
        if (key < last && key > best) best = key;
      }
      best = last = group.largest(best);
      const int expert = static_cast<int>(~static_cast<uint32_t>(best));
      float weight = 0;
      if (sigmoids) {
        if (active) weight = gate_sigmoid(row[expert], true);
      } else {
        const float own = sanitise(score_of_key(static_cast<uint32_t>(best >> 32)), true);
        if (j == 0) largest = over_chosen ? own : sums.largest;
        weight = exp(own - largest);
        if (!over_chosen) weight *= scale;
      }
      if (active && group.lane() == 0) count_expert(expert);
      choices.add(group, j, expert, weight);
    }
    if (active) choices.store(gate, group, at_row, at_gate);
  }

  if (wants_probabilities) {
    sync_warp();  // the look-ups of chosen experts are done
    const bool normalised = !sparse && sigmoids && options.renormalise != 0;
    float sum = 0;
    for (int e = group.lane(); e < experts; e += group.width()) {
      const float x = row[e];
      const float p = sigmoids ? gate_sigmoid(x, sparse) : exp(sanitise(x, sparse) - sums.largest) * scale;
      row[e] = p;
      sum += p;
    }
    if (normalised) {
      sum = group.sum(sum);
      for (int e = group.lane(); e < experts; e += group.width()) {
        const float p = row[e];
        row[e] = sum == 0 ? 1.0f / static_cast<float>(options.experts) : p / sum;
      }
    }
  }
  return log_sum;
}

}  // namespace cudamoe::kernels
