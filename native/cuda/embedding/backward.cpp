// The backward of look-ups: sort them by row, then sum the gradients of each row and update the row, or write the sums.
#include "core/optimizer/step_numbers.h"
#include "cuda/embedding/plan.h"

namespace cudamoe::cuda {
namespace {

kernels::UpdateNumbers update_numbers(const cudamoe_embedding_update_args& args) {
  const bool adam = args.optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAM;
  const RoundingKey key = rounding_key(args.seed, args.step);
  return {args.learning_rate,
          args.epsilon,
          args.beta1,
          args.beta2,
          decay_factor(args.learning_rate, args.weight_decay),
          args.gradient_scale,
          adam ? adam_correction(args.beta1, args.step) : 1.0f,
          adam ? adam_correction(args.beta2, args.step) : 1.0f,
          key.key0,
          key.key1,
          key.step,
          args.norm};
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

// Sorts each group and calls use(group, merge) for it.
template <class Args, class Use>
cudaError_t for_groups(const Stream& stream, const Args& args, const LookupPlan& plan, kernels::EmbeddingFunction function, Use&& use) {
  cudaError_t error = plan.begin(args.workspace, stream.get());
  for (const TableGroup& group : plan.groups()) {
    kernels::MergePlan merge{};
    if (error == cudaSuccess && group.lookups > 0)
      error = plan.sort(group, args.workspace, args.gradient, args.gradient_row_stride, &merge, stream.get());
    if (error == cudaSuccess) error = use(group, merge);
  }
  return error == cudaSuccess ? plan.report(args.workspace, function, stream.device_report(), stream.get()) : error;
}

}  // namespace

int64_t embedding_update_workspace(void*, const cudamoe_embedding_update_args& args) {
  return LookupPlan(embedding_shape(args)).workspace_bytes();
}

cudamoe_status embedding_update(void* handle, const cudamoe_embedding_update_args& args) {
  const Stream& stream = stream_of(handle);
  const LookupPlan plan(embedding_shape(args));
  const kernels::UpdateNumbers numbers = update_numbers(args);
  const cudaError_t error =
      for_groups(stream, args, plan, kernels::EmbeddingFunction::kUpdate, [&](const TableGroup& group, const kernels::MergePlan& merge) {
        if (group.lookups == 0) return cudaSuccess;
        return kernels::embedding_update(merge, rule_of(args.optimizer), numbers, stream.get());
      });
  return stream.check(error, "cudamoe_embedding_update");
}

int64_t embedding_gradient_workspace(void*, const cudamoe_embedding_gradient_args& args) {
  return LookupPlan(embedding_shape(args)).workspace_bytes();
}

cudamoe_status embedding_gradient(void* handle, const cudamoe_embedding_gradient_args& args) {
  const Stream& stream = stream_of(handle);
  const LookupPlan plan(embedding_shape(args));
  const kernels::GradientOutput output{args.unique_rows,
                                       args.values,
                                       args.values_row_stride,
                                       args.counts,
                                       plan.tile_ranks(args.workspace),
                                       plan.table_ranks(args.workspace)};
  const cudaError_t error =
      for_groups(stream, args, plan, kernels::EmbeddingFunction::kGradient, [&](const TableGroup& group, const kernels::MergePlan& merge) {
        if (group.lookups == 0)
          return cudaMemsetAsync(args.counts + group.first_table, 0, sizeof(int64_t) * static_cast<size_t>(group.table_count),
                                 stream.get());
        cudaError_t ran = kernels::embedding_rank_tiles(merge, output, stream.get());
        if (ran == cudaSuccess) ran = kernels::embedding_rank_tables(merge, output, stream.get());
        return ran == cudaSuccess ? kernels::embedding_gradient(merge, output, stream.get()) : ran;
      });
  return stream.check(error, "cudamoe_embedding_gradient");
}

}  // namespace cudamoe::cuda
