// The gate's gradient against central differences of the double-precision reference, for every mode, and its rules.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "gating/gate_run.h"
#include "support/compare.h"
#include "support/random.h"

namespace cudamoe::test {
namespace {

using reference::GateOptions;
using reference::GateRow;

struct Case {
  GateCase forward;
  GateOutput stored;
  std::vector<float> upper;  // gradient on the weights (sparse) or probabilities (dense)
  bool passes_probabilities = true;
  int64_t gap = 0;
  cudamoe_status report = CUDAMOE_OK;  // of the stream, after the run
};

std::vector<float> run(TestDevice& device, Case& c) {
  const GateOptions& o = c.forward.options;
  const int64_t rows = c.forward.rows, stride = o.columns() + c.gap;
  const bool sparse = o.top_k > 0;
  const Buffer<float> logits(device, c.stored.logits), probabilities(device, c.stored.probabilities), weights(device, c.stored.weights);
  const Buffer<float> upper(device, c.upper);
  const Buffer<int32_t> chosen(device, c.stored.chosen);
  const Buffer<int64_t> counts(device, c.stored.counts);
  const Buffer<float> dlogits(device, rows > 0 ? (rows - 1) * stride + o.columns() : 0, c.gap % 3);
  cudamoe_gate_backward_args a{};
  a.struct_size = sizeof a;
  a.gates = static_cast<int32_t>(o.gates);
  a.experts = static_cast<int32_t>(o.experts);
  a.top_k = static_cast<int32_t>(o.top_k);
  a.score_mode = o.score_mode;
  a.renormalise = o.renormalise;
  a.rows = rows;
  a.logits = logits.data();
  a.probabilities = c.passes_probabilities ? probabilities.data() : nullptr;
  a.chosen = sparse ? chosen.data() : nullptr;
  a.weights = sparse ? weights.data() : nullptr;
  a.dprobabilities = sparse ? nullptr : upper.data();
  a.dweights = sparse ? upper.data() : nullptr;
  a.expert_counts = sparse && o.balance != 0 ? counts.data() : nullptr;
  a.balance_coefficient = static_cast<float>(o.balance);
  a.z_coefficient = static_cast<float>(o.z);
  a.dlogits = dlogits.data();
  a.dlogits_row_stride = stride;
  const Buffer<cudamoe_step_numbers> numbers(device, std::vector<cudamoe_step_numbers>{{o.step, 0, 0, 0, 0}});
  set_step(c.forward, numbers, a);
  CUDAMOE_EXPECT_OK(cudamoe_gate_backward(device.stream(), &a));
  c.report = cudamoe_stream_synchronize(device.stream());
  EXPECT_TRUE(dlogits.guards_intact());
  const std::vector<float> raw = dlogits.get();
  std::vector<float> out;
  for (int64_t i = 0; i < static_cast<int64_t>(raw.size()); ++i) {
    if (i % stride < o.columns()) {
      out.push_back(raw[i]);
    } else {
      EXPECT_TRUE(std::isnan(raw[i])) << "written between rows";
    }
  }
  return out;
}

// What is differentiated, for one row and gate: <upper, output> + balance loss + z loss, the choice and the counts held fixed.
double objective(const Case& c, const double* logits, int64_t row, int64_t gate) {
  const GateOptions& o = c.forward.options;
  const double rows = static_cast<double>(c.forward.rows);
  const int64_t k = o.top_k, at = (row * o.gates + gate) * k;
  const std::vector<int32_t> chosen(c.stored.chosen.begin() + at, c.stored.chosen.begin() + at + k);
  const std::vector<double> bias(c.forward.selection_bias.begin(), c.forward.selection_bias.end());
  const GateRow r = reference::gate_row(o, logits, bias, gate, c.forward.row_offset + row, &chosen);
  double sum = o.z / rows * r.log_sum * r.log_sum;
  for (int64_t j = 0; j < k; ++j) sum += static_cast<double>(c.upper[at + j]) * r.weights[j];
  for (int64_t e = 0; e < o.experts; ++e) {
    if (k == 0) sum += static_cast<double>(c.upper[(row * o.gates + gate) * o.experts + e]) * r.probabilities[e];
    if (o.balance == 0) continue;
    const double share = static_cast<double>(c.stored.counts[gate * o.experts + e]) / (rows * static_cast<double>(k));
    sum += o.balance * static_cast<double>(o.experts) * share * r.probabilities[e] / rows;
  }
  return sum;
}

std::vector<double> differences(const Case& c) {
  const GateOptions& o = c.forward.options;
  const int64_t own = o.columns() / o.gates;
  std::vector<double> result;
  for (int64_t row = 0; row < c.forward.rows; ++row) {
    for (int64_t gate = 0; gate < o.gates; ++gate) {
      const float* from = &c.stored.logits[row * o.columns() + gate * own];
      std::vector<double> logits(from, from + own);
      for (int64_t i = 0; i < own; ++i) {
        const double x = logits[i], step = 1e-5;
        logits[i] = x + step;
        const double above = objective(c, logits.data(), row, gate);
        logits[i] = x - step;
        const double below = objective(c, logits.data(), row, gate);
        logits[i] = x;
        result.push_back((above - below) / (2 * step));
      }
    }
  }
  return result;
}

// The error relative to the gradient and an eighth of what it is a difference of, w (v - <w, v>): of values v that are alike only their
// rounding is left.
double error_of(const Case& c, const std::vector<float>& gradient, const std::vector<double>& expected) {
  const GateOptions& o = c.forward.options;
  const int64_t gates = c.forward.rows * o.gates, uppers = gates == 0 ? 0 : static_cast<int64_t>(c.upper.size()) / gates;
  const double rows = static_cast<double>(c.forward.rows);
  double difference = 0, norm = 0, terms = 0;
  for (int64_t i = 0; i < gates; ++i) {
    double largest = 0;
    for (int64_t j = 0; j < uppers; ++j) largest = std::max(largest, std::abs(static_cast<double>(c.upper[i * uppers + j])));
    for (int64_t e = 0; o.balance != 0 && e < o.experts; ++e) {
      const double count = static_cast<double>(c.stored.counts[i % o.gates * o.experts + e]);
      largest = std::max(largest, o.balance * static_cast<double>(o.experts) * count / (rows * rows * static_cast<double>(o.top_k)));
    }
    terms += largest * largest;
  }
  if (gradient.size() != expected.size()) return std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < gradient.size(); ++i) {
    const double off = static_cast<double>(gradient[i]) - expected[i];
    difference += off * off;
    norm += expected[i] * expected[i];
  }
  return std::sqrt(difference) / (std::sqrt(norm) + std::sqrt(terms) / 8);
}

// Logits of moderate size come from a gate with k_in inputs.
Case make(TestDevice& device, Random& random, int64_t rows, int64_t gates, int64_t experts, int64_t top_k, int32_t mode, bool renormalise) {
  Case c;
  c.forward.rows = rows;
  c.forward.k_in = 6;
  c.forward.options = {gates, experts, top_k, mode, renormalise, random.next(), 12};
  c.forward.step_on_device = random.coin();
  c.forward.row_offset = random.integer(0, 1) * ((int64_t{1} << 33) + 3);
  c.forward.x = random.reals(rows * 6);
  c.forward.w = random.reals(c.forward.options.columns() * 6, -1.5, 1.5);
  if (mode == CUDAMOE_SCORE_SIGMOID && top_k > 0) c.forward.selection_bias = random.reals(gates * experts);
  c.stored = run_gate(device, c.forward);
  c.upper = random.reals(rows * gates * (top_k > 0 ? top_k : experts));
  c.gap = random.integer(0, 4);
  return c;
}

std::string name(const Case& c) {
  const GateOptions& o = c.forward.options;
  return "rows " + std::to_string(c.forward.rows) + " gates " + std::to_string(o.gates) + " experts " + std::to_string(o.experts) +
         " top_k " + std::to_string(o.top_k) + " mode " + std::to_string(o.score_mode) + (o.renormalise ? " renormalised" : "") +
         (o.balance != 0 ? " balance" : "") + (o.z != 0 ? " z" : "") + (c.passes_probabilities ? "" : " without probabilities");
}

TEST(GateBackward, AgreesWithDifferencesInEveryMode) {
  TestDevice device;
  const bool slow = test_device_is_slow();
  Random random(51);
  const auto check = [&](Case& c) {
    SCOPED_TRACE(name(c));
    EXPECT_LE(error_of(c, run(device, c), differences(c)), 4e-6);
    EXPECT_EQ(c.report, CUDAMOE_OK);
  };
  for (int64_t experts : {1, 2, 5, 8, 30, 70}) {
    for (int64_t rows : slow ? std::vector<int64_t>{1, 9} : std::vector<int64_t>{1, 16, 39}) {
      if (experts > 8 && rows > 16) continue;  // the differences cost rows * experts^2
      for (int32_t mode : {CUDAMOE_SCORE_SOFTMAX_TOPK, CUDAMOE_SCORE_TOPK_SOFTMAX, CUDAMOE_SCORE_SIGMOID, CUDAMOE_SCORE_NOISY}) {
        const bool may_renormalise = mode == CUDAMOE_SCORE_SIGMOID || mode == CUDAMOE_SCORE_SOFTMAX_TOPK;
        for (int variant = 0; variant < 6; ++variant) {
          const bool renormalise = may_renormalise && variant % 2 == 1;
          Case c = make(device, random, rows, random.integer(1, 3), experts, random.integer(1, std::min<int64_t>(experts, 5)), mode,
                        renormalise);
          if (variant / 2 == 1) c.forward.options.balance = 3;
          if (variant / 2 == 2) c.forward.options.z = 0.5;
          c.passes_probabilities = c.forward.options.balance != 0 || random.coin();
          check(c);
        }
        if (!may_renormalise) continue;
        for (int variant = 0; variant < 4; ++variant) {
          const bool renormalise = mode == CUDAMOE_SCORE_SIGMOID && variant % 2 == 1;
          Case c = make(device, random, rows, random.integer(1, 3), experts, 0, mode, renormalise);
          if (variant / 2 == 1) c.forward.options.z = 0.5;
          check(c);
        }
      }
    }
  }
}

TEST(GateBackward, EvaluationGivesTheNoiseNoGradient) {
  TestDevice device;
  Random random(52);
  Case c = make(device, random, 20, 2, 6, 2, CUDAMOE_SCORE_NOISY, false);
  c.forward.options.step = -1;
  c.stored = run_gate(device, c.forward);
  const std::vector<float> have = run(device, c);
  EXPECT_LE(relative_error(have, differences(c)), 4e-6);
  for (int64_t i = 0; i < static_cast<int64_t>(have.size()); ++i) {
    if (i % 12 >= 6) {
      EXPECT_EQ(have[i], 0.0f);
    }
  }
}

TEST(GateBackward, NoRowsIsNothing) {
  TestDevice device;
  Random random(53);
  Case c = make(device, random, 0, 2, 6, 2, CUDAMOE_SCORE_TOPK_SOFTMAX, false);
  EXPECT_TRUE(run(device, c).empty());
}

TEST(GateBackward, NanLogitsOfASparseGateGetNoGradientAndHarmNoOther) {
  TestDevice device;
  Random random(54);
  for (int32_t mode : {CUDAMOE_SCORE_SOFTMAX_TOPK, CUDAMOE_SCORE_TOPK_SOFTMAX, CUDAMOE_SCORE_SIGMOID, CUDAMOE_SCORE_NOISY}) {
    Case c = make(device, random, 4, 1, 5, 3, mode, false);
    c.forward.bias.assign(c.forward.options.columns(), 0.0f);
    c.forward.bias[2] = std::numeric_limits<float>::quiet_NaN();
    if (mode == CUDAMOE_SCORE_NOISY) c.forward.bias[5 + 3] = std::numeric_limits<float>::quiet_NaN();
    c.stored = run_gate(device, c.forward);
    c.forward.options.balance = 1;
    c.forward.options.z = mode == CUDAMOE_SCORE_NOISY ? 0 : 0.5;
    const std::vector<float> have = run(device, c);
    for (int64_t i = 0; i < static_cast<int64_t>(have.size()); ++i) {
      EXPECT_TRUE(std::isfinite(have[i])) << "mode " << mode << " at " << i;
      if (i % c.forward.options.columns() == 2) {
        EXPECT_EQ(have[i], 0.0f);
      }
    }
  }
}

TEST(GateBackward, NanLogitsThatShareASparseGateGetNoGradient) {
  TestDevice device;
  Random random(57);
  for (int32_t mode : {CUDAMOE_SCORE_SOFTMAX_TOPK, CUDAMOE_SCORE_TOPK_SOFTMAX, CUDAMOE_SCORE_SIGMOID, CUDAMOE_SCORE_NOISY}) {
    for (int64_t rows : {3, 16}) {
      for (bool renormalise : {false, true}) {
        if (renormalise && (mode == CUDAMOE_SCORE_TOPK_SOFTMAX || mode == CUDAMOE_SCORE_NOISY)) continue;
        Case c = make(device, random, rows, 2, 4, 2, mode, renormalise);
        c.forward.bias.assign(c.forward.options.columns(), 0.0f);
        for (int64_t e = 0; e < 4; ++e) c.forward.bias[e] = std::numeric_limits<float>::quiet_NaN();  // of the first gate
        c.stored = run_gate(device, c.forward);
        const bool shared = renormalise || mode != CUDAMOE_SCORE_SIGMOID;
        for (int64_t b = 0; b < rows; ++b) {
          EXPECT_EQ(c.stored.weights[b * 4], mode == CUDAMOE_SCORE_SOFTMAX_TOPK && !renormalise ? 0.25f : shared ? 0.5f : 0.0f);
        }
        c.forward.options.balance = 1;
        const std::vector<float> have = run(device, c);
        const int64_t columns = c.forward.options.columns();
        bool others = false;
        for (int64_t i = 0; i < static_cast<int64_t>(have.size()); ++i) {
          if (i % columns < columns / 2) {
            EXPECT_EQ(have[i], 0.0f) << "mode " << mode << " at " << i;
          } else {
            EXPECT_TRUE(std::isfinite(have[i]));
            others = others || have[i] != 0;
          }
        }
        EXPECT_TRUE(others);
      }
    }
  }
}

TEST(GateBackward, ChosenOutOfRangeIsReportedAndHasNoGradient) {
  TestDevice device;
  Random random(55);
  for (int32_t bad : {-1, 6, 1 << 30}) {
    Case c = make(device, random, 3, 1, 6, 2, CUDAMOE_SCORE_TOPK_SOFTMAX, false);
    c.stored.chosen[3] = bad;
    run(device, c);
    EXPECT_EQ(c.report, CUDAMOE_ERROR_REPORTED);
    EXPECT_NE(last_error().find("chosen[3] is " + std::to_string(bad)), std::string::npos) << last_error();
  }
}

// Only the pair's other choice takes part: it is alone in its sum, so its weight cannot move by its logit.
TEST(GateBackward, ChosenOutOfRangeHasNoPartInASharedSum) {
  TestDevice device;
  Random random(58);
  for (int64_t rows : {3, 16}) {
    for (int64_t experts : {6, 20}) {
      Case c = make(device, random, rows, 1, experts, 2, CUDAMOE_SCORE_SIGMOID, true);
      const int32_t kept = 4;
      c.stored.chosen[2] = kept;
      c.stored.chosen[3] = static_cast<int32_t>(experts);
      c.stored.weights[2] = 0.75f;
      const std::vector<float> have = run(device, c);
      EXPECT_EQ(c.report, CUDAMOE_ERROR_REPORTED);
      for (int64_t e = 0; e < experts; ++e) {
        const double p = 1 / (1 + std::exp(-static_cast<double>(c.stored.logits[experts + e])));
        const double want = e == kept ? 0.25 * static_cast<double>(c.upper[2]) * (1 - p) : 0;
        EXPECT_NEAR(static_cast<double>(have[experts + e]), want, 1e-6) << rows << " rows, expert " << e << " of " << experts;
      }
    }
  }
}

TEST(GateBackward, SameBitsForAnyOrder) {
  Random random(56);
  TestDevice one;
  const bool slow = test_device_is_slow();
  Case c = make(one, random, slow ? 60 : 2000, 3, 8, 2, CUDAMOE_SCORE_NOISY, false);
  c.forward.options.balance = 1;
  c.forward.options.z = 0.1;
  Case large = make(one, random, slow ? 9 : 500, 1, 100, 3, CUDAMOE_SCORE_SOFTMAX_TOPK, true);
  const std::vector<float> first = run(one, c), first_large = run(one, large);
  for (const std::string& spec : repeated_device_specs()) {
    TestDevice device(spec);
    for (int repeat = 0; repeat < repetitions_of_a_spec(); ++repeat) {
      ASSERT_EQ(run(device, c), first);
      ASSERT_EQ(run(device, large), first_large);
    }
  }
}

TEST(GateBackward, RefusesBadArguments) {
  TestDevice device;
  const Buffer<float> data(device, std::vector<float>(4096, 0.0f));
  float* p = data.data();
  const auto refused = [&](auto&& change, const char* words) {
    cudamoe_gate_backward_args a{};
    a.struct_size = sizeof a;
    a.gates = 2;
    a.experts = 4;
    a.top_k = 2;
    a.rows = 3;
    a.logits = p;
    a.probabilities = p + 256;
    a.chosen = reinterpret_cast<int32_t*>(p + 512);
    a.weights = p + 640;
    a.dweights = p + 768;
    a.expert_counts = reinterpret_cast<int64_t*>(p + 896);
    a.dlogits = p + 1024;
    a.dlogits_row_stride = 16;
    change(a);
    CUDAMOE_EXPECT_REFUSED(cudamoe_gate_backward(device.stream(), &a), words);
  };
  refused([](auto& a) { a.struct_size = 1; }, "struct_size");
  refused([](auto& a) { a.gates = 0; }, "gates is 0");
  refused([](auto& a) { a.score_mode = -1; }, "score_mode is -1");
  refused([](auto& a) { a.top_k = 9; }, "top_k is 9");
  refused([](auto& a) { a.renormalise = 1, a.score_mode = CUDAMOE_SCORE_TOPK_SOFTMAX; }, "renormalise is 1");
  refused([](auto& a) { a.rows = -2; }, "rows is -2");
  refused([](auto& a) { a.logits = nullptr; }, "logits is null");
  refused([](auto& a) { a.chosen = nullptr; }, "chosen is null");
  refused([](auto& a) { a.weights = nullptr; }, "weights is null");
  refused([](auto& a) { a.dweights = nullptr; }, "dweights is null");
  refused([](auto& a) { a.dprobabilities = a.dweights; }, "dprobabilities");
  refused([](auto& a) { a.balance_coefficient = 1, a.expert_counts = nullptr; }, "expert_counts is null");
  refused([](auto& a) { a.balance_coefficient = 1, a.probabilities = nullptr; }, "probabilities is null");
  refused([](auto& a) { a.balance_coefficient = NAN; }, "balance_coefficient is nan");
  refused([](auto& a) { a.z_coefficient = INFINITY; }, "z_coefficient is inf");
  refused([](auto& a) { a.dlogits = nullptr; }, "dlogits is null");
  refused([](auto& a) { a.dlogits_row_stride = 7; }, "dlogits_row_stride is 7");
  refused([](auto& a) { a.dlogits = const_cast<float*>(a.logits); }, "overlaps");
  refused([](auto& a) { a.score_mode = CUDAMOE_SCORE_NOISY, a.row_offset = -1; }, "row_offset is -1");
  refused([](auto& a) { a.score_mode = CUDAMOE_SCORE_NOISY, a.numbers = reinterpret_cast<const cudamoe_step_numbers*>(a.weights + 1); },
          "numbers");
  refused([](auto& a) { a.score_mode = CUDAMOE_SCORE_NOISY, a.numbers = reinterpret_cast<const cudamoe_step_numbers*>(a.dlogits); },
          "overlaps");
  refused([](auto& a) { a.top_k = 0; }, "is null");
  refused(
      [](auto& a) {
        a.top_k = 0, a.dprobabilities = a.dweights, a.dweights = nullptr, a.chosen = nullptr, a.weights = nullptr;
        a.balance_coefficient = 1;
      },
      "balance_coefficient is 1");
}

}  // namespace
}  // namespace cudamoe::test
