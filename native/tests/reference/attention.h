// Attention, its gradients and rotary positions in plain double arithmetic.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace cudamoe::test::reference {

struct AttentionShape {
  int64_t sequences = 1, queries = 1, keys = 1, heads = 1, key_heads = 1, width = 1;
  bool causal = false, shared = false;
  double scale = 1;

  int64_t q_elements() const { return sequences * queries * heads * width; }
  int64_t k_elements() const { return (shared ? 1 : sequences) * keys * key_heads * width; }
  int64_t q_at(int64_t s, int64_t i, int64_t h) const { return ((s * queries + i) * heads + h) * width; }
  int64_t k_at(int64_t s, int64_t j, int64_t h) const {
    return (((shared ? 0 : s) * keys + j) * key_heads + h / (heads / key_heads)) * width;
  }
  bool sees(int64_t i, int64_t j, int64_t count) const { return j < count && (!causal || j <= i + keys - queries); }
};

// Contiguous arrays; counts [sequences] and weights [sequences, keys] may be empty.
struct AttentionData {
  std::vector<double> q, k, v, weights;
  std::vector<int32_t> counts;

  int64_t count(const AttentionShape& shape, int64_t s) const { return counts.empty() ? shape.keys : counts[s]; }
  double weight(const AttentionShape& shape, int64_t s, int64_t j) const { return weights.empty() ? 1.0 : weights[s * shape.keys + j]; }
};

struct AttentionResult {
  std::vector<double> y, log_sum;
};

inline double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// Calls use(s, i, h, seen keys, their probabilities, ln of the sum) for every row.
template <class Use>
void for_attention_rows(const AttentionShape& shape, const AttentionData& data, Use&& use) {
  for (int64_t s = 0; s < shape.sequences; ++s) {
    for (int64_t i = 0; i < shape.queries; ++i) {
      for (int64_t h = 0; h < shape.heads; ++h) {
        std::vector<int64_t> seen;
        std::vector<double> p;
        double most = -std::numeric_limits<double>::infinity(), sum = 0;
        for (int64_t j = 0; j < shape.keys; ++j) {
          if (!shape.sees(i, j, data.count(shape, s))) continue;
          seen.push_back(j);
          p.push_back(shape.scale * dot(&data.q[shape.q_at(s, i, h)], &data.k[shape.k_at(s, j, h)], shape.width));
          most = std::max(most, p.back());
        }
        for (double& x : p) sum += x = std::exp(x - most);
        for (double& x : p) x /= sum;
        use(s, i, h, seen, p, most + std::log(sum));
      }
    }
  }
}

inline AttentionResult attention(const AttentionShape& shape, const AttentionData& data) {
  AttentionResult result;
  result.y.assign(shape.q_elements(), 0.0);
  for_attention_rows(shape, data, [&](int64_t s, int64_t i, int64_t h, const auto& seen, const auto& p, double log_sum) {
    for (size_t n = 0; n < seen.size(); ++n) {
      for (int64_t c = 0; c < shape.width; ++c)
        result.y[shape.q_at(s, i, h) + c] += p[n] * data.weight(shape, s, seen[n]) * data.v[shape.k_at(s, seen[n], h) + c];
    }
    result.log_sum.push_back(log_sum);
  });
  return result;
}

struct AttentionGradient {
  std::vector<double> dq, dk, dv;
};

inline AttentionGradient attention_gradient(const AttentionShape& shape, const AttentionData& data, const std::vector<double>& dy) {
  AttentionGradient result{std::vector<double>(shape.q_elements()), std::vector<double>(shape.k_elements()),
                           std::vector<double>(shape.k_elements())};
  for_attention_rows(shape, data, [&](int64_t s, int64_t i, int64_t h, const auto& seen, const auto& p, double) {
    const double* upper = &dy[shape.q_at(s, i, h)];
    double mean = 0;
    std::vector<double> dp;
    for (size_t n = 0; n < seen.size(); ++n) {
      dp.push_back(data.weight(shape, s, seen[n]) * dot(upper, &data.v[shape.k_at(s, seen[n], h)], shape.width));
      mean += p[n] * dp[n];
    }
    for (size_t n = 0; n < seen.size(); ++n) {
      const int64_t q = shape.q_at(s, i, h), k = shape.k_at(s, seen[n], h);
      const double ds = shape.scale * p[n] * (dp[n] - mean), pw = p[n] * data.weight(shape, s, seen[n]);
      for (int64_t c = 0; c < shape.width; ++c) {
        result.dv[k + c] += pw * upper[c];
        result.dq[q + c] += ds * data.k[k + c];
        result.dk[k + c] += ds * data.q[q + c];
      }
    }
  });
  return result;
}

}  // namespace cudamoe::test::reference
