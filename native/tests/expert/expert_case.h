// Experts with random weights and what they give in double precision, for the tests of both operations.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "gemm/problem.h"

namespace cudamoe::test {

// Ways to open the device: a cpu, or the executor as GPUs with much and with little shared memory.
inline std::vector<std::string> expert_device_specs(int cpu_threads) {
  const std::string spec = test_device_spec();
  if (spec == "cpu") return {"cpu:threads=" + std::to_string(cpu_threads)};
  if (spec == "simt") return {"simt:exits=strict,arch=80", "simt:exits=strict,arch=86", "simt:exits=strict,arch=90"};
  return {spec};
}

struct ExpertShape {
  int64_t experts = 1, k = 1, hidden = 1, n = 1;
  std::string text() const {
    return std::to_string(experts) + " experts " + std::to_string(k) + " -> " + std::to_string(hidden) + " -> " + std::to_string(n);
  }
};

struct ExpertOptions {
  int32_t x_dtype = CUDAMOE_F32, packed_dtype = CUDAMOE_F32, h_dtype = CUDAMOE_F32, y_dtype = CUDAMOE_F32;
  int32_t hidden_activation = CUDAMOE_ACTIVATION_NONE, output_activation = CUDAMOE_ACTIVATION_NONE;
  bool bias = false;
  bool aligned = false;  // rows of x begin at multiples of 16 bytes
  Data data = Data::kReals;

  static ExpertOptions random(Random& random, Data data) {
    ExpertOptions options;
    options.packed_dtype = random.integer(0, 3) > 0 ? CUDAMOE_BF16 : CUDAMOE_F32;
    options.x_dtype = static_cast<int32_t>(random.integer(0, 1));
    options.h_dtype = options.packed_dtype == CUDAMOE_BF16 && random.coin() ? CUDAMOE_BF16 : CUDAMOE_F32;
    options.y_dtype = static_cast<int32_t>(random.integer(0, 1));
    options.hidden_activation = static_cast<int32_t>(random.integer(0, 6));
    options.output_activation = static_cast<int32_t>(random.integer(0, 6));
    options.bias = random.coin();
    options.aligned = random.coin();
    options.data = data;
    return options;
  }
  // Whether every sum is exact, so that results are compared bit by bit.
  bool exact() const {
    return data == Data::kIntegers && hidden_activation <= CUDAMOE_ACTIVATION_LEAKY_RELU &&
           output_activation <= CUDAMOE_ACTIVATION_LEAKY_RELU;
  }
  double bound(int64_t terms) const {
    if (exact()) return 0;
    return packed_dtype == CUDAMOE_BF16 || y_dtype == CUDAMOE_BF16 ? kBf16Bound : f32_bound(terms);
  }
  std::string text() const {
    return "types " + std::to_string(x_dtype) + std::to_string(packed_dtype) + std::to_string(h_dtype) + std::to_string(y_dtype) +
           ", activations " + std::to_string(hidden_activation) + std::to_string(output_activation) + (bias ? ", bias" : "") +
           (aligned ? ", aligned" : "") + (data == Data::kIntegers ? ", integers" : ", reals");
  }
};

inline constexpr float kExpertSlope = 0.25f;

inline double as_stored(double value, int32_t dtype) {
  return dtype == CUDAMOE_BF16 ? from_bf16(to_bf16(static_cast<float>(value))) : static_cast<double>(static_cast<float>(value));
}

// Results beside what they should be, and the size of the terms behind them.
struct Compared {
  std::vector<double> have, want, scale;

  void add(double result, double reference, double terms) {
    have.push_back(result);
    want.push_back(reference);
    scale.push_back(terms);
  }
  // |have - want| / |scale| in the Frobenius norm; NaN when a result is.
  double error() const {
    double difference = 0, size = 0;
    for (size_t i = 0; i < have.size(); ++i) {
      difference += (have[i] - want[i]) * (have[i] - want[i]);
      size += scale[i] * scale[i];
    }
    return size > 0 ? std::sqrt(difference / size) : std::sqrt(difference);
  }
};

class Experts {
 public:
  Experts(TestDevice& device, Random& random, const ExpertShape& shape, const ExpertOptions& options)
      : shape_(shape),
        options_(options),
        first_(device, random, {.groups = shape.experts, .n = shape.hidden, .k = shape.k}, 0, options.packed_dtype, options.data),
        second_(device, random, {.groups = shape.experts, .n = shape.n, .k = shape.hidden}, 0, options.packed_dtype, options.data),
        bias1_(device, CUDAMOE_F32, {shape.experts, 1, shape.hidden, shape.hidden, shape.hidden + random.integer(0, 2)}),
        bias2_(device, CUDAMOE_F32, {shape.experts, 1, shape.n, shape.n, shape.n + random.integer(0, 2)}) {
    bias1_.fill(random_values(random, options.data, bias1_.layout().elements()));
    bias2_.fill(random_values(random, options.data, bias2_.layout().elements()));
  }

