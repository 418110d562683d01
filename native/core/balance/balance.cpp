// The balance functions of the ABI: Gram matrices of task gradients, their weighted sum, sums and factors of their columns, moving
// averages.
#include "core/abi.h"

using namespace cudamoe;

namespace {

// Gradients [tasks, rows, width]: tasks may follow each other at any distance that keeps them apart, also interleaved row by row.
template <class Args>
void check_gradients_shape(Check& check, const Args& args) {
  check.range("tasks", args.tasks, 1, CUDAMOE_MAX_TASKS).count("rows", args.rows).count("width", args.width);
  const int64_t elements = check.ok() ? checked_product(args.rows, args.width) : 0;
  check.require(elements != kOverflow && elements <= kMaxCount, "rows is %lld and width %lld; their product exceeds the address space",
                static_cast<long long>(args.rows), static_cast<long long>(args.width));
  check.stride("row_stride", args.row_stride, args.width, args.rows).range("task_stride", args.task_stride, 0, kMaxCount);
  check.require(!check.ok() || checked_product(args.tasks, args.task_stride) != kOverflow,
                "task_stride is %lld; %d tasks of it exceed the address space", static_cast<long long>(args.task_stride), args.tasks);
}

template <class Args>
int64_t gradients_bytes(const Args& args) {
  const int64_t one = span_bytes(args.rows, args.width, args.row_stride, 4);
  return one == 0 ? 0 : one + 4 * (args.tasks - 1) * args.task_stride;
}

template <class Args>
void check_gradients(Check& check, const Args& args) {
  check_gradients_shape(check, args);
  if (check.ok()) check.data("gradients", args.gradients, 4, args.rows * args.width);
}

// Whether the elements of the tasks lie apart: task after task, or beside each other within a row.
template <class Args>
bool tasks_apart(const Args& args) {
  const int64_t one = span_bytes(args.rows, args.width, args.row_stride, 4) / 4;
  return args.tasks == 1 || one == 0 || args.task_stride >= one ||
         (args.task_stride >= args.width && (args.rows == 1 || args.row_stride >= args.tasks * args.task_stride));
}

void check_columns_shape(Check& check, const cudamoe_balance_columns_args& args) {
  check_gradients_shape(check, args);
  check.range("parts", args.parts, 1, 2).zero("reserved", args.reserved);
}

}  // namespace

