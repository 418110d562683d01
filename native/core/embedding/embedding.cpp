// The embedding functions of the ABI: pooled look-ups, the fused update and the merged gradient.
#include <algorithm>
#include <bit>
#include <vector>

#include "core/abi.h"
#include "core/embedding/caches.h"

using namespace cudamoe;

namespace {

void check_update_shape(Check& check, const cudamoe_embedding_update_args& args) { check_embedding_shape(check, embedding_shape(args)); }

void check_optimizer(Check& check, const cudamoe_embedding_update_args& args) {
  const int32_t optimizer = args.optimizer;
  check.require(optimizer == CUDAMOE_OPTIMIZER_SGD || optimizer == CUDAMOE_OPTIMIZER_ADAGRAD ||
                    optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD || optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAM,
                "optimizer is %d; an embedding takes 0 (SGD), 1 (AdaGrad), 2 (row-wise AdaGrad) or 4 (row-wise Adam)", optimizer);
  if (args.numbers == nullptr) {
    check.real("learning_rate", args.learning_rate, 0);
    check.range("step", args.step, 1, std::numeric_limits<int64_t>::max());
  }
  check.real("weight_decay", args.weight_decay, 0);
  check.real("gradient_scale", args.gradient_scale, std::numeric_limits<double>::lowest());
  if (optimizer != CUDAMOE_OPTIMIZER_SGD) {
    check.require(args.epsilon > 0, "epsilon is %g; it must be greater than 0", static_cast<double>(args.epsilon));
    check.real("epsilon", args.epsilon, 0);
  }
  if (optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAM) {
    check.real("beta1", args.beta1, 0).require(args.beta1 < 1, "beta1 is %g; it must be less than 1", static_cast<double>(args.beta1));
    check.real("beta2", args.beta2, 0).require(args.beta2 < 1, "beta2 is %g; it must be less than 1", static_cast<double>(args.beta2));
  }
}

// A matrix that an update writes: rows of `width` bytes at `stride` bytes.
struct WrittenMatrix {
  uintptr_t begin, end, stride, width;
  int32_t table;
  const char* field;
};

// Two matrices whose spans overlap are apart when their rows interleave, e.g. weights and a state kept in one wide row.
bool interleave(const WrittenMatrix& a, const WrittenMatrix& b) {
  if (a.stride != b.stride) return false;
  const uintptr_t distance = (b.begin - a.begin) % a.stride;
  return distance >= a.width && a.stride - distance >= b.width;
}

void check_written_apart(Check& check, const cudamoe_embedding_update_args& args) {
  if (!check.ok()) return;
  const int32_t optimizer = args.optimizer;
  const bool has_state1 = optimizer != CUDAMOE_OPTIMIZER_SGD, has_state2 = optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAM;
  std::vector<WrittenMatrix> matrices;
  matrices.reserve(static_cast<size_t>(args.table_count) * 3);
  for (int32_t t = 0; t < args.table_count; ++t) {
    const cudamoe_embedding_table& table = args.tables[t];
    const auto add = [&](const void* pointer, int64_t width, int64_t stride, int64_t element, const char* field) {
      const auto begin = reinterpret_cast<uintptr_t>(pointer);
      matrices.push_back({begin, begin + static_cast<uintptr_t>(span_bytes(table.rows, width, stride, element)),
                          static_cast<uintptr_t>(stride * element), static_cast<uintptr_t>(width * element), t, field});
    };
    add(table.weights, table.dim, table.row_stride, dtype_bytes(table.dtype), "weights");
    if (has_state1 && optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD) add(table.state1, 1, 1, 4, "state1");
    if (has_state1 && optimizer != CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD) add(table.state1, table.dim, table.row_stride, 4, "state1");
    if (has_state2) add(table.state2, 1, 1, 4, "state2");
  }
  std::sort(matrices.begin(), matrices.end(), [](const WrittenMatrix& a, const WrittenMatrix& b) { return a.begin < b.begin; });
  for (size_t i = 0; i < matrices.size(); ++i) {
    const WrittenMatrix& a = matrices[i];
    for (size_t j = i + 1; j < matrices.size() && matrices[j].begin < a.end; ++j) {
      const WrittenMatrix& b = matrices[j];
      check.require(interleave(a, b), "tables[%d].%s overlaps tables[%d].%s; what an update writes must be apart", a.table, a.field,
                    b.table, b.field);
    }
    for (const auto& [pointer, bytes, field] :
         {std::tuple{static_cast<const void*>(args.gradient),
                     span_bytes(args.batch, embedding_width(embedding_shape(args)), args.gradient_row_stride, 4), "gradient"},
          std::tuple{static_cast<const void*>(args.workspace), args.workspace_bytes, "workspace"},
          std::tuple{static_cast<const void*>(args.norm), int64_t{sizeof(double)}, "norm"},
          std::tuple{static_cast<const void*>(args.numbers), int64_t{sizeof(cudamoe_step_numbers)}, "numbers"}}) {
      const auto begin = reinterpret_cast<uintptr_t>(pointer);
      check.require(bytes <= 0 || begin >= a.end || begin + static_cast<uintptr_t>(bytes) <= a.begin,
                    "tables[%d].%s overlaps %s; they must be apart", a.table, a.field, field);
    }
  }
}

// A cached row is updated with its states, so they must be there as well.
void check_update_caches(Check& check, const cudamoe_embedding_update_args& args, const cudamoe_stream* stream) {
  const EmbeddingCaches caches = embedding_caches(args);
  check_caches(check, caches, stream);
  for (int32_t t = 0; check.ok() && t < args.table_count; ++t) {
    if (args.caches[t].rows > 0 && args.caches[t].optimizer != args.optimizer)
      check.broken("caches[%d].optimizer is %d; it must be optimizer, %d", t, args.caches[t].optimizer, args.optimizer);
  }
  if (!check.ok()) return;
  const int64_t gradient_bytes = span_bytes(args.batch, embedding_width(embedding_shape(args)), args.gradient_row_stride, 4);
  check_apart_from_caches(check, caches, "gradient", args.gradient, gradient_bytes);
  check_apart_from_caches(check, caches, "workspace", args.workspace, args.workspace_bytes);
  check_apart_from_caches(check, caches, "norm", args.norm, sizeof(double));
  check_apart_from_caches(check, caches, "numbers", args.numbers, sizeof(cudamoe_step_numbers));
}

void check_gradient_shape(Check& check, const cudamoe_embedding_gradient_args& args) {
  check_embedding_shape(check, embedding_shape(args));
}

}  // namespace

