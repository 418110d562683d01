// The fused gate against the double-precision reference, its special values, its noise and its rules.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <set>

#include "gating/gate_run.h"
#include "support/compare.h"
#include "support/random.h"
#include "support/rows.h"

namespace cudamoe::test {
namespace {

using reference::GateOptions;
using reference::GateRow;

std::string name(const GateCase& c) {
  const GateOptions& o = c.options;
  return "rows " + std::to_string(c.rows) + " k_in " + std::to_string(c.k_in) + " gates " + std::to_string(o.gates) + " experts " +
         std::to_string(o.experts) + " top_k " + std::to_string(o.top_k) + " mode " + std::to_string(o.score_mode) +
         (o.renormalise ? " renormalised" : "");
}

// Compares all outputs with the reference of the logits that the gate answered.
void check_scores(const GateCase& c, const GateOutput& have) {
  const GateOptions& o = c.options;
  const std::vector<double> logits = wide(have.logits), bias = wide(c.selection_bias);
  std::vector<double> probabilities, weights, sums(o.gates * o.experts, 0.0), z(o.gates, 0.0);
  std::vector<int64_t> counts(o.gates * o.experts, 0);
  for (int64_t b = 0; b < c.rows; ++b) {
    for (int64_t g = 0; g < o.gates; ++g) {
      const double* row_logits = &logits[b * o.columns() + g * o.columns() / o.gates];
      const int64_t at = (b * o.gates + g) * o.top_k;
      const std::vector<int32_t> chosen(have.chosen.begin() + at, have.chosen.begin() + at + o.top_k);
      const std::vector<double> scores = reference::gate_scores(o, row_logits, bias, g, c.row_offset + b);
      // The scores are rounded: the choice must be in descending order, and better than what was left, up to that.
      std::set<int32_t> distinct(chosen.begin(), chosen.end());
      ASSERT_EQ(static_cast<int64_t>(distinct.size()), o.top_k);
      for (int64_t j = 0; j < o.top_k; ++j) {
        ASSERT_TRUE(chosen[j] >= 0 && chosen[j] < o.experts);
        ++counts[g * o.experts + chosen[j]];
        const double slack = 1e-5 * (1 + std::fabs(scores[chosen[j]]));
        if (j > 0) {
          ASSERT_GE(scores[chosen[j - 1]] + slack, scores[chosen[j]]);
        }
        for (int64_t e = 0; e < o.experts; ++e) {
          if (distinct.count(static_cast<int32_t>(e)) == 0) {
            ASSERT_GE(scores[chosen[j]] + slack, scores[e]) << "row " << b << " gate " << g << " expert " << e;
          }
        }
      }
      const GateRow want = reference::gate_row(o, row_logits, bias, g, c.row_offset + b, &chosen);
      probabilities.insert(probabilities.end(), want.probabilities.begin(), want.probabilities.end());
      weights.insert(weights.end(), want.weights.begin(), want.weights.end());
      for (int64_t e = 0; e < o.experts; ++e) sums[g * o.experts + e] += want.probabilities[e];
      z[g] += want.log_sum * want.log_sum;
    }
  }
  const double bound = o.score_mode == CUDAMOE_SCORE_NOISY ? 5e-6 : 2e-6;
  if (c.wants_probabilities) {
    EXPECT_LE(relative_error(have.probabilities, probabilities), bound);
  }
  EXPECT_LE(relative_error(have.weights, weights), bound);
  if (!c.wants_statistics) return;
  EXPECT_LE(relative_error(have.probability_sums, sums), bound);
  EXPECT_LE(relative_error(have.z_sums, z), bound);
  if (o.top_k > 0) {
    EXPECT_EQ(have.counts, counts);
  }
}

GateCase random_case(Random& random, int64_t rows, int64_t k_in, int64_t gates, int64_t experts, int64_t top_k, int32_t mode,
                     bool renormalise) {
  GateCase c;
  c.rows = rows;
  c.k_in = k_in;
  c.options = {gates, experts, top_k, mode, renormalise, random.next(), random.coin() ? random.integer(0, 1000) : (int64_t{5} << 33) + 7};
  c.row_offset = random.coin() ? 0 : (int64_t{3} << 32) - 5;
  c.step_on_device = random.coin();
  c.gap = random.integer(0, 5);
  const double size = 2 / std::sqrt(static_cast<double>(k_in));
  c.x = random.reals(rows * k_in);
  c.w = random.reals(c.options.columns() * k_in, -size, size);
  if (random.coin()) c.bias = random.reals(c.options.columns());
  if (mode == CUDAMOE_SCORE_SIGMOID && top_k > 0 && random.coin()) c.selection_bias = random.reals(gates * experts);
  return c;
}

void check(TestDevice& device, const GateCase& c) {
  SCOPED_TRACE(name(c));
  const GateOutput have = run_gate(device, c);
  std::vector<double> logits(c.rows * c.options.columns());
  for (int64_t b = 0; b < c.rows; ++b) {
    for (int64_t j = 0; j < c.options.columns(); ++j) {
      double sum = c.bias.empty() ? 0.0 : static_cast<double>(c.bias[j]);
      for (int64_t i = 0; i < c.k_in; ++i) sum += static_cast<double>(c.x[b * c.k_in + i]) * static_cast<double>(c.w[j * c.k_in + i]);
      logits[b * c.options.columns() + j] = sum;
    }
  }
  ASSERT_LE(relative_error(have.logits, logits), f32_bound(c.k_in));
  check_scores(c, have);
}

TEST(GateForward, DenseAgreesWithTheReference) {
  TestDevice device;
  const bool slow = test_device_is_slow();
  Random random(41);
  for (int64_t rows : slow ? std::vector<int64_t>{0, 1, 16, 17} : std::vector<int64_t>{0, 1, 13, 16, 17, 64, 65, 300}) {
    for (int32_t mode : {CUDAMOE_SCORE_SOFTMAX_TOPK, CUDAMOE_SCORE_SIGMOID}) {
      for (int64_t experts : {1, 3, 8, 13, 40}) {
        const bool renormalise = mode == CUDAMOE_SCORE_SIGMOID && random.coin();
        check(device, random_case(random, rows, random.integer(1, 60), random.integer(1, 4), experts, 0, mode, renormalise));
      }
    }
  }
  check(device, random_case(random, slow ? 33 : 150, slow ? 100 : 700, 3, 8, 0, CUDAMOE_SCORE_SOFTMAX_TOPK, false));
  check(device, random_case(random, slow ? 5 : 20, slow ? 67 : 515, 2, 257, 0, CUDAMOE_SCORE_SOFTMAX_TOPK, false));
  check(device, random_case(random, slow ? 300 : 3000, 16, 3, 8, 0, CUDAMOE_SCORE_SOFTMAX_TOPK, false));
  // Large batches may be tiled otherwise.
  for (int64_t rows : {16405, 32771}) {
    for (int64_t experts : {2, 35, 60, 70})
      check(device, random_case(random, rows, slow ? 1 : 16, 1, experts, 0, CUDAMOE_SCORE_SOFTMAX_TOPK, false));
  }
}

TEST(GateForward, SparseAgreesWithTheReference) {
  TestDevice device;
  const bool slow = test_device_is_slow();
  Random random(42);
  for (int32_t mode : {CUDAMOE_SCORE_SOFTMAX_TOPK, CUDAMOE_SCORE_TOPK_SOFTMAX, CUDAMOE_SCORE_SIGMOID, CUDAMOE_SCORE_NOISY}) {
    for (int64_t rows : slow ? std::vector<int64_t>{0, 1, 17} : std::vector<int64_t>{0, 1, 15, 33, 200}) {
      for (int64_t experts : {1, 2, 8, 11, 64, 257}) {
        const int64_t top_k = random.coin() ? random.integer(1, std::min<int64_t>(experts, 8)) : std::min<int64_t>(experts, 64);
        const bool renormalise = (mode == CUDAMOE_SCORE_SIGMOID || mode == CUDAMOE_SCORE_SOFTMAX_TOPK) && random.coin();
        check(device, random_case(random, rows, random.integer(1, 40), random.integer(1, 3), experts, top_k, mode, renormalise));
      }
    }
  }
  check(device, random_case(random, slow ? 20 : 40, slow ? 100 : 600, 2, 16, 2, CUDAMOE_SCORE_NOISY, false));
}

TEST(GateForward, OptionalOutputsChangeNothing) {
  TestDevice device;
  Random random(43);
  for (int32_t mode : {CUDAMOE_SCORE_SOFTMAX_TOPK, CUDAMOE_SCORE_TOPK_SOFTMAX, CUDAMOE_SCORE_SIGMOID, CUDAMOE_SCORE_NOISY}) {
    for (int64_t top_k : {0, 2}) {
      if (top_k == 0 && (mode == CUDAMOE_SCORE_TOPK_SOFTMAX || mode == CUDAMOE_SCORE_NOISY)) continue;
      GateCase c = random_case(random, 100, 20, 2, 6, top_k, mode, false);
      const GateOutput all = run_gate(device, c);
      c.wants_logits = c.wants_statistics = false;
      c.wants_probabilities = top_k == 0;
      const GateOutput least = run_gate(device, c);
      EXPECT_EQ(all.chosen, least.chosen);
      EXPECT_EQ(all.weights, least.weights);
      if (top_k == 0) {
        EXPECT_EQ(all.probabilities, least.probabilities);
      }
    }
  }
}

TEST(GateForward, EvaluationHasNoNoise) {
  TestDevice device;
  Random random(44);
  GateCase c = random_case(random, 50, 12, 2, 7, 3, CUDAMOE_SCORE_NOISY, false);
  c.options.step = -1;
  check(device, c);
}

TEST(GateForward, NoiseDependsOnSampleAndStepAlone) {
  TestDevice device;
  Random random(45);
  GateCase whole = random_case(random, 40, 6, 2, 9, 2, CUDAMOE_SCORE_NOISY, false);
  whole.bias.clear();
  const GateOutput all = run_gate(device, whole);
  GateCase part = whole;  // rows 23 .. 39
  part.rows = 17;
  part.row_offset = whole.row_offset + 23;
  part.x.assign(whole.x.begin() + 23 * whole.k_in, whole.x.end());
  const GateOutput some = run_gate(device, part);
  EXPECT_TRUE(std::equal(some.chosen.begin(), some.chosen.end(), all.chosen.begin() + 23 * 4));
  EXPECT_TRUE(std::equal(some.weights.begin(), some.weights.end(), all.weights.begin() + 23 * 4));
  whole.options.step += 1;
  EXPECT_NE(run_gate(device, whole).weights, all.weights);
  whole.options.step -= 1;
  whole.options.seed += 1;
  EXPECT_NE(run_gate(device, whole).weights, all.weights);
}

// Known answers of Philox4x32-10 from the Random123 distribution.
TEST(GateForward, ReferencePhiloxKnowsItsAnswers) {
  uint32_t zero[4] = {0, 0, 0, 0};
  reference::philox(zero, 0);
  EXPECT_EQ(zero[0], 0x6627e8d5u);
  EXPECT_EQ(zero[1], 0xe169c58du);
  EXPECT_EQ(zero[2], 0xbc57ac4cu);
  EXPECT_EQ(zero[3], 0x9b00dbd8u);
  uint32_t ones[4] = {0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu};
  reference::philox(ones, 0xffffffffffffffffull);
  EXPECT_EQ(ones[0], 0x408f276du);
  EXPECT_EQ(ones[3], 0x6d5451fdu);
}

TEST(GateForward, NoiseIsStandardNormal) {
  double sum = 0, squares = 0, fourth = 0;
  const int64_t count = 40000;
  for (int64_t i = 0; i < count; ++i) {
    const double n = reference::gate_noise(99, 3, i / 10, 1, i % 10, 10);
    sum += n;
    squares += n * n;
    fourth += n * n * n * n;
  }
  const double all = static_cast<double>(count);
  EXPECT_NEAR(sum / all, 0, 4 / std::sqrt(all));
  EXPECT_NEAR(squares / all, 1, 4 * std::sqrt(2 / all));
  EXPECT_NEAR(fourth / all, 3, 4 * std::sqrt(96 / all));
}

// One row whose logits are given: x = 0, so that a logit is its bias.
GateCase given_logits(const std::vector<float>& logits, int64_t gates, int64_t experts, int64_t top_k, int32_t mode, bool renormalise) {
  GateCase c;
  c.rows = 1;
  c.k_in = 1;
  c.options = {gates, experts, top_k, mode, renormalise, 7, -1};
  c.x = {0};
  c.w.assign(logits.size(), 0.0f);
  c.bias = logits;
  return c;
}

float any_bits(Random& random) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  switch (random.integer(0, 9)) {
    case 0:
      return std::numeric_limits<float>::quiet_NaN();
    case 1:
      return -std::numeric_limits<float>::quiet_NaN();
    case 2:
      return kInfinity;
    case 3:
      return -kInfinity;
    case 4:
      return std::bit_cast<float>(static_cast<uint32_t>(random.integer(1, 0x7FFFFF)));  // subnormal
    case 5:
      return random.coin() ? 0.0f : -0.0f;
    case 6:
      return std::bit_cast<float>(static_cast<uint32_t>(random.next()));
    case 7:
      return random.coin() ? std::numeric_limits<float>::max() : std::numeric_limits<float>::lowest();
    default:
      return static_cast<float>(random.integer(-2, 2));
  }
}

TEST(GateForward, AnyBitsOfTheLogitsGiveDistinctExpertsInOrder) {
  TestDevice device;
  Random random(46);
  for (int round = 0; round < (test_device_is_slow() ? 60 : 300); ++round) {
    const int64_t gates = 8, experts = random.integer(1, 20), top_k = random.integer(1, experts);
    const auto mode = static_cast<int32_t>(random.integer(0, 3));
    const bool renormalise = (mode == CUDAMOE_SCORE_SIGMOID || mode == CUDAMOE_SCORE_SOFTMAX_TOPK) && random.coin();
    std::vector<float> logits;
    for (int64_t i = 0; i < gates * experts * (mode == CUDAMOE_SCORE_NOISY ? 2 : 1); ++i) logits.push_back(any_bits(random));
    if (random.integer(0, 5) == 0) std::fill(logits.begin(), logits.begin() + experts, logits[0]);
    GateCase c = given_logits(logits, gates, experts, top_k, mode, renormalise);
    if (mode == CUDAMOE_SCORE_NOISY && random.coin()) c.options.step = 3;
    if (mode == CUDAMOE_SCORE_SIGMOID && random.coin()) {
      for (int64_t i = 0; i < gates * experts; ++i) c.selection_bias.push_back(any_bits(random));
    }
    SCOPED_TRACE(name(c));
    const GateOutput have = run_gate(device, c);
    for (int64_t g = 0; g < gates; ++g) {
      const std::vector<int32_t> chosen(have.chosen.begin() + g * top_k, have.chosen.begin() + (g + 1) * top_k);
      ASSERT_EQ(std::set<int32_t>(chosen.begin(), chosen.end()).size(), static_cast<size_t>(top_k));
      const int64_t own = static_cast<int64_t>(logits.size()) / gates;
      const std::vector<double> row = wide({logits.begin() + g * own, logits.begin() + (g + 1) * own});
      if (mode == CUDAMOE_SCORE_SOFTMAX_TOPK || mode == CUDAMOE_SCORE_TOPK_SOFTMAX) {
        ASSERT_EQ(chosen, reference::choose({row.begin(), row.begin() + experts}, top_k));
      }
      const GateRow want = reference::gate_row(c.options, row.data(), wide(c.selection_bias), g, c.row_offset, &chosen);
      double sum = 0;
      for (int64_t j = 0; j < top_k; ++j) {
        const double weight = static_cast<double>(have.weights[g * top_k + j]);
        ASSERT_TRUE(weight >= 0 && weight <= 1.000001) << weight;
        sum += weight;
        if (mode != CUDAMOE_SCORE_NOISY || c.options.step < 0) {
          ASSERT_NEAR(weight, want.weights[j], 1e-6);
        }
      }
      if (renormalise || c.options.softmax_over_chosen()) {
        ASSERT_NEAR(sum, 1, 1e-5);
      }
    }
  }
}

TEST(GateForward, NanInOneLogitLeavesTheOthersAsIfItWereAbsent) {
  TestDevice device;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const GateOutput with = run_gate(device, given_logits({1, nan, 3, 2}, 1, 4, 4, CUDAMOE_SCORE_SOFTMAX_TOPK, false));
  const GateOutput without = run_gate(device, given_logits({1, 3, 2}, 1, 3, 3, CUDAMOE_SCORE_SOFTMAX_TOPK, false));
  EXPECT_EQ(with.chosen, (std::vector<int32_t>{2, 3, 0, 1}));
  EXPECT_EQ(with.weights, (std::vector<float>{without.weights[0], without.weights[1], without.weights[2], 0}));
  const GateOutput dense = run_gate(device, given_logits({1, nan, 3, 2}, 1, 4, 0, CUDAMOE_SCORE_SOFTMAX_TOPK, false));
  for (float p : dense.probabilities) EXPECT_TRUE(std::isnan(p));
  const GateOutput all = run_gate(device, given_logits({nan, nan, nan, nan}, 1, 4, 2, CUDAMOE_SCORE_TOPK_SOFTMAX, false));
  EXPECT_EQ(all.chosen, (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(all.weights, (std::vector<float>{0.5f, 0.5f}));
}

TEST(GateForward, InfiniteLogitsCountAsTheLargestFiniteOnes) {
  TestDevice device;
  constexpr float kInfinity = std::numeric_limits<float>::infinity(), kMost = std::numeric_limits<float>::max();
  const std::vector<float> infinite{kInfinity, 1, -kInfinity, kInfinity}, finite{kMost, 1, -kMost, kMost};
  for (int64_t top_k : {0, 3}) {
    const GateOutput have = run_gate(device, given_logits(infinite, 1, 4, top_k, CUDAMOE_SCORE_SOFTMAX_TOPK, false));
    const GateOutput want = run_gate(device, given_logits(finite, 1, 4, top_k, CUDAMOE_SCORE_SOFTMAX_TOPK, false));
    EXPECT_EQ(have.probabilities, (std::vector<float>{0.5f, 0, 0, 0.5f}));
    EXPECT_EQ(have.probabilities, want.probabilities);
    EXPECT_EQ(have.weights, want.weights);
    EXPECT_EQ(have.chosen, want.chosen);
  }
  const GateOutput none = run_gate(device, given_logits({-kInfinity, -kInfinity}, 1, 2, 0, CUDAMOE_SCORE_SOFTMAX_TOPK, false));
  EXPECT_EQ(none.probabilities, (std::vector<float>{0.5f, 0.5f}));
  const GateOutput sigmoid = run_gate(device, given_logits({kInfinity, -kInfinity}, 1, 2, 0, CUDAMOE_SCORE_SIGMOID, false));
  EXPECT_EQ(sigmoid.probabilities, (std::vector<float>{1, 0}));
}

TEST(GateForward, TiesGoToTheLowerIndex) {
  TestDevice device;
  const GateOutput have = run_gate(device, given_logits({1, 5, 5, 1, 5, 0}, 1, 6, 4, CUDAMOE_SCORE_TOPK_SOFTMAX, false));
  EXPECT_EQ(have.chosen, (std::vector<int32_t>{1, 2, 4, 0}));
}

TEST(GateForward, SameBitsForAnyOrderAndAnyBatch) {
  Random random(47);
  const bool slow = test_device_is_slow();
  const int64_t last = slow ? 19 : 77;
  for (int32_t mode : {CUDAMOE_SCORE_SOFTMAX_TOPK, CUDAMOE_SCORE_SIGMOID, CUDAMOE_SCORE_NOISY}) {
    GateCase c = random_case(random, slow ? 83 : 3001, 40, 3, 8, 2, mode, false);
    GateOutput first;
    for (const std::string& spec : repeated_device_specs()) {
      TestDevice device(spec);
      for (int repeat = 0; repeat < repetitions_of_a_spec(); ++repeat) {
        const GateOutput have = run_gate(device, c);
        if (first.logits.empty()) first = have;
        ASSERT_EQ(have.logits, first.logits);
        ASSERT_EQ(have.probabilities, first.probabilities);
        ASSERT_EQ(have.chosen, first.chosen);
        ASSERT_EQ(have.weights, first.weights);
        ASSERT_EQ(have.counts, first.counts);
        ASSERT_EQ(have.probability_sums, first.probability_sums);
        ASSERT_EQ(have.z_sums, first.z_sums);
      }
    }
    // The last rows alone, at another place in the tiles: a row does not depend on its neighbours.
    TestDevice device;
    GateCase tail = c;
    tail.rows = last;
    tail.row_offset = c.row_offset + c.rows - last;
    tail.x.assign(c.x.end() - last * c.k_in, c.x.end());
    const GateOutput have = run_gate(device, tail);
    EXPECT_TRUE(std::equal(have.logits.rbegin(), have.logits.rend(), first.logits.rbegin()));
    EXPECT_TRUE(std::equal(have.probabilities.rbegin(), have.probabilities.rend(), first.probabilities.rbegin()));
    EXPECT_TRUE(std::equal(have.weights.rbegin(), have.weights.rend(), first.weights.rbegin()));
  }
}

TEST(GateForward, RefusesBadArguments) {
  TestDevice device;
  const Buffer<float> data(device, std::vector<float>(4096, 0.0f));
  const Workspace workspace(device, 1 << 20);
  float* p = data.data();
  const auto refused = [&](auto&& change, const char* words) {
    cudamoe_gate_forward_args a{};
    a.struct_size = sizeof a;
    a.gates = 2;
    a.experts = 4;
    a.top_k = 2;
    a.rows = 3;
    a.k_in = 5;
    a.x = p;
    a.x_row_stride = 5;
    a.packed = p + 64;
    a.logits = p + 1024;
    a.probabilities = p + 1280;
    a.weights = p + 1536;
    a.chosen = reinterpret_cast<int32_t*>(p + 1600);
    a.expert_counts = reinterpret_cast<int64_t*>(p + 1664);
    a.probability_sums = reinterpret_cast<double*>(p + 1728);
    a.z_sums = reinterpret_cast<double*>(p + 1792);
    a.workspace = workspace.data();
    a.workspace_bytes = workspace.size();
    change(a);
    CUDAMOE_EXPECT_REFUSED(cudamoe_gate_forward(device.stream(), &a), words);
  };
  refused([](auto& a) { a.struct_size = 1; }, "struct_size");
  refused([](auto& a) { a.gates = 0; }, "gates is 0");
  refused([](auto& a) { a.experts = 0; }, "experts is 0");
  refused([](auto& a) { a.experts = 4097; }, "experts is 4097");
  refused([](auto& a) { a.top_k = 5; }, "top_k is 5");
  refused([](auto& a) { a.top_k = -1; }, "top_k is -1");
  refused([](auto& a) { a.experts = 100, a.top_k = 65; }, "top_k is 65");
  refused([](auto& a) { a.score_mode = 4; }, "score_mode is 4");
  refused([](auto& a) { a.top_k = 0, a.score_mode = CUDAMOE_SCORE_NOISY; }, "a dense gate takes");
  refused([](auto& a) { a.renormalise = 2; }, "renormalise is 2");
  refused([](auto& a) { a.renormalise = 1, a.score_mode = CUDAMOE_SCORE_NOISY; }, "renormalise is 1");
  refused([](auto& a) { a.rows = -1; }, "rows is -1");
  refused([](auto& a) { a.k_in = 0; }, "k_in is 0");
  refused([](auto& a) { a.x = nullptr; }, "x is null");
  refused([](auto& a) { a.x_row_stride = 4; }, "x_row_stride is 4");
  refused([](auto& a) { a.packed = nullptr; }, "packed is null");
  refused([](auto& a) { a.packed = static_cast<const float*>(a.packed) + 1; }, "packed");
  refused([](auto& a) { a.selection_bias = static_cast<const float*>(a.x); }, "selection_bias");
  refused([](auto& a) { a.chosen = nullptr; }, "chosen is null");
  refused([](auto& a) { a.weights = nullptr; }, "weights is null");
  refused([](auto& a) { a.top_k = 0; }, "must be null when top_k is 0");
  refused([](auto& a) { a.top_k = 0, a.chosen = nullptr, a.weights = nullptr, a.expert_counts = nullptr, a.probabilities = nullptr; },
          "probabilities is null");
  refused([](auto& a) { a.logits = a.probabilities; }, "overlaps");
  refused([](auto& a) { a.logits = const_cast<float*>(static_cast<const float*>(a.x)); }, "overlaps");
  refused([](auto& a) { a.z_sums = a.probability_sums; }, "overlaps");
  refused([](auto& a) { a.score_mode = CUDAMOE_SCORE_NOISY, a.row_offset = -1; }, "row_offset is -1");
  refused([](auto& a) { a.score_mode = CUDAMOE_SCORE_NOISY, a.step = int64_t{1} << 50; }, "step");
  refused(
      [](auto& a) { a.score_mode = CUDAMOE_SCORE_NOISY, a.numbers = reinterpret_cast<const cudamoe_step_numbers*>(a.probabilities + 1); },
      "numbers");
  refused([](auto& a) { a.score_mode = CUDAMOE_SCORE_NOISY, a.numbers = reinterpret_cast<const cudamoe_step_numbers*>(a.probabilities); },
          "overlaps");
  refused([](auto& a) { a.workspace_bytes = 10; }, "workspace_bytes is 10");
  refused([](auto& a) { a.workspace = nullptr; }, "workspace is null");
}

}  // namespace
}  // namespace cudamoe::test
