// One optimiser step of many dense tensors, element-wise. With g = gradient * gradient_scale * clip and lr the scaled learning rate:
//   SGD:     v = momentum * v + (g + weight_decay * p)                      p = p - lr * v
//   AdaGrad: g = g + weight_decay * p,  s = s + g^2                         p = p - lr * g / (sqrt(s) + epsilon)
//   AdamW:   m = beta1 * m + (1 - beta1) * g,  v = beta2 * v + (1 - beta2) * g^2
//            p = p - lr * ((m / c1) / (sqrt(v / c2) + epsilon) + weight_decay * p),  c = 1 - beta^step
//
// Floor: parameter, gradient and states read once, all but the gradient written once (AdamW 28 bytes an element, AdaGrad 20, SGD 12, with
// momentum 20). Tiling: chunks of one tensor, TensorChunks::kElements each.
#include <cmath>

#include "core/optimizer/step_numbers.h"
#include "cpu/optimizer/optimizer.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/optimizer/step.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/common/vector-inl.h"

#ifndef CUDAMOE_CPU_OPTIMIZER_STEP_TASK
#define CUDAMOE_CPU_OPTIMIZER_STEP_TASK
namespace cudamoe::cpu {
namespace {

// The numbers of one tensor's step.
struct StepNumbers {
  int32_t optimizer;
  float learning_rate, weight_decay, momentum, beta1, beta2, epsilon;
  float gradient_scale;            // with clipping
  float correction1, correction2;  // 1 / (1 - beta^step)
};

}  // namespace
}  // namespace cudamoe::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu::HWY_NAMESPACE {
namespace {

class Sgd {
 public:
  explicit Sgd(const StepNumbers& n) : rate_(hn::Set(F32(), n.learning_rate)), decay_(hn::Set(F32(), n.weight_decay)) {}
  HWY_INLINE void operator()(VecF32& p, VecF32 g, VecF32&, VecF32&) const { p = hn::NegMulAdd(rate_, hn::MulAdd(decay_, p, g), p); }
  static constexpr int kStates = 0;

 private:
  VecF32 rate_, decay_;
};

class Momentum {
 public:
  explicit Momentum(const StepNumbers& n)
      : rate_(hn::Set(F32(), n.learning_rate)), decay_(hn::Set(F32(), n.weight_decay)), momentum_(hn::Set(F32(), n.momentum)) {}
  HWY_INLINE void operator()(VecF32& p, VecF32 g, VecF32& v, VecF32&) const {
    v = hn::MulAdd(momentum_, v, hn::MulAdd(decay_, p, g));
    p = hn::NegMulAdd(rate_, v, p);
  }
  static constexpr int kStates = 1;

 private:
  VecF32 rate_, decay_, momentum_;
};

class AdaGrad {
 public:
  explicit AdaGrad(const StepNumbers& n)
      : rate_(hn::Set(F32(), n.learning_rate)), decay_(hn::Set(F32(), n.weight_decay)), epsilon_(hn::Set(F32(), n.epsilon)) {}
  HWY_INLINE void operator()(VecF32& p, VecF32 g, VecF32& s, VecF32&) const {
    g = hn::MulAdd(decay_, p, g);
    s = hn::MulAdd(g, g, s);
    p = hn::NegMulAdd(rate_, hn::Div(g, hn::Add(hn::Sqrt(s), epsilon_)), p);
  }
  static constexpr int kStates = 1;

 private:
  VecF32 rate_, decay_, epsilon_;
};

class AdamW {
 public:
  explicit AdamW(const StepNumbers& n)
      : beta1_(hn::Set(F32(), n.beta1)),
        rest1_(hn::Set(F32(), 1.0f - n.beta1)),
        beta2_(hn::Set(F32(), n.beta2)),
        rest2_(hn::Set(F32(), 1.0f - n.beta2)),
        rate_(hn::Set(F32(), n.learning_rate * n.correction1)),
        correction2_(hn::Set(F32(), n.correction2)),
        epsilon_(hn::Set(F32(), n.epsilon)),
        keep_(hn::Set(F32(), decay_factor(n.learning_rate, n.weight_decay))) {}
  HWY_INLINE void operator()(VecF32& p, VecF32 g, VecF32& m, VecF32& v) const {
    m = hn::MulAdd(beta1_, m, hn::Mul(rest1_, g));
    v = hn::MulAdd(beta2_, v, hn::Mul(rest2_, hn::Mul(g, g)));
    const auto direction = hn::Div(m, hn::Add(hn::Sqrt(hn::Mul(v, correction2_)), epsilon_));
    p = hn::NegMulAdd(rate_, direction, hn::Mul(keep_, p));
  }
  static constexpr int kStates = 2;