extern "C" {

cudamoe_status cudamoe_embedding_forward(cudamoe_stream* stream, const cudamoe_embedding_forward_args* args) {
  return run_operation("cudamoe_embedding_forward", stream, args, &Backend::embedding_forward,
                       [](Check& check, const cudamoe_embedding_forward_args& a, cudamoe_stream* s) {
                         const EmbeddingShape shape = embedding_shape(a);
                         check.dtype("output_dtype", a.output_dtype).zero("reserved", a.reserved);
                         check_embedding_shape(check, shape);
                         check_embedding_lookups(check, shape, true);
                         if (!check.ok()) return;
                         const int64_t width = embedding_width(shape), bytes = dtype_bytes(a.output_dtype);
                         check.stride("output_row_stride", a.output_row_stride, width, a.batch);
                         check.data("output", a.output, static_cast<size_t>(bytes), a.batch);
                         if (!check.ok()) return;
                         const int64_t output_bytes = span_bytes(a.batch, width, a.output_row_stride, bytes);
                         check_embedding_apart(check, shape, "output", a.output, output_bytes);
                         if (a.caches == nullptr) return;
                         check_caches(check, embedding_caches(a), s);
                         check_apart_from_caches(check, embedding_caches(a), "output", a.output, output_bytes);
                       });
}

cudamoe_status cudamoe_embedding_update_workspace(cudamoe_stream* stream, const cudamoe_embedding_update_args* args, int64_t* bytes) {
  return run_query("cudamoe_embedding_update_workspace", stream, args, bytes, &Backend::embedding_update_workspace, check_update_shape);
}

cudamoe_status cudamoe_embedding_update(cudamoe_stream* stream, const cudamoe_embedding_update_args* args) {
  return run_operation("cudamoe_embedding_update", stream, args, &Backend::embedding_update,
                       [](Check& check, const cudamoe_embedding_update_args& a, cudamoe_stream* s) {
                         const EmbeddingShape shape = embedding_shape(a);
                         check.zero("reserved", a.reserved);
                         check_optimizer(check, a);
                         check_embedding_shape(check, shape);
                         check_embedding_lookups(check, shape, true);
                         if (!check.ok()) return;
                         check.stride("gradient_row_stride", a.gradient_row_stride, embedding_width(shape), a.batch);
                         check.data("gradient", a.gradient, 4, a.batch).optional("norm", a.norm, 8).optional("numbers", a.numbers, 8);
                         for (int32_t t = 0; check.ok() && t < a.table_count; ++t) {
                           const cudamoe_embedding_table& table = a.tables[t];
                           if (a.optimizer != CUDAMOE_OPTIMIZER_SGD) check_indexed_pointer(check, "tables", t, "state1", table.state1, 4);
                           if (a.optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAM)
                             check_indexed_pointer(check, "tables", t, "state2", table.state2, 4);
                         }
                         if (!check.ok()) return;
                         check.workspace(a.workspace, a.workspace_bytes, needed_bytes(s, &Backend::embedding_update_workspace, a));
                         check.disjoint("workspace", a.workspace, a.workspace_bytes, "numbers", a.numbers, sizeof(cudamoe_step_numbers));
                         check_written_apart(check, a);
                         if (check.ok() && a.caches != nullptr) check_update_caches(check, a, s);
                       });
}

cudamoe_status cudamoe_embedding_gradient_workspace(cudamoe_stream* stream, const cudamoe_embedding_gradient_args* args, int64_t* bytes) {
  return run_query("cudamoe_embedding_gradient_workspace", stream, args, bytes, &Backend::embedding_gradient_workspace,
                   check_gradient_shape);
}

cudamoe_status cudamoe_embedding_gradient(cudamoe_stream* stream, const cudamoe_embedding_gradient_args* args) {
  return run_operation(
      "cudamoe_embedding_gradient", stream, args, &Backend::embedding_gradient,
      [](Check& check, const cudamoe_embedding_gradient_args& a, cudamoe_stream* s) {
        const EmbeddingShape shape = embedding_shape(a);
        check_embedding_shape(check, shape);
        check_embedding_lookups(check, shape, false);
        if (!check.ok()) return;
        int64_t lookups = 0, dim = 1;
        for (int32_t f = 0; f < a.feature_count; ++f) {
          lookups += a.features[f].lookups;
          dim = std::max<int64_t>(dim, a.tables[a.features[f].table].dim);
        }
        check.stride("gradient_row_stride", a.gradient_row_stride, embedding_width(shape), a.batch);
        check.data("gradient", a.gradient, 4, a.batch);
        check.data("unique_rows", a.unique_rows, 4, lookups).data("values", a.values, 4, lookups).pointer("counts", a.counts, 8);
        check.stride("values_row_stride", a.values_row_stride, dim, lookups);
        if (!check.ok()) return;
        check.workspace(a.workspace, a.workspace_bytes, needed_bytes(s, &Backend::embedding_gradient_workspace, a));
        const int64_t gradient_bytes = span_bytes(a.batch, embedding_width(shape), a.gradient_row_stride, 4);
        const int64_t values_bytes = span_bytes(lookups, dim, a.values_row_stride, 4), counts_bytes = int64_t{8} * a.table_count;
        check.disjoint("values", a.values, values_bytes, "gradient", a.gradient, gradient_bytes);
        check.disjoint("values", a.values, values_bytes, "unique_rows", a.unique_rows, 4 * lookups);
        check.disjoint("values", a.values, values_bytes, "counts", a.counts, counts_bytes);
        check.disjoint("values", a.values, values_bytes, "workspace", a.workspace, a.workspace_bytes);
        check.disjoint("unique_rows", a.unique_rows, 4 * lookups, "gradient", a.gradient, gradient_bytes);
        check.disjoint("unique_rows", a.unique_rows, 4 * lookups, "counts", a.counts, counts_bytes);
        check.disjoint("unique_rows", a.unique_rows, 4 * lookups, "workspace", a.workspace, a.workspace_bytes);
        check.disjoint("counts", a.counts, counts_bytes, "workspace", a.workspace, a.workspace_bytes);
        check.disjoint("workspace", a.workspace, a.workspace_bytes, "gradient", a.gradient, gradient_bytes);
      });
}

}  // extern "C"
