// The graph family.
#include "graph/graph.h"

#include "core/error.h"
#include "cuda/device.h"
#include "cuda/graph/sorted_edges.h"

namespace cudamoe::cuda {
namespace {

using kernels::GraphFunction;

// In the stream's scratch, behind the cell of the first offender. Zero between operations.
int32_t* bad_offsets_of(const Stream& stream) { return reinterpret_cast<int32_t*>(static_cast<char*>(stream.scratch()) + 256); }

template <class Args>
kernels::GraphMatrix matrix_of(const Args& args, const Stream& stream, GraphFunction function) {
  return {args.rows,
          args.columns,
          args.edges,
          args.offsets,
          args.neighbours,
          args.mean,
          function,
          bad_offsets_of(stream),
          static_cast<kernels::OffenderCell*>(stream.scratch()),
          stream.device_report()};
}

// The offsets are checked, the operation runs, and what the check left is cleared.
template <class Run>
cudamoe_status run(const Stream& stream, const char* function, const kernels::GraphMatrix& matrix, Run&& operation) {
  cudaError_t error = kernels::graph_check_offsets(matrix, stream.get());
  if (error == cudaSuccess) error = operation();
  if (error == cudaSuccess) error = cudaMemsetAsync(matrix.bad_offsets, 0, sizeof(int32_t), stream.get());
  return stream.check(error, function);
}

cudamoe_status aggregate(void* handle, const cudamoe_graph_aggregate_args& args) {
  const Stream& stream = stream_of(handle);
  const kernels::GraphAggregate own{matrix_of(args, stream, GraphFunction::kAggregate),
                                    args.width,
                                    args.weights,
                                    args.x,
                                    args.x_row_stride,
                                    args.y,
                                    args.y_row_stride,
                                    args.accumulate};
  return run(stream, "cudamoe_graph_aggregate", own.matrix, [&] { return kernels::graph_aggregate(own, stream.get()); });
}

cudamoe_status edge_gradient(void* handle, const cudamoe_graph_edge_gradient_args& args) {
  const Stream& stream = stream_of(handle);
  const kernels::GraphEdgeGradient own{matrix_of(args, stream, GraphFunction::kEdgeGradient),
                                       args.width,
                                       args.x,
                                       args.dy,
                                       args.x_row_stride,
                                       args.dy_row_stride,
                                       args.dweights,
                                       args.accumulate};
  return run(stream, "cudamoe_graph_edge_gradient", own.matrix, [&] {
    // Where the offsets are bad no row writes.
    cudaError_t error = cudaSuccess;
    if (args.accumulate == 0 && args.edges > 0)
      error = cudaMemsetAsync(args.dweights, 0, static_cast<size_t>(args.edges) * sizeof(float), stream.get());
    return error == cudaSuccess ? kernels::graph_edge_gradient(own, stream.get()) : error;
  });
}

int64_t transpose_workspace(void*, const cudamoe_graph_transpose_args& args) {
  return SortedEdges(args.rows, args.columns, args.edges).workspace_bytes();
}

cudamoe_status transpose(void* handle, const cudamoe_graph_transpose_args& args) {
  constexpr const char* kFunction = "cudamoe_graph_transpose";
  const Stream& stream = stream_of(handle);
  if (args.edges > UINT32_MAX)
    return fail(CUDAMOE_ERROR_UNSUPPORTED, "%s: edges is %lld; this device takes less than 2^32", kFunction,
                static_cast<long long>(args.edges));
  const SortedEdges sorted(args.rows, args.columns, args.edges);
  kernels::GraphTranspose own{matrix_of(args, stream, GraphFunction::kTranspose),
                              args.weights,
                              sorted.keys(args.workspace),
                              sorted.edges_of_row(args.workspace),
                              args.transposed_offsets,
                              args.transposed_neighbours,
                              args.transposed_weights};
  return run(stream, kFunction, own.matrix, [&] {
    cudaError_t error = cudaSuccess;
    if (args.mean != 0 && args.rows > 0)
      error = cudaMemsetAsync(own.edges_of_row, 0, static_cast<size_t>(args.rows) * sizeof(uint32_t), stream.get());
    if (error == cudaSuccess) error = kernels::graph_keys(own, stream.get());
    if (error == cudaSuccess) error = sorted.sort(args.workspace, stream.get(), &own.keys);
    return error == cudaSuccess ? kernels::graph_places(own, stream.get()) : error;
  });
}

}  // namespace

void register_graph(Backend& table) {
  table.graph_aggregate = aggregate;
  table.graph_edge_gradient = edge_gradient;
  table.graph_transpose = transpose;
  table.graph_transpose_workspace = transpose_workspace;
}

}  // namespace cudamoe::cuda
