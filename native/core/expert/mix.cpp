// cudamoe_expert_mix and its work space query: the rules of their arguments.
#include <algorithm>
#include <iterator>

#include "core/expert/rules.h"
#include "core/nested.h"

namespace cudamoe {
namespace {

using Args = cudamoe_expert_mix_args;

constexpr int32_t kMaxTasks = 4096;
constexpr int64_t kMaxPairs = std::numeric_limits<int32_t>::max();

Check& check_shape(Check& check, const Args& args) {
  check.range("experts", args.experts, 1, CUDAMOE_MAX_EXPERTS).range("tasks", args.tasks, 1, kMaxTasks);
  check.range("choices", args.choices, 1, CUDAMOE_MAX_EXPERTS);
  if (!check.ok()) return check;
  check_expert_shape(check, args, args.experts);
  constexpr int64_t kMostSamplesAtOnce = int64_t{1} << 16;  // that a work space may hold
  const int64_t of_sample = std::max(int64_t{args.tasks} * args.choices, int64_t{args.experts});
  check.require(
      !check.ok() || checked_product(checked_product(of_sample, std::max(args.n, args.hidden) + 64), kMostSamplesAtOnce) != kOverflow,
      "n is %lld and hidden is %lld with %d tasks, %d choices and %d experts; what a sample needs exceeds the address space",
      static_cast<long long>(args.n), static_cast<long long>(args.hidden), args.tasks, args.choices, args.experts);
  const int64_t pairs = checked_product(args.rows, int64_t{args.tasks} * args.choices);
  return check.require(!check.ok() || (pairs != kOverflow && pairs <= kMaxPairs),
                       "rows is %lld with %d tasks and %d choices; there must be fewer than 2^31 pairs", static_cast<long long>(args.rows),
                       args.tasks, args.choices);
}

Check& check_arguments(Check& check, const Args& args, const cudamoe_stream* stream) {
  check_shape(check, args);
  check_expert_activations(check, args);
  if (args.chosen == nullptr) {
    check.require(args.choices == args.experts, "choices is %d and chosen is null; a dense mixture has all %d experts", args.choices,
                  args.experts);
    check.optional("residual", args.residual, alignof(float));
  } else {
    check.must_be_null("residual", args.residual, "with chosen: it is for dense mixtures only");
  }
  if (!check.ok()) return check;
  const int64_t gates = args.rows * args.tasks * args.choices;
  check.stride("x_row_stride", args.x_row_stride, args.k, args.rows);
  check.data("x", args.x, static_cast<size_t>(dtype_bytes(args.x_dtype)), args.rows);
  check.data("gates", args.gates, alignof(float), gates).optional("chosen", args.chosen, alignof(int32_t));
  const int64_t element = dtype_bytes(args.y_dtype);
  const int64_t y =
      element * check_nested(check, "y_row_stride", args.y_row_stride, "y_task_stride", args.y_task_stride, args.rows, args.tasks, args.n);
  check.data("y", args.y, static_cast<size_t>(element), args.rows);
  check_expert_weights(check, args, args.experts);
  if (!check.ok()) return check;
  const int64_t needed = needed_bytes(stream, &Backend::expert_mix_workspace, args);
  check.workspace(args.workspace, args.workspace_bytes, needed);
  if (!check.ok() || args.rows == 0) return check;
  const NamedRange inputs[] = {{"x", args.x, span_bytes(args.rows, args.k, args.x_row_stride, dtype_bytes(args.x_dtype))},
                               {"gates", args.gates, gates * 4},
                               {"residual", args.residual, int64_t{args.tasks} * args.experts * 4},
                               {"chosen", args.chosen, gates * 4}};
  const NamedRange outputs[] = {{"y", args.y, y}, {"workspace", args.workspace, needed}};
  check_expert_overlaps(check, stream, args, args.experts, inputs, std::size(inputs), outputs, std::size(outputs));
  return check;
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_expert_mix_workspace(cudamoe_stream* stream, const cudamoe_expert_mix_args* args, int64_t* bytes) {
  return run_query("cudamoe_expert_mix_workspace", stream, args, bytes, &Backend::expert_mix_workspace, check_shape);
}

cudamoe_status cudamoe_expert_mix(cudamoe_stream* stream, const cudamoe_expert_mix_args* args) {
  return run_operation("cudamoe_expert_mix", stream, args, &Backend::expert_mix, check_arguments);
}

}  // extern "C"
