// Checks of the loss operation.
#include "core/abi.h"

namespace cudamoe {
namespace {

constexpr int32_t kMaxLossTasks = 4096;
constexpr int32_t kMaxClasses = 1 << 24;  // labels are class indices as floats, exact up to here

// Messages name the task's field as "tasks[3].logits".
class TaskField {
 public:
  TaskField(int32_t task, const char* field) { std::snprintf(text_, sizeof text_, "tasks[%d].%s", task, field); }
  operator const char*() const { return text_; }

 private:
  char text_[64];
};

void check_shape(Check& check, const cudamoe_loss_args& args) {
  check.range("task_count", args.task_count, 0, kMaxLossTasks).count("rows", args.rows);
  if (args.task_count > 0) check.pointer("tasks", args.tasks, alignof(cudamoe_loss_task));
  if (!check.ok()) return;
  for (int32_t t = 0; t < args.task_count && check.ok(); ++t) {
    const cudamoe_loss_task& task = args.tasks[t];
    check.range(TaskField(t, "kind"), task.kind, CUDAMOE_LOSS_BINARY, CUDAMOE_LOSS_SOFTMAX);
    if (task.kind == CUDAMOE_LOSS_SOFTMAX) {
      check.range(TaskField(t, "classes"), task.classes, 2, kMaxClasses);
    } else {
      check.range(TaskField(t, "classes"), task.classes, 1, 1);
    }
    check.zero(TaskField(t, "reserved"), task.reserved);
  }
}

void check_arguments(Check& check, const cudamoe_loss_args& args, const cudamoe_stream* stream) {
  check_shape(check, args);
  check.data("losses", args.losses, alignof(double), args.task_count)
      .data("weight_sums", args.weight_sums, alignof(double), args.task_count);
  check.disjoint("losses", args.losses, args.task_count * int64_t{8}, "weight_sums", args.weight_sums, args.task_count * int64_t{8});
  for (int32_t t = 0; t < args.task_count && check.ok(); ++t) {
    const cudamoe_loss_task& task = args.tasks[t];
    check.real(TaskField(t, "scale"), task.scale, std::numeric_limits<float>::lowest(), std::numeric_limits<float>::max());
    check.data(TaskField(t, "logits"), task.logits, alignof(float), args.rows);
    check.stride(TaskField(t, "logits_row_stride"), task.logits_row_stride, task.classes, args.rows);
    check.data(TaskField(t, "labels"), task.labels, alignof(float), args.rows);
    check.stride(TaskField(t, "labels_stride"), task.labels_stride, 1, args.rows);
    check.optional(TaskField(t, "weights"), task.weights, alignof(float));
    if (task.weights != nullptr) check.stride(TaskField(t, "weights_stride"), task.weights_stride, 1, args.rows);
    check.optional(TaskField(t, "dlogits"), task.dlogits, alignof(float));
    if (task.dlogits == nullptr) continue;
    check.stride(TaskField(t, "dlogits_row_stride"), task.dlogits_row_stride, task.classes, args.rows);
    if (!check.ok()) break;
    const int64_t gradient = span_bytes(args.rows, task.classes, task.dlogits_row_stride, 4);
    // Tasks may share one logits matrix and write to one gradient matrix, column by column, so only equal pointers are certain to be wrong.
    check.require(task.dlogits != task.logits || gradient == 0, "tasks[%d].dlogits is tasks[%d].logits; they must be apart", t, t);
  }
  if (check.ok()) check.workspace(args.workspace, args.workspace_bytes, needed_bytes(stream, &Backend::loss_workspace, args));
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_loss_workspace(cudamoe_stream* stream, const cudamoe_loss_args* args, int64_t* bytes) {
  return run_query("cudamoe_loss_workspace", stream, args, bytes, &Backend::loss_workspace, check_shape);
}

cudamoe_status cudamoe_loss(cudamoe_stream* stream, const cudamoe_loss_args* args) {
  return run_operation("cudamoe_loss", stream, args, &Backend::loss, check_arguments);
}

}  // extern "C"
