// One gate and one row at a time, in plain double arithmetic from f32 logits, with the special values that the gate defines:
// infinities count as the largest finite f32; NaN ranks last, and in a sparse gate counts as minus infinity (sigmoid: as 0).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "cudamoe.h"

namespace cudamoe::test::reference {

struct GateOptions {
  int64_t gates = 1, experts = 1, top_k = 0;
  int32_t score_mode = CUDAMOE_SCORE_SOFTMAX_TOPK;
  bool renormalise = false;
  uint64_t seed = 0;
  int64_t step = -1;
  double balance = 0, z = 0;

  int64_t columns() const { return gates * experts * (score_mode == CUDAMOE_SCORE_NOISY ? 2 : 1); }
  bool softmax_over_chosen() const {
    return score_mode == CUDAMOE_SCORE_TOPK_SOFTMAX || score_mode == CUDAMOE_SCORE_NOISY ||
           (score_mode == CUDAMOE_SCORE_SOFTMAX_TOPK && renormalise);
  }
};

// Philox4x32-10, written from the paper.
inline void philox(uint32_t (&c)[4], uint64_t seed) {
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    const uint64_t a = uint64_t{0xD2511F53u} * c[0], b = uint64_t{0xCD9E8D57u} * c[2];
    const uint32_t next[4] = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(b),
                              static_cast<uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(a)};
    std::copy(next, next + 4, c);
  }
}

inline double gate_noise(uint64_t seed, int64_t step, int64_t sample, int64_t gate, int64_t expert, int64_t experts) {
  const auto s = static_cast<uint64_t>(step), b = static_cast<uint64_t>(sample);
  uint32_t c[4] = {static_cast<uint32_t>(b), static_cast<uint32_t>((b >> 32 & 0xFFFF) | (s >> 32 & 0xFFFF) << 16), static_cast<uint32_t>(s),
                   static_cast<uint32_t>(gate * ((experts + 3) / 4) + expert / 4)};
  philox(c, seed);
  const uint32_t w0 = c[expert % 4 / 2 * 2], w1 = c[expert % 4 / 2 * 2 + 1];
  const double u = (static_cast<double>(w0 >> 9) + 0.5) / 8388608.0,
               angle = 2 * std::acos(-1.0) * static_cast<double>(w1 >> 8) / 16777216.0;
  const double r = std::sqrt(-2 * std::log(u));
  return expert % 2 == 0 ? r * std::cos(angle) : r * std::sin(angle);
}

inline double softplus(double x) { return std::fmax(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }
inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

inline double sanitised(double x, bool sparse) {
  const double most = static_cast<double>(std::numeric_limits<float>::max());
  if (std::isnan(x)) return sparse ? -most : x;
  return std::clamp(x, -most, most);
}

inline std::vector<double> softmax(const std::vector<double>& logits, bool sparse, double* log_sum = nullptr) {
  double largest = -std::numeric_limits<double>::infinity(), sum = 0;
  for (double x : logits) largest = std::fmax(largest, sanitised(x, true));
  std::vector<double> p;
  for (double x : logits) p.push_back(std::exp(sanitised(x, sparse) - largest));
  for (double x : p) sum += x;
  for (double& x : p) x /= sum;
  if (log_sum != nullptr) *log_sum = largest + std::log(sum);
  return p;
}

struct GateRow {
  std::vector<double> probabilities, weights;
  std::vector<int32_t> chosen;
  double log_sum = 0;  // of the clean logits
};

// Scores that the experts are chosen by: logits, with noise; sigmoid plus bias. `sample` is the row's index for the noise.
inline std::vector<double> gate_scores(const GateOptions& o, const double* logits, const std::vector<double>& bias, int64_t gate,
                                       int64_t sample) {
  std::vector<double> scores;
  for (int64_t e = 0; e < o.experts; ++e) {
    double score = logits[e];
    if (o.score_mode == CUDAMOE_SCORE_NOISY && o.step >= 0) {
      score += gate_noise(o.seed, o.step, sample, gate, e, o.experts) * softplus(logits[o.experts + e]);
    }
    if (o.score_mode == CUDAMOE_SCORE_SIGMOID && o.top_k > 0) score = sigmoid(score) + (bias.empty() ? 0.0 : bias[gate * o.experts + e]);
    scores.push_back(score);
  }
  return scores;
}

// The order of the scores: descending, NaN last, ties by index.
inline std::vector<int32_t> choose(const std::vector<double>& scores, int64_t k) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return std::isnan(scores[b]) ? !std::isnan(scores[a]) : scores[a] > scores[b]; });
  order.resize(k);
  return order;
}

// `logits` are this gate's: experts clean ones, then as many noise logits with SCORE_NOISY. The choice may be given.
inline GateRow gate_row(const GateOptions& o, const double* logits, const std::vector<double>& bias, int64_t gate, int64_t sample,
                        const std::vector<int32_t>* given = nullptr) {
  const bool sparse = o.top_k > 0;
  GateRow row;
  const std::vector<double> clean(logits, logits + o.experts);
  softmax(clean, sparse, &row.log_sum);
  const std::vector<double> scores = gate_scores(o, logits, bias, gate, sample);
  if (o.score_mode == CUDAMOE_SCORE_SIGMOID) {
    for (double x : clean) row.probabilities.push_back(std::isnan(x) && sparse ? 0.0 : sigmoid(x));
  } else {
    row.probabilities = softmax(scores, sparse);
  }
  const auto divide = [](std::vector<double>& values) {
    const double sum = std::accumulate(values.begin(), values.end(), 0.0);
    for (double& x : values) x = sum == 0 ? 1.0 / static_cast<double>(values.size()) : x / sum;
  };
  if (!sparse) {
    if (o.renormalise) divide(row.probabilities);
    return row;
  }
  row.chosen = given != nullptr ? *given : choose(scores, o.top_k);
  if (o.softmax_over_chosen()) {
    std::vector<double> picked;
    for (int32_t e : row.chosen) picked.push_back(scores[e]);
    row.weights = softmax(picked, true);
  } else {
    for (int32_t e : row.chosen) row.weights.push_back(row.probabilities[e]);
    if (o.renormalise) divide(row.weights);
  }
  return row;
}

}  // namespace cudamoe::test::reference
