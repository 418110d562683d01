// The numbers of an optimiser's step that are the same for all its parameters, computed in one place so that backends agree in every bit.
#pragma once

#include <cmath>
#include <cstdint>

#include "cudamoe.h"

namespace cudamoe {

// 1 / (1 - beta^step): Adam's correction of a moving average that began at 0.
inline float adam_correction(float beta, int64_t step) {
  return static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(beta), static_cast<double>(step))));
}

// What decoupled weight decay multiplies a weight by.
inline float decay_factor(float learning_rate, float weight_decay) { return std::fma(-learning_rate, weight_decay, 1.0f); }

inline cudamoe_step_numbers step_numbers(float learning_rate, float beta1, float beta2, int64_t step) {
  return {step, learning_rate, adam_correction(beta1, step), adam_correction(beta2, step), 0};
}

// Those of an update's arguments, on a device whose memory the host reads.
template <class Args>
cudamoe_step_numbers current_step(const Args& args) {
  return args.numbers != nullptr ? *args.numbers : step_numbers(args.learning_rate, args.beta1, args.beta2, args.step);
}

// Key and counter of the random bits that round bf16 weights at a step.
struct RoundingKey {
  uint32_t key0, key1, step;
};
inline RoundingKey rounding_key(uint64_t seed, int64_t step) {
  const auto count = static_cast<uint64_t>(step);
  return {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32) ^ static_cast<uint32_t>(count >> 32),
          static_cast<uint32_t>(count)};
}

}  // namespace cudamoe