 private:
  VecF32 beta1_, rest1_, beta2_, rest2_, rate_, correction2_, epsilon_, keep_;
};

template <class Rule>
void RunRule(const StepNumbers& numbers, const cudamoe_optimizer_tensor& tensor, int64_t begin, int64_t end) {
  const F32 d;
  const Rule rule(numbers);
  const auto scale = hn::Set(d, numbers.gradient_scale);
  auto state1 = hn::Zero(d), state2 = state1;
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) {
    auto parameter = load(d, tensor.parameter + i);
    if (Rule::kStates > 0) state1 = load(d, tensor.state1 + i);
    if (Rule::kStates > 1) state2 = load(d, tensor.state2 + i);
    rule(parameter, hn::Mul(scale, load(d, tensor.gradient + i)), state1, state2);
    store(d, parameter, tensor.parameter + i);
    if (Rule::kStates > 0) store(d, state1, tensor.state1 + i);
    if (Rule::kStates > 1) store(d, state2, tensor.state2 + i);
  }
  if (i == end) return;
  const int64_t count = end - i;
  auto parameter = load_first(d, tensor.parameter + i, count);
  if (Rule::kStates > 0) state1 = load_first(d, tensor.state1 + i, count);
  if (Rule::kStates > 1) state2 = load_first(d, tensor.state2 + i, count);
  rule(parameter, hn::Mul(scale, load_first(d, tensor.gradient + i, count)), state1, state2);
  store_first(d, parameter, tensor.parameter + i, count);
  if (Rule::kStates > 0) store_first(d, state1, tensor.state1 + i, count);
  if (Rule::kStates > 1) store_first(d, state2, tensor.state2 + i, count);
}

void StepChunk(const StepNumbers& numbers, const cudamoe_optimizer_tensor& tensor, int64_t begin, int64_t end) {
  switch (numbers.optimizer) {
    case CUDAMOE_OPTIMIZER_SGD:
      return numbers.momentum > 0 ? RunRule<Momentum>(numbers, tensor, begin, end) : RunRule<Sgd>(numbers, tensor, begin, end);
    case CUDAMOE_OPTIMIZER_ADAGRAD:
      return RunRule<AdaGrad>(numbers, tensor, begin, end);
    default:
      return RunRule<AdamW>(numbers, tensor, begin, end);
  }
}

}  // namespace
}  // namespace cudamoe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cudamoe::cpu {
namespace {

HWY_EXPORT(StepChunk);

}  // namespace

cudamoe_status optimizer_step(void* stream, const cudamoe_optimizer_step_args& args) {
  double scale = static_cast<double>(args.gradient_scale);
  if (args.norm != nullptr) {
    const double norm = args.norm[0], max_norm = static_cast<double>(args.max_norm);
    if (!std::isfinite(norm)) return CUDAMOE_OK;
    if (max_norm > 0 && norm > max_norm) scale *= max_norm / norm;
  }
  const cudamoe_step_numbers now = current_step(args);
  const StepNumbers common{args.optimizer,  now.learning_rate, 0.0f,         args.momentum,
                           args.beta1,      args.beta2,        args.epsilon, static_cast<float>(scale),
                           now.correction1, now.correction2};
  const TensorChunks chunks(args.tensors, args.tensor_count);
  stream_of(stream).device().for_tiles(chunks.count(), 1.5 * static_cast<double>(chunks.elements()), [&](int64_t c) {
    const TensorChunks::Chunk chunk = chunks[c];
    const cudamoe_optimizer_tensor& tensor = *chunk.tensor;
    if (tensor.learning_rate_scale == 0) return;  // frozen
    StepNumbers numbers = common;
    numbers.learning_rate *= tensor.learning_rate_scale;
    numbers.weight_decay = tensor.weight_decay;
    HWY_DYNAMIC_DISPATCH(StepChunk)(numbers, tensor, chunk.begin, chunk.end);
  });
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
#endif  // HWY_ONCE