  // Fills what both argument structs have in common.
  template <class Args>
  void describe(Args& args) const {
    args.struct_size = sizeof args;
    args.n = shape_.n;
    args.hidden = shape_.hidden;
    args.k = shape_.k;
    args.packed1 = first_.data();
    args.packed2 = second_.data();
    args.bias1 = options_.bias ? static_cast<const float*>(bias1_.data()) : nullptr;
    args.bias1_group_stride = bias1_.layout().group_stride;
    args.bias2 = options_.bias ? static_cast<const float*>(bias2_.data()) : nullptr;
    args.bias2_group_stride = bias2_.layout().group_stride;
    args.x_dtype = options_.x_dtype;
    args.packed_dtype = options_.packed_dtype;
    args.y_dtype = options_.y_dtype;
    args.hidden_activation = options_.hidden_activation;
    args.output_activation = options_.output_activation;
    args.activation_slope = kExpertSlope;
  }

  // With the sums of absolute values behind each: an error is measured against these, since where terms cancel, or in the tails of an
  // activation, rounding is as large as the terms are.
  struct Values {
    std::vector<double> before, h, y;
    std::vector<double> h_scale, y_scale;
  };
  // For a row of x, rounded as the product does.
  Values run(int64_t expert, const double* x) const {
    Values values;
    for (int64_t i = 0; i < shape_.hidden; ++i) {
      const double* const w = w1_.row(expert, i);
      double sum = options_.bias ? static_cast<double>(bias1_.at(expert, 0, i)) : 0.0, scale = std::abs(sum);
      for (int64_t t = 0; t < shape_.k; ++t) {
        sum += x[t] * w[t];
        scale += std::abs(x[t] * w[t]);
      }
      values.before.push_back(sum);
      values.h.push_back(reference::activate(options_.hidden_activation, sum, kExpertSlope));
      values.h_scale.push_back(std::max(std::abs(values.h.back()), scale));
    }
    std::vector<double> h = values.h;
    if (rounds()) {
      for (double& value : h) value = as_stored(value, CUDAMOE_BF16);
    }
    for (int64_t j = 0; j < shape_.n; ++j) {
      const double* const w = w2_.row(expert, j);
      double sum = options_.bias ? static_cast<double>(bias2_.at(expert, 0, j)) : 0.0, scale = std::abs(sum);
      for (size_t i = 0; i < h.size(); ++i) {
        sum += h[i] * w[i];
        scale += values.h_scale[i] * std::abs(w[i]);
      }
      values.y.push_back(reference::activate(options_.output_activation, sum, kExpertSlope));
      values.y_scale.push_back(std::max(std::abs(values.y.back()), scale));
    }
    return values;
  }

  // Whether the products round their operands to bf16.
  bool rounds() const { return options_.packed_dtype == CUDAMOE_BF16; }

  Matrix make_x(TestDevice& device, Random& random, int64_t groups, int64_t rows) const {
    const int64_t stride = (shape_.k + 7) / 8 * 8;
    Matrix x(
        device, options_.x_dtype,
        options_.aligned ? Matrix::Layout{groups, rows, shape_.k, stride, rows * stride} : Matrix::loose(random, groups, rows, shape_.k),
        options_.aligned ? 0 : random.integer(0, 3));
    x.fill(random_values(random, options_.data, x.layout().elements()));
    return x;
  }

  const PackedWeights& first() const { return first_; }
  const PackedWeights& second() const { return second_; }
  const Matrix& bias1() const { return bias1_; }
  const Matrix& bias2() const { return bias2_; }

 private:
  ExpertShape shape_;
  ExpertOptions options_;
  PackedWeights first_, second_;
  Matrix bias1_, bias2_;
  reference::Operand w1_ = first_.operand(), w2_ = second_.operand();
};

}  // namespace cudamoe::test
