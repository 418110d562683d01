// The optimizer family: tensors in tables of at most kOptimizerTensors, a launch for each.
#include "optimizer/optimizer.h"

#include <utility>

#include "cuda/device.h"
#include "cuda/optimizer/kernel_step.h"

namespace cudamoe::cuda {
namespace {

using kernels::kOptimizerChunk;

int64_t chunks_of(int64_t count) { return (count + kOptimizerChunk - 1) / kOptimizerChunk; }

// Calls use(table) for tables of all tensors that have elements and, when `moving`, a learning rate. Stops at the first error.
template <class Use>
cudaError_t for_tables(const cudamoe_optimizer_tensor* tensors, int32_t count, bool moving, Use&& use) {
  // The chunks of a table are the blocks of a grid.
  constexpr int64_t kMostChunks = (int64_t{1} << 31) - 1;
  kernels::OptimizerTable table{};
  const auto flush = [&] {
    const cudaError_t error = table.tensors > 0 ? use(std::as_const(table)) : cudaSuccess;
    table.tensors = 0;
    table.first_chunk[0] = 0;
    return error;
  };
  for (int32_t t = 0; t < count; ++t) {
    const cudamoe_optimizer_tensor& tensor = tensors[t];
    if (tensor.count == 0 || (moving && tensor.learning_rate_scale == 0)) continue;
    const int64_t chunks = chunks_of(tensor.count);
    if (chunks > kMostChunks) return cudaErrorInvalidConfiguration;
    if (table.tensors == kernels::kOptimizerTensors || table.first_chunk[table.tensors] + chunks > kMostChunks) {
      if (const cudaError_t error = flush(); error != cudaSuccess) return error;
    }
    table.tensor[table.tensors] = {tensor.parameter,           tensor.gradient,    tensor.state1, tensor.state2, tensor.count,
                                   tensor.learning_rate_scale, tensor.weight_decay};
    table.first_chunk[table.tensors + 1] = table.first_chunk[table.tensors] + chunks;
    ++table.tensors;
  }
  return flush();
}

int64_t norm_workspace(void*, const cudamoe_optimizer_norm_args& args) {
  int64_t chunks = 0;
  for (int32_t t = 0; t < args.tensor_count; ++t) chunks += chunks_of(args.tensors[t].count);
  return chunks * static_cast<int64_t>(sizeof(double));
}

cudamoe_status norm(void* handle, const cudamoe_optimizer_norm_args& args) {
  const Stream& stream = stream_of(handle);
  auto* partials = static_cast<double*>(args.workspace);
  int64_t done = 0;
  cudaError_t error = for_tables(args.tensors, args.tensor_count, false, [&](const kernels::OptimizerTable& table) {
    const cudaError_t launched = kernels::optimizer_squares(table, partials + done, stream.get());
    done += table.first_chunk[table.tensors];
    return launched;
  });
  if (error == cudaSuccess) error = kernels::optimizer_norm(partials, done, args.norm, stream.get());
  return stream.check(error, "cudamoe_optimizer_norm");
}

kernels::OptimizerRule rule_of(const cudamoe_optimizer_step_args& args) {
  switch (args.optimizer) {
    case CUDAMOE_OPTIMIZER_SGD:
      return args.momentum > 0 ? kernels::OptimizerRule::kMomentum : kernels::OptimizerRule::kSgd;
    case CUDAMOE_OPTIMIZER_ADAGRAD:
      return kernels::OptimizerRule::kAdaGrad;
    default:
      return kernels::OptimizerRule::kAdamW;
  }
}

cudamoe_status step(void* handle, const cudamoe_optimizer_step_args& args) {
  const Stream& stream = stream_of(handle);
  const kernels::OptimizerRule rule = rule_of(args);
  const kernels::OptimizerNumbers numbers{args.momentum,       args.beta1,    args.beta2, args.epsilon,
                                          args.gradient_scale, args.max_norm, args.norm,  kernel_step(args)};
  const cudaError_t error = for_tables(args.tensors, args.tensor_count, true, [&](const kernels::OptimizerTable& table) {
    return kernels::optimizer_step(rule, table, numbers, stream.get());
  });
  return stream.check(error, "cudamoe_optimizer_step");
}

}  // namespace

void register_optimizer(Backend& table) {
  table.optimizer_norm = norm;
  table.optimizer_norm_workspace = norm_workspace;
  table.optimizer_step = step;
}

}  // namespace cudamoe::cuda