extern "C" {

cudamoe_status cudamoe_balance_gram_workspace(cudamoe_stream* stream, const cudamoe_balance_gram_args* args, int64_t* bytes) {
  return run_query("cudamoe_balance_gram_workspace", stream, args, bytes, &Backend::balance_gram_workspace,
                   [](Check& check, const cudamoe_balance_gram_args& a) { check_gradients_shape(check, a); });
}

cudamoe_status cudamoe_balance_gram(cudamoe_stream* stream, const cudamoe_balance_gram_args* args) {
  return run_operation("cudamoe_balance_gram", stream, args, &Backend::balance_gram,
                       [](Check& check, const cudamoe_balance_gram_args& a, cudamoe_stream* s) {
                         check_gradients(check, a);
                         check.pointer("gram", a.gram, 8);
                         if (!check.ok()) return;
                         check.workspace(a.workspace, a.workspace_bytes, needed_bytes(s, &Backend::balance_gram_workspace, a));
                         const int64_t gram_bytes = int64_t{8} * a.tasks * a.tasks;
                         check.disjoint("gram", a.gram, gram_bytes, "gradients", a.gradients, gradients_bytes(a));
                         check.disjoint("gram", a.gram, gram_bytes, "workspace", a.workspace, a.workspace_bytes);
                         check.disjoint("workspace", a.workspace, a.workspace_bytes, "gradients", a.gradients, gradients_bytes(a));
                       });
}

cudamoe_status cudamoe_balance_factored_gram(cudamoe_stream* stream, const cudamoe_balance_factored_gram_args* args) {
  return run_operation(
      "cudamoe_balance_factored_gram", stream, args, &Backend::balance_factored_gram,
      [](Check& check, const cudamoe_balance_factored_gram_args& a, cudamoe_stream*) {
        check.range("tasks", a.tasks, 1, CUDAMOE_MAX_TASKS);
        check.require(a.starts != nullptr, "starts is null; it must point to tasks + 1 numbers on the host");
        check.optional("starts", a.starts, 8);
        if (!check.ok()) return;
        check.range("starts[0]", a.starts[0], 0, 0);
        for (int32_t t = 0; t < a.tasks; ++t) {
          check.require(a.starts[t + 1] >= a.starts[t] && a.starts[t + 1] <= kMaxCount, "starts[%d] is %lld after %lld; starts must ascend",
                        t + 1, static_cast<long long>(a.starts[t + 1]), static_cast<long long>(a.starts[t]));
        }
        if (!check.ok()) return;
        const int64_t h = a.starts[a.tasks];
        check.stride("gradient_products_row_stride", a.gradient_products_row_stride, h, h);
        check.stride("weight_products_row_stride", a.weight_products_row_stride, h, h);
        check.data("gradient_products", a.gradient_products, 4, h)
            .data("weight_products", a.weight_products, 4, h)
            .pointer("gram", a.gram, 8);
        if (!check.ok()) return;
        const int64_t gram_bytes = int64_t{8} * a.tasks * a.tasks;
        check.disjoint("gram", a.gram, gram_bytes, "gradient_products", a.gradient_products,
                       span_bytes(h, h, a.gradient_products_row_stride, 4));
        check.disjoint("gram", a.gram, gram_bytes, "weight_products", a.weight_products, span_bytes(h, h, a.weight_products_row_stride, 4));
      });
}

cudamoe_status cudamoe_balance_combine(cudamoe_stream* stream, const cudamoe_balance_combine_args* args) {
  return run_operation("cudamoe_balance_combine", stream, args, &Backend::balance_combine,
                       [](Check& check, const cudamoe_balance_combine_args& a, cudamoe_stream*) {
                         check_gradients(check, a);
                         check.flag("accumulate", a.accumulate).zero("reserved", a.reserved).pointer("weights", a.weights, 4);
                         check.stride("output_row_stride", a.output_row_stride, a.width, a.rows);
                         if (!check.ok()) return;
                         check.data("output", a.output, 4, a.rows * a.width);
                         if (!check.ok()) return;
                         const int64_t output_bytes = span_bytes(a.rows, a.width, a.output_row_stride, 4);
                         check.disjoint("output", a.output, output_bytes, "weights", a.weights, int64_t{4} * a.tasks);
                         if (a.output == a.gradients) {
                           check.require(a.output_row_stride == a.row_stride,
                                         "output is the first task's gradient and output_row_stride is %lld; it must be row_stride, %lld",
                                         static_cast<long long>(a.output_row_stride), static_cast<long long>(a.row_stride));
                           check.require(a.accumulate == 0, "accumulate is 1; it must be 0 when output is the first task's gradient");
                           check.require(tasks_apart(a),
                                         "output is the first task's gradient, which overlaps those of other tasks: task_stride is %lld",
                                         static_cast<long long>(a.task_stride));
                         } else {
                           check.disjoint("output", a.output, output_bytes, "gradients", a.gradients, gradients_bytes(a));
                         }
                       });
}

cudamoe_status cudamoe_balance_columns_workspace(cudamoe_stream* stream, const cudamoe_balance_columns_args* args, int64_t* bytes) {
  return run_query("cudamoe_balance_columns_workspace", stream, args, bytes, &Backend::balance_columns_workspace, check_columns_shape);
}

cudamoe_status cudamoe_balance_columns(cudamoe_stream* stream, const cudamoe_balance_columns_args* args) {
  return run_operation(
      "cudamoe_balance_columns", stream, args, &Backend::balance_columns,
      [](Check& check, const cudamoe_balance_columns_args& a, cudamoe_stream* s) {
        check_columns_shape(check, a);
        if (!check.ok()) return;
        check.data("gradients", a.gradients, 4, a.rows * a.width).data("sums", a.sums, 8, a.width).optional("values", a.values, 4);
        if (a.values != nullptr) {
          check.stride("values_row_stride", a.values_row_stride, a.width, a.rows)
              .range("values_task_stride", a.values_task_stride, 0, kMaxCount);
          check.require(!check.ok() || checked_product(a.tasks, a.values_task_stride) != kOverflow,
                        "values_task_stride is %lld; %d tasks of it exceed the address space", static_cast<long long>(a.values_task_stride),
                        a.tasks);
        }
        if (!check.ok()) return;
        check.workspace(a.workspace, a.workspace_bytes, needed_bytes(s, &Backend::balance_columns_workspace, a));
        const int64_t sums_bytes = int64_t{8} * a.parts * a.tasks * a.width;
        check.disjoint("sums", a.sums, sums_bytes, "gradients", a.gradients, gradients_bytes(a));
        check.disjoint("sums", a.sums, sums_bytes, "workspace", a.workspace, a.workspace_bytes);
        check.disjoint("workspace", a.workspace, a.workspace_bytes, "gradients", a.gradients, gradients_bytes(a));
        if (a.values == nullptr) return;
        const int64_t one = span_bytes(a.rows, a.width, a.values_row_stride, 4);
        const int64_t values_bytes = one == 0 ? 0 : one + 4 * (a.tasks - 1) * a.values_task_stride;
        check.disjoint("sums", a.sums, sums_bytes, "values", a.values, values_bytes);
        check.disjoint("workspace", a.workspace, a.workspace_bytes, "values", a.values, values_bytes);
      });
}

cudamoe_status cudamoe_balance_scale(cudamoe_stream* stream, const cudamoe_balance_scale_args* args) {
  return run_operation("cudamoe_balance_scale", stream, args, &Backend::balance_scale,
                       [](Check& check, const cudamoe_balance_scale_args& a, cudamoe_stream*) {
                         check_gradients(check, a);
                         if (!check.ok()) return;
                         check.data("factors", a.factors, 4, a.width);
                         check.require(tasks_apart(a), "task_stride is %lld; the gradients of the tasks must not overlap",
                                       static_cast<long long>(a.task_stride));
                         if (!check.ok()) return;
                         check.disjoint("gradients", a.gradients, gradients_bytes(a), "factors", a.factors, int64_t{4} * a.tasks * a.width);
                       });
}

cudamoe_status cudamoe_balance_average(cudamoe_stream* stream, const cudamoe_balance_average_args* args) {
  return run_operation("cudamoe_balance_average", stream, args, &Backend::balance_average,
                       [](Check& check, const cudamoe_balance_average_args& a, cudamoe_stream*) {
                         check.real("rate", static_cast<double>(a.rate), 0, 1).count("count", a.count);
                         check.data("values", a.values, 4, a.count).data("averages", a.averages, 4, a.count);
                         if (!check.ok()) return;
                         check.disjoint("averages", a.averages, 4 * a.count, "values", a.values, 4 * a.count);
                       });
}

}  // extern "C"
