// The balance family.
#include "balance/balance.h"

#include <algorithm>

#include "cuda/device.h"

namespace cudamoe::cuda {
namespace {

static_assert(kernels::kBalanceTasks == CUDAMOE_MAX_TASKS);

// Rows that follow each other without a gap are one long row.
template <class Args>
kernels::BalanceGradients gradients_of(const Args& args, bool dense) {
  const int64_t rows = dense && args.rows > 0 ? 1 : args.rows, width = dense && args.rows > 0 ? args.rows * args.width : args.width;
  return {args.tasks, rows, width, args.gradients, args.task_stride, dense ? width : args.row_stride};
}

kernels::BalanceGradients gradients_of(const cudamoe_balance_gram_args& args) { return gradients_of(args, args.row_stride == args.width); }

int64_t chunks_of(const cudamoe_balance_gram_args& args) {
  const kernels::BalanceGradients gradients = gradients_of(args);
  return kernels::balance_gram_chunks(kernels::balance_quads(gradients.rows, gradients.width));
}

int64_t gram_workspace(void*, const cudamoe_balance_gram_args& args) {
  return chunks_of(args) * args.tasks * args.tasks * static_cast<int64_t>(sizeof(double));
}

cudamoe_status gram(void* handle, const cudamoe_balance_gram_args& args) {
  const Stream& stream = stream_of(handle);
  auto* partials = static_cast<double*>(args.workspace);
  cudaError_t error = kernels::balance_gram_chunk_sums(gradients_of(args), partials, stream.get());
  if (error == cudaSuccess) error = kernels::balance_gram_sum(partials, chunks_of(args), args.tasks, args.gram, stream.get());
  return stream.check(error, "cudamoe_balance_gram");
}

cudamoe_status factored_gram(void* handle, const cudamoe_balance_factored_gram_args& args) {
  const Stream& stream = stream_of(handle);
  kernels::BalanceFactoredGram gram{
      args.tasks, {}, args.gradient_products, args.gradient_products_row_stride, args.weight_products, args.weight_products_row_stride,
      args.gram};
  std::copy_n(args.starts, args.tasks + 1, gram.starts);
  return stream.check(kernels::balance_factored_gram(gram, stream.get()), "cudamoe_balance_factored_gram");
}

cudamoe_status combine(void* handle, const cudamoe_balance_combine_args& args) {
  const Stream& stream = stream_of(handle);
  const bool dense = args.row_stride == args.width && args.output_row_stride == args.width;
  const kernels::BalanceGradients gradients = gradients_of(args, dense);
  const kernels::BalanceCombine combine{gradients, args.weights, args.output, dense ? gradients.width : args.output_row_stride,
                                        args.accumulate};
  return stream.check(kernels::balance_combine(combine, stream.get()), "cudamoe_balance_combine");
}

kernels::BalanceGradients strided(const cudamoe_balance_columns_args& args) {
  return {args.tasks, args.rows, args.width, args.gradients, args.task_stride, args.row_stride};
}

int64_t columns_workspace(void*, const cudamoe_balance_columns_args& args) {
  const int64_t chunks = kernels::balance_column_chunks(args.rows);
  return chunks == 1 ? 0 : chunks * args.parts * args.tasks * args.width * static_cast<int64_t>(sizeof(double));
}

cudamoe_status columns(void* handle, const cudamoe_balance_columns_args& args) {
  const Stream& stream = stream_of(handle);
  const int64_t chunks = kernels::balance_column_chunks(args.rows), count = int64_t{args.parts} * args.tasks * args.width;
  auto* partials = chunks == 1 ? args.sums : static_cast<double*>(args.workspace);
  const kernels::BalanceColumns columns{strided(args), args.values, args.values_task_stride, args.values_row_stride, args.parts, partials};
  cudaError_t error = kernels::balance_column_chunk_sums(columns, stream.get());
  if (error == cudaSuccess && chunks > 1) error = kernels::balance_column_sum(partials, chunks, count, args.sums, stream.get());
  return stream.check(error, "cudamoe_balance_columns");
}

cudamoe_status scale(void* handle, const cudamoe_balance_scale_args& args) {
  const Stream& stream = stream_of(handle);
  const kernels::BalanceGradients gradients{args.tasks, args.rows, args.width, args.gradients, args.task_stride, args.row_stride};
  return stream.check(kernels::balance_scale({gradients, args.gradients, args.factors}, stream.get()), "cudamoe_balance_scale");
}

cudamoe_status average(void* handle, const cudamoe_balance_average_args& args) {
  const Stream& stream = stream_of(handle);
  return stream.check(kernels::balance_average(args.count, args.rate, args.values, args.averages, stream.get()), "cudamoe_balance_average");
}

}  // namespace

void register_balance(Backend& table) {
  table.balance_gram = gram;
  table.balance_gram_workspace = gram_workspace;
  table.balance_factored_gram = factored_gram;
  table.balance_combine = combine;
  table.balance_columns = columns;
  table.balance_columns_workspace = columns_workspace;
  table.balance_scale = scale;
  table.balance_average = average;
}

}  // namespace cudamoe::cuda
