// Which of its two ways serves a call of the expert family: the fused kernel, or products, with routing and combine for mixtures.
#pragma once

#include <array>
#include <string>

#include "cuda/expert/plan.h"
#include "cuda/gemm/candidates.h"
#include "cuda/trials/kind.h"
#include "cuda/trials/memory.h"

namespace cudamoe::cuda {

inline constexpr size_t kFused = 0, kProducts = 1;

// What a candidate of status `status` is to a trial.
inline cudaError_t error_of(const Device& device, cudamoe_status status) {
  if (status == CUDAMOE_OK) return cudaSuccess;
  if (device.faulted()) return cudaErrorLaunchFailure;
  return status == CUDAMOE_ERROR_OUT_OF_MEMORY ? cudaErrorMemoryAllocation : cudaErrorInvalidConfiguration;
}

// Both ways of a call on its own operands, into memory of the trial. Call has kind(), words(), write_to(memory), run_fused(),
// run_products() and compare(counts).
template <class Call>
class ExpertTrial : public Trial {
 public:
  explicit ExpertTrial(const Call& call) : call_(call), memory_(call.stream) {}

  std::string describe() const override { return call_.words(); }
  cudaError_t prepare() override { return call_.write_to(memory_); }
  cudaError_t poison() override { return memory_.poison(); }
  cudaError_t run(size_t candidate) override {
    return candidate == kFused ? call_.run_fused() : error_of(call_.stream.device(), call_.run_products());
  }
  cudaError_t compare(kernels::SampleCounts* counts) override { return call_.compare(counts); }

 private:
  Call call_;
  TrialMemory memory_;
};

// Both ways sum in the same order. Their bits are the same where both multiply by mma.sync; on sm_90 products may run by another
// instruction than the fused kernel, as their own trials have it.
inline std::array<Candidate, 2> expert_candidates(const Device& device, const FusedExpert& fused) {
  return {{{fused.launch.slice == 0 ? "fused" : "fused-wgmma", 0}, {"products", device.architecture() == 90 ? 1 : 0}}};
}

template <class Call>
cudamoe_status choose_and_run(const Call& call, const FusedExpert& fused, const char* function) {
  Device& device = call.stream.device();
  size_t chosen = kFused;
  Trials& trials = device.trials();
  if (const CallKind kind = call.kind(); trials.on() && !trials.known(kind, &chosen)) {
    const auto candidates = expert_candidates(device, fused);
    ExpertTrial<Call> trial(call);
    const cudamoe_status status = trials.choose(call.stream, function, kind, candidates, kProducts, trial, &chosen);
    if (status != CUDAMOE_OK) return status;
  }
  return chosen == kFused ? call.stream.check(call.run_fused(), function) : call.run_products();
}

// The widths of a kind: n below 2^10 and k below 2^14 where a fused kernel serves.
inline uint64_t expert_shape_bits(int64_t n, int64_t k, int64_t hidden) {
  return Bits().add(static_cast<uint64_t>(n), 10).add(static_cast<uint64_t>(k), 14).add(static_cast<uint64_t>(hidden), 32).get();
}

// Kinds of the expert family are none of the gemm family's.
inline constexpr uint64_t kExpertForwardKind = uint64_t{2} << 62, kExpertMixKind = uint64_t{3} << 62;

// The form that both operations have in common.
template <class Args>
Bits expert_form_bits(const Args& args) {
  const auto flag = [](bool value) { return static_cast<uint64_t>(value ? 1 : 0); };
  return Bits()
      .add(flag(args.x_dtype == CUDAMOE_BF16), 1)
      .add(flag(args.y_dtype == CUDAMOE_BF16), 1)
      .add(flag(args.bias1 != nullptr), 1)
      .add(flag(args.bias2 != nullptr), 1)
      .add(static_cast<uint64_t>(args.hidden_activation), 3)
      .add(static_cast<uint64_t>(args.output_activation), 3);
}

inline constexpr int kExpertSamples = 256;

// Memory of a trial in the place of a matrix of `rows` rows, aligned as that is.
inline cudaError_t replace(TrialMemory& memory, int64_t rows, int64_t columns, bool aligned, bool bf16, void** data, int64_t* row_stride) {
  *row_stride = kernels::gemm_packed_stride(columns) + (aligned ? 0 : 1);
  uint16_t* taken = nullptr;
  const cudaError_t error = memory.take(rows * *row_stride * (bf16 ? 1 : 2), &taken);
  *data = taken;
  return error;
}

}  // namespace cudamoe::cuda
