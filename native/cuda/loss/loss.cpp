// The loss family. A loss: tasks in tables of at most kLossTasks, two launches for each.
#include "loss/loss.h"

#include <algorithm>

#include "cuda/device.h"

namespace cudamoe::cuda {
namespace {

using kernels::kLossTasks;
using kernels::LossPartial;
using kernels::LossTable;

// At least one, so that every output is written for no rows too.
int64_t blocks_of(int64_t rows) {
  const int64_t of_block = kernels::loss_block_rows(rows);
  return std::max<int64_t>(1, (rows + of_block - 1) / of_block);
}
int64_t partial_bytes(const cudamoe_loss_args& args) {
  return args.task_count * blocks_of(args.rows) * static_cast<int64_t>(sizeof(LossPartial));
}

kernels::LossKind kind_of(int32_t kind) {
  switch (kind) {
    case CUDAMOE_LOSS_BINARY:
      return kernels::LossKind::kBinary;
    case CUDAMOE_LOSS_SQUARED:
      return kernels::LossKind::kSquared;
    default:
      return kernels::LossKind::kSoftmax;
  }
}

LossTable table_of(const cudamoe_loss_args& args, int32_t first, const Stream& stream) {
  LossTable table{};
  table.first_task = first;
  table.tasks = std::min(kLossTasks, args.task_count - first);
  table.rows = args.rows;
  table.block_rows = kernels::loss_block_rows(args.rows);
  table.blocks = blocks_of(args.rows);
  table.partials = static_cast<LossPartial*>(args.workspace) + first * table.blocks;
  table.finished = reinterpret_cast<uint32_t*>(static_cast<char*>(args.workspace) + partial_bytes(args)) + first;
  table.weight_sums = args.weight_sums + first;
  table.losses = args.losses + first;
  table.offender = static_cast<kernels::OffenderCell*>(stream.scratch());
  table.report = stream.device_report();
  for (int32_t t = 0; t < table.tasks; ++t) {
    const cudamoe_loss_task& task = args.tasks[first + t];
    table.task[t] = {task.logits,
                     task.labels,
                     task.weights,
                     task.dlogits,
                     task.logits_row_stride,
                     task.labels_stride,
                     task.weights_stride,
                     task.dlogits_row_stride,
                     kind_of(task.kind),
                     task.classes,
                     task.scale};
  }
  return table;
}

int64_t loss_workspace(void*, const cudamoe_loss_args& args) {
  return partial_bytes(args) + args.task_count * static_cast<int64_t>(sizeof(uint32_t));
}

cudamoe_status loss(void* handle, const cudamoe_loss_args& args) {
  const Stream& stream = stream_of(handle);
  cudaError_t error = cudaSuccess;
  for (int32_t first = 0; first < args.task_count && error == cudaSuccess; first += kLossTasks) {
    const LossTable table = table_of(args, first, stream);
    error = kernels::loss_weights(table, stream.get());
    if (error == cudaSuccess) error = kernels::loss_values(table, stream.get());
  }
  return stream.check(error, "cudamoe_loss");
}

cudamoe_status joint_logits_forward(void* handle, const cudamoe_joint_logits_forward_args& args) {
  const Stream& stream = stream_of(handle);
  if (args.rows == 0) return CUDAMOE_OK;
  const cudaError_t error =
      kernels::joint_logits({args.rows, args.a, args.b, args.a_stride, args.b_stride, args.joint, args.joint_stride}, stream.get());
  return stream.check(error, "cudamoe_joint_logits_forward");
}

cudamoe_status joint_logits_backward(void* handle, const cudamoe_joint_logits_backward_args& args) {
  const Stream& stream = stream_of(handle);
  if (args.rows == 0) return CUDAMOE_OK;
  const cudaError_t error =
      kernels::joint_logits_gradient({args.rows, args.a, args.b, args.djoint, args.a_stride, args.b_stride, args.djoint_stride, args.da,
                                      args.db, args.da_stride, args.db_stride, args.accumulate_a, args.accumulate_b},
                                     stream.get());
  return stream.check(error, "cudamoe_joint_logits_backward");
}

}  // namespace

void register_loss(Backend& table) {
  table.loss = loss;
  table.loss_workspace = loss_workspace;
  table.joint_logits_forward = joint_logits_forward;
  table.joint_logits_backward = joint_logits_backward;
}

}  // namespace cudamoe::cuda
