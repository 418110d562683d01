// Checks of the graph operations.
#include "core/abi.h"

namespace cudamoe {
namespace {

constexpr int64_t kMaxNodes = std::numeric_limits<int32_t>::max();

// The matrix that all three have.
template <class Args>
void check_shape(Check& check, const Args& args) {
  check.flag("mean", args.mean)
      .range("rows", args.rows, 0, kMaxNodes)
      .range("columns", args.columns, 0, kMaxNodes)
      .count("edges", args.edges);
}

template <class Args>
void check_matrix(Check& check, const Args& args) {
  check_shape(check, args);
  check.data("offsets", args.offsets, alignof(int64_t), 1).data("neighbours", args.neighbours, alignof(int32_t), args.edges);
}

struct Rows {
  const char* field;
  const float* data;
  const char* stride_field;
  int64_t stride, rows;
};

void check_rows(Check& check, const Rows& m, int64_t width) {
  check.data(m.field, m.data, alignof(float), width > 0 ? m.rows : 0).stride(m.stride_field, m.stride, width, m.rows);
}

void check_aggregate(Check& check, const cudamoe_graph_aggregate_args& args, const cudamoe_stream*) {
  check.zero("reserved", args.reserved).flag("accumulate", args.accumulate);
  check_matrix(check, args);
  check.count("width", args.width).optional("weights", args.weights, alignof(float));
  check_rows(check, {"x", args.x, "x_row_stride", args.x_row_stride, args.columns}, args.width);
  check_rows(check, {"y", args.y, "y_row_stride", args.y_row_stride, args.rows}, args.width);
  if (!check.ok()) return;
  const int64_t y = span_bytes(args.rows, args.width, args.y_row_stride, 4);
  check.disjoint("y", args.y, y, "x", args.x, span_bytes(args.columns, args.width, args.x_row_stride, 4));
  check.disjoint("y", args.y, y, "weights", args.weights, args.edges * 4)
      .disjoint("y", args.y, y, "offsets", args.offsets, args.rows * 8 + 8);
  check.disjoint("y", args.y, y, "neighbours", args.neighbours, args.edges * 4);
}

void check_edge_gradient(Check& check, const cudamoe_graph_edge_gradient_args& args, const cudamoe_stream*) {
  check.zero("reserved", args.reserved).flag("accumulate", args.accumulate);
  check_matrix(check, args);
  check.count("width", args.width).data("dweights", args.dweights, alignof(float), args.edges);
  check_rows(check, {"x", args.x, "x_row_stride", args.x_row_stride, args.columns}, args.width);
  check_rows(check, {"dy", args.dy, "dy_row_stride", args.dy_row_stride, args.rows}, args.width);
  if (!check.ok()) return;
  const int64_t bytes = args.edges * 4;
  check.disjoint("dweights", args.dweights, bytes, "x", args.x, span_bytes(args.columns, args.width, args.x_row_stride, 4));
  check.disjoint("dweights", args.dweights, bytes, "dy", args.dy, span_bytes(args.rows, args.width, args.dy_row_stride, 4));
  check.disjoint("dweights", args.dweights, bytes, "offsets", args.offsets, args.rows * 8 + 8);
  check.disjoint("dweights", args.dweights, bytes, "neighbours", args.neighbours, bytes);
}

void check_transpose(Check& check, const cudamoe_graph_transpose_args& args, const cudamoe_stream* stream) {
  check_matrix(check, args);
  check.optional("weights", args.weights, alignof(float));
  check.data("transposed_offsets", args.transposed_offsets, alignof(int64_t), 1);
  check.data("transposed_neighbours", args.transposed_neighbours, alignof(int32_t), args.edges);
  check.optional("transposed_weights", args.transposed_weights, alignof(float));
  if (!check.ok()) return;
  struct Part {
    const char* field;
    const void* data;
    int64_t bytes;
  };
  const Part inputs[] = {{"offsets", args.offsets, args.rows * 8 + 8},
                         {"neighbours", args.neighbours, args.edges * 4},
                         {"weights", args.weights, args.edges * 4}};
  const Part outputs[] = {{"transposed_offsets", args.transposed_offsets, args.columns * 8 + 8},
                          {"transposed_neighbours", args.transposed_neighbours, args.edges * 4},
                          {"transposed_weights", args.transposed_weights, args.edges * 4}};
  for (const Part& out : outputs) {
    for (const Part& in : inputs) check.disjoint(out.field, out.data, out.bytes, in.field, in.data, in.bytes);
  }
  check.disjoint(outputs[0].field, outputs[0].data, outputs[0].bytes, outputs[1].field, outputs[1].data, outputs[1].bytes);
  check.disjoint(outputs[0].field, outputs[0].data, outputs[0].bytes, outputs[2].field, outputs[2].data, outputs[2].bytes);
  check.disjoint(outputs[1].field, outputs[1].data, outputs[1].bytes, outputs[2].field, outputs[2].data, outputs[2].bytes);
  if (check.ok()) check.workspace(args.workspace, args.workspace_bytes, needed_bytes(stream, &Backend::graph_transpose_workspace, args));
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_graph_aggregate(cudamoe_stream* stream, const cudamoe_graph_aggregate_args* args) {
  return run_operation("cudamoe_graph_aggregate", stream, args, &Backend::graph_aggregate, check_aggregate);
}

cudamoe_status cudamoe_graph_edge_gradient(cudamoe_stream* stream, const cudamoe_graph_edge_gradient_args* args) {
  return run_operation("cudamoe_graph_edge_gradient", stream, args, &Backend::graph_edge_gradient, check_edge_gradient);
}

cudamoe_status cudamoe_graph_transpose_workspace(cudamoe_stream* stream, const cudamoe_graph_transpose_args* args, int64_t* bytes) {
  return run_query("cudamoe_graph_transpose_workspace", stream, args, bytes, &Backend::graph_transpose_workspace,
                   check_shape<cudamoe_graph_transpose_args>);
}

cudamoe_status cudamoe_graph_transpose(cudamoe_stream* stream, const cudamoe_graph_transpose_args* args) {
  return run_operation("cudamoe_graph_transpose", stream, args, &Backend::graph_transpose, check_transpose);
}

}  // extern "C"
