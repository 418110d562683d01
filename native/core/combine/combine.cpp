// Checks of the combine operations.
#include "core/nested.h"

namespace cudamoe {
namespace {

constexpr int32_t kMaxTasks = 4096;
constexpr int32_t kMaxChoices = CUDAMOE_MAX_EXPERTS;

// Shape and the pointers that forward and backward have in common.
template <class Args>
void check_shape(Check& check, const Args& args) {
  check.range("tasks", args.tasks, 1, kMaxTasks).count("rows", args.rows).count("width", args.width);
  check.range("choices", args.choices, 1, kMaxChoices).dtype("expert_dtype", args.expert_dtype);
  check.require(!check.ok() || checked_product(args.rows, int64_t{args.tasks} * args.choices) != kOverflow,
                "rows is %lld; the gates exceed the address space", static_cast<long long>(args.rows));
}

struct Extents {
  int64_t gates, experts;  // in bytes
};

template <class Args>
Extents check_inputs(Check& check, const Args& args) {
  check_shape(check, args);
  if (!check.ok()) return {};
  const int64_t gates = args.rows * args.tasks * args.choices;
  const int64_t dtype = dtype_bytes(args.expert_dtype);
  check.data("gates", args.gates, alignof(float), gates);
  int64_t experts = 0;
  if (args.slot_of_pair != nullptr) {
    check.must_be_null("residual", args.residual, "with slot_of_pair: it is for dense combines only");
    check.optional("slot_of_pair", args.slot_of_pair, alignof(int32_t));
    check.range("expert_rows", args.expert_rows, 0, std::numeric_limits<int32_t>::max());
    check.stride("expert_row_stride", args.expert_row_stride, args.width, args.expert_rows);
    if (check.ok()) experts = span_bytes(args.expert_rows, args.width, args.expert_row_stride, dtype);
  } else {
    check.optional("residual", args.residual, alignof(float));
    experts = dtype * check_nested(check, "expert_row_stride", args.expert_row_stride, "expert_stride", args.expert_stride, args.rows,
                                   args.choices, args.width);
  }
  check.data("expert", args.expert, static_cast<size_t>(dtype), experts);
  return {gates * 4, experts};
}

void check_forward(Check& check, const cudamoe_combine_forward_args& args, const cudamoe_stream*) {
  check.zero("reserved", args.reserved).zero("reserved2", args.reserved2);
  const Extents in = check_inputs(check, args);
  const int64_t y =
      4 * check_nested(check, "y_row_stride", args.y_row_stride, "y_task_stride", args.y_task_stride, args.rows, args.tasks, args.width);
  check.data("y", args.y, alignof(float), y);
  check.disjoint("y", args.y, y, "gates", args.gates, in.gates).disjoint("y", args.y, y, "expert", args.expert, in.experts);
}

void check_backward_shape(Check& check, const cudamoe_combine_backward_args& args) {
  check.zero("reserved", args.reserved);
  check_shape(check, args);
  check.range("activation", args.activation, CUDAMOE_ACTIVATION_NONE, CUDAMOE_ACTIVATION_TANH);
}

void check_backward(Check& check, const cudamoe_combine_backward_args& args, const cudamoe_stream* stream) {
  check_backward_shape(check, args);
  const Extents in = check_inputs(check, args);
  if (!check.ok()) return;
  const auto alignment = static_cast<size_t>(dtype_bytes(args.expert_dtype));
  if (args.activation == CUDAMOE_ACTIVATION_LEAKY_RELU)
    check.real("activation_slope", args.activation_slope, std::numeric_limits<float>::lowest(), std::numeric_limits<float>::max());
  if (args.activation == CUDAMOE_ACTIVATION_GELU || args.activation == CUDAMOE_ACTIVATION_SILU) {
    check.data("preactivation", args.preactivation, alignment, in.experts);
  } else {
    check.optional("preactivation", args.preactivation, alignment);
  }
  const int64_t dy = 4 * check_nested(check, "dy_row_stride", args.dy_row_stride, "dy_task_stride", args.dy_task_stride, args.rows,
                                      args.tasks, args.width);
  check.data("dy", args.dy, alignof(float), dy);
  check.optional("task_scale", args.task_scale, alignof(float));
  int64_t dexpert = 0;
  if (args.slot_of_pair != nullptr) {
    check.must_be_null("dresidual", args.dresidual, "with slot_of_pair: it is for dense combines only");
    check.stride("dexpert_row_stride", args.dexpert_row_stride, args.width, args.expert_rows);
    if (check.ok()) dexpert = span_bytes(args.expert_rows, args.width, args.dexpert_row_stride, dtype_bytes(args.expert_dtype));
  } else {
    check.optional("dresidual", args.dresidual, alignof(float));
    dexpert = dtype_bytes(args.expert_dtype) * check_nested(check, "dexpert_row_stride", args.dexpert_row_stride, "dexpert_stride",
                                                            args.dexpert_stride, args.rows, args.choices, args.width);
  }
  check.flag("accumulate_residual", args.accumulate_residual);
  check.data("dexpert", args.dexpert, alignment, dexpert).optional("dgates", args.dgates, alignof(float));
  check.disjoint("dexpert", args.dexpert, dexpert, "expert", args.expert, in.experts)
      .disjoint("dexpert", args.dexpert, dexpert, "dy", args.dy, dy);
  check.disjoint("dexpert", args.dexpert, dexpert, "gates", args.gates, in.gates)
      .disjoint("dexpert", args.dexpert, dexpert, "dgates", args.dgates, in.gates);
  if (args.activation == CUDAMOE_ACTIVATION_GELU || args.activation == CUDAMOE_ACTIVATION_SILU) {
    check.disjoint("dexpert", args.dexpert, dexpert, "preactivation", args.preactivation, in.experts);
  }
  check.disjoint("dgates", args.dgates, in.gates, "gates", args.gates, in.gates)
      .disjoint("dgates", args.dgates, in.gates, "expert", args.expert, in.experts);
  check.disjoint("dgates", args.dgates, in.gates, "dy", args.dy, dy);
  const int64_t residual = int64_t{args.tasks} * args.choices * 4;
  check.disjoint("dresidual", args.dresidual, residual, "residual", args.residual, residual);
  if (check.ok()) check.workspace(args.workspace, args.workspace_bytes, needed_bytes(stream, &Backend::combine_backward_workspace, args));
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_combine_forward(cudamoe_stream* stream, const cudamoe_combine_forward_args* args) {
  return run_operation("cudamoe_combine_forward", stream, args, &Backend::combine_forward, check_forward);
}

cudamoe_status cudamoe_combine_backward_workspace(cudamoe_stream* stream, const cudamoe_combine_backward_args* args, int64_t* bytes) {
  return run_query("cudamoe_combine_backward_workspace", stream, args, bytes, &Backend::combine_backward_workspace, check_backward_shape);
}

cudamoe_status cudamoe_combine_backward(cudamoe_stream* stream, const cudamoe_combine_backward_args* args) {
  return run_operation("cudamoe_combine_backward", stream, args, &Backend::combine_backward, check_backward);
}

}  // extern "C"
