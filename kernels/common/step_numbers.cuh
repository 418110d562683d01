// The numbers of an update that differ from step to step.
#pragma once

#include "common/target.cuh"

namespace cudamoe::kernels {

// cudamoe_step_numbers.
struct StepNumbers {
  int64_t step;
  float learning_rate;
  float correction1, correction2;  // 1 / (1 - beta^step)
  uint32_t reserved;
};

// A launch's own, or those that stand in device memory when it runs: a captured launch has the latter, to be run again with others.
struct CurrentStep {
  StepNumbers own;
  const StepNumbers* on_device;  // or null

  CUDAMOE_DEVICE int64_t step() const { return on_device != nullptr ? on_device->step : own.step; }
  CUDAMOE_DEVICE float learning_rate() const { return on_device != nullptr ? on_device->learning_rate : own.learning_rate; }
  CUDAMOE_DEVICE float correction1() const { return on_device != nullptr ? on_device->correction1 : own.correction1; }
  CUDAMOE_DEVICE float correction2() const { return on_device != nullptr ? on_device->correction2 : own.correction2; }
};

}  // namespace cudamoe::kernels
