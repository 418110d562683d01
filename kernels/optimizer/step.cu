// One optimiser step of many dense tensors, element-wise. With g = gradient * gradient_scale * clip and lr the tensor's learning rate:
//   SGD:     p = p - lr * (g + weight_decay * p)
//   with momentum:  v = momentum * v + (g + weight_decay * p),  p = p - lr * v
//   AdaGrad: g = g + weight_decay * p,  s = s + g^2,  p = p - lr * g / (sqrt(s) + epsilon)
//   AdamW:   m = beta1 * m + (1 - beta1) * g,  v = beta2 * v + (1 - beta2) * g^2
//            p = p - lr * ((m / c1) / (sqrt(v / c2) + epsilon) + weight_decay * p),  c = 1 - beta^step
// clip is max_norm / norm where norm > max_norm > 0. The norm is read on the device; where it is not finite nothing changes.
//
// Floor: parameter, gradient and states read once, all but the gradient written once: AdamW 28 bytes an element, AdaGrad and momentum 20,
// SGD 12. Tiling: a block of 256 threads per chunk of 4096 elements of one tensor; 16-byte accesses where all its arrays are aligned.
// No shared memory, no sums.
#include "optimizer/chunk.cuh"

namespace cudamoe::kernels {
namespace {

CUDAMOE_DEVICE float rate_of(const OptimizerTensor& tensor, const OptimizerNumbers& numbers) {
  return numbers.current.learning_rate() * tensor.learning_rate_scale;
}

struct Sgd {
  static constexpr int kStates = 0;
  float rate, decay;
  CUDAMOE_DEVICE Sgd(const OptimizerTensor& tensor, const OptimizerNumbers& numbers)
      : rate(rate_of(tensor, numbers)), decay(tensor.weight_decay) {}
  CUDAMOE_DEVICE void step(float& p, float g, float&, float&) const { p = fma(-rate, fma(decay, p, g), p); }
};

struct Momentum {
  static constexpr int kStates = 1;
  float rate, decay, momentum;
  CUDAMOE_DEVICE Momentum(const OptimizerTensor& tensor, const OptimizerNumbers& numbers)
      : rate(rate_of(tensor, numbers)), decay(tensor.weight_decay), momentum(numbers.momentum) {}
  CUDAMOE_DEVICE void step(float& p, float g, float& v, float&) const {
    v = fma(momentum, v, fma(decay, p, g));
    p = fma(-rate, v, p);
  }
};

struct AdaGrad {
  static constexpr int kStates = 1;
  float rate, decay, epsilon;
  CUDAMOE_DEVICE AdaGrad(const OptimizerTensor& tensor, const OptimizerNumbers& numbers)
      : rate(rate_of(tensor, numbers)), decay(tensor.weight_decay), epsilon(numbers.epsilon) {}
  CUDAMOE_DEVICE void step(float& p, float g, float& s, float&) const {
    g = fma(decay, p, g);
    s = fma(g, g, s);
    p = fma(-rate, g / (sqrt(s) + epsilon), p);
  }
};

struct AdamW {
  static constexpr int kStates = 2;
  float beta1, rest1, beta2, rest2, rate, correction2, epsilon, keep;
  CUDAMOE_DEVICE AdamW(const OptimizerTensor& tensor, const OptimizerNumbers& numbers)
      : beta1(numbers.beta1),
        rest1(1.0f - numbers.beta1),
        beta2(numbers.beta2),
        rest2(1.0f - numbers.beta2),
        rate(rate_of(tensor, numbers) * numbers.current.correction1()),
        correction2(numbers.current.correction2()),
        epsilon(numbers.epsilon),
        keep(fma(-rate_of(tensor, numbers), tensor.weight_decay, 1.0f)) {}
  CUDAMOE_DEVICE void step(float& p, float g, float& m, float& v) const {
    m = fma(beta1, m, rest1 * g);
    v = fma(beta2, v, rest2 * (g * g));
    p = fma(-rate, m / (sqrt(v * correction2) + epsilon), keep * p);
  }
};

template <class Rule>
CUDAMOE_KERNEL(kOptimizerThreads, 4)
step_kernel(const CUDAMOE_GRID_CONSTANT OptimizerTable table, const CUDAMOE_GRID_CONSTANT OptimizerNumbers numbers) {
  float scale = numbers.gradient_scale;
  if (numbers.norm != nullptr) {
    const double norm = numbers.norm[0], bound = static_cast<double>(numbers.max_norm);
    if (!is_finite(norm)) return;
    if (bound > 0 && norm > bound) scale = static_cast<float>(static_cast<double>(scale) * (bound / norm));
  }
  const int64_t chunk = block_x();
  const int t = tensor_of_chunk(table, chunk);
  const OptimizerTensor& tensor = table.tensor[t];
  const Rule rule(tensor, numbers);
  const bool aligned = aligned_for<kOptimizerVector>(tensor.parameter) && aligned_for<kOptimizerVector>(tensor.gradient) &&
                       (Rule::kStates < 1 || aligned_for<kOptimizerVector>(tensor.state1)) &&
                       (Rule::kStates < 2 || aligned_for<kOptimizerVector>(tensor.state2));
  for_vectors_of_chunk(chunk - table.first_chunk[t], tensor.count, [&](int64_t i, int n) {
    OptimizerVector parameter = load_elements(tensor.parameter + i, n, aligned);
    const OptimizerVector gradient = load_elements(tensor.gradient + i, n, aligned);
    OptimizerVector state1 = {}, state2 = {};
    if constexpr (Rule::kStates > 0) state1 = load_elements(tensor.state1 + i, n, aligned);
    if constexpr (Rule::kStates > 1) state2 = load_elements(tensor.state2 + i, n, aligned);
    CUDAMOE_UNROLL
    for (int j = 0; j < kOptimizerVector; ++j) rule.step(parameter[j], scale * gradient[j], state1[j], state2[j]);
    store_elements(tensor.parameter + i, parameter, n, aligned);
    if constexpr (Rule::kStates > 0) store_elements(tensor.state1 + i, state1, n, aligned);
    if constexpr (Rule::kStates > 1) store_elements(tensor.state2 + i, state2, n, aligned);
  });
}

template <class Rule>
cudaError_t launch_step(const OptimizerTable& table, const OptimizerNumbers& numbers, cudaStream_t stream) {
  const int chunks = static_cast<int>(table.first_chunk[table.tensors]);
  return launch({.name = "optimizer_step", .grid = {chunks}, .block = {kOptimizerThreads}, .stream = stream}, step_kernel<Rule>, table,
                numbers);
}

}  // namespace

cudaError_t optimizer_step(OptimizerRule rule, const OptimizerTable& table, const OptimizerNumbers& numbers, cudaStream_t stream) {
  switch (rule) {
    case OptimizerRule::kSgd:
      return launch_step<Sgd>(table, numbers, stream);
    case OptimizerRule::kMomentum:
      return launch_step<Momentum>(table, numbers, stream);
    case OptimizerRule::kAdaGrad:
      return launch_step<AdaGrad>(table, numbers, stream);
    default:
      return launch_step<AdamW>(table, numbers, stream);
  }
}

}  // namespace cudamoe::kernels
