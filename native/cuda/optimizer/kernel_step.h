// The numbers that differ from step to step, as kernels take them.
#pragma once

#include "common/step_numbers.cuh"
#include "core/optimizer/step_numbers.h"

namespace cudamoe::cuda {

template <class Args>
kernels::CurrentStep kernel_step(const Args& args) {
  static_assert(sizeof(kernels::StepNumbers) == sizeof(cudamoe_step_numbers));
  if (args.numbers != nullptr) return {{}, reinterpret_cast<const kernels::StepNumbers*>(args.numbers)};
  const cudamoe_step_numbers own = step_numbers(args.learning_rate, args.beta1, args.beta2, args.step);
  return {{own.step, own.learning_rate, own.correction1, own.correction2, 0}, nullptr};
}

}  // namespace cudamoe::cuda
