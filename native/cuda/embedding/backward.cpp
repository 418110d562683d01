// The backward of look-ups: sort them by row, then sum the gradients of each row and update the row, or write the sums.
#include "cuda/embedding/plan.h"
#include "cuda/optimizer/kernel_step.h"

namespace cudamoe::cuda {
namespace {

kernels::UpdateNumbers update_numbers(const cudamoe_embedding_update_args& args) {
  return {args.epsilon, args.beta1, args.beta2, args.weight_decay, args.gradient_scale, args.seed, args.norm, kernel_step(args)};
}

kernels::EmbeddingRule rule_of(int32_t optimizer) {
  switch (optimizer) {
    case CUDAMOE_OPTIMIZER_SGD:
      return kernels::EmbeddingRule::kSgd;
    case CUDAMOE_OPTIMIZER_ADAGRAD:
      return kernels::EmbeddingRule::kAdaGrad;
    case CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD:
      return kernels::EmbeddingRule::kRowWiseAdaGrad;
    default:
      return kernels::EmbeddingRule::kRowWiseAdam;
  }
}

// Sorts the look-ups and calls use(merge).
template <class Args, class Use>
cudaError_t run(const Stream& stream, const Args& args, LookupPlan& plan, kernels::EmbeddingFunction function, Use&& use) {
  cudaError_t error = plan.begin(args.workspace, args.gradient, args.gradient_row_stride, stream.get());
  if (error == cudaSuccess && plan.lookups() > 0) error = plan.sort(args.workspace, stream.get());
  if (error == cudaSuccess) error = use(plan.merge(args.workspace, args.gradient, args.gradient_row_stride));
  return error == cudaSuccess ? plan.report(args.workspace, function, stream.device_report(), stream.get()) : error;
}

}  // namespace

int64_t embedding_update_workspace(void*, const cudamoe_embedding_update_args& args) {
  return LookupPlan(embedding_shape(args), args.caches).workspace_bytes();
}

cudamoe_status embedding_update(void* handle, const cudamoe_embedding_update_args& args) {
  const Stream& stream = stream_of(handle);
  LookupPlan plan(embedding_shape(args), args.caches);
  const kernels::UpdateNumbers numbers = update_numbers(args);
  const cudaError_t error = run(stream, args, plan, kernels::EmbeddingFunction::kUpdate, [&](const kernels::MergePlan& merge) {
    return merge.tiles > 0 ? kernels::embedding_update(merge, rule_of(args.optimizer), numbers, stream.get()) : cudaSuccess;
  });
  return stream.check(error, "cudamoe_embedding_update");
}

int64_t embedding_gradient_workspace(void*, const cudamoe_embedding_gradient_args& args) {
  return LookupPlan(embedding_shape(args)).workspace_bytes();
}

cudamoe_status embedding_gradient(void* handle, const cudamoe_embedding_gradient_args& args) {
  const Stream& stream = stream_of(handle);
  LookupPlan plan(embedding_shape(args));
  const bool whole_values = reinterpret_cast<uintptr_t>(args.values) % 16 == 0 && args.values_row_stride % 4 == 0;
  const kernels::GradientOutput output{args.unique_rows,     args.values, args.values_row_stride,
                                       whole_values ? 1 : 0, args.counts, plan.tile_ranks(args.workspace)};
  const cudaError_t error = run(stream, args, plan, kernels::EmbeddingFunction::kGradient, [&](const kernels::MergePlan& merge) {
    const cudaError_t ranked = kernels::embedding_rank_rows(merge, output, stream.get());
    return ranked == cudaSuccess && merge.tiles > 0 ? kernels::embedding_gradient(merge, output, stream.get()) : ranked;
  });
  return stream.check(error, "cudamoe_embedding_gradient");
}

}  // namespace cudamoe::cuda
