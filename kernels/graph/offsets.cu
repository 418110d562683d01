// Whether the offsets of a matrix ascend from 0 to its number of edges; the report of the first that does not.
//
// Floor: 8 bytes a row. Tiling: a thread an offset, the grid strides. No shared memory, no sums.
#include "graph/matrix.cuh"

namespace cudamoe::kernels {
namespace {

CUDAMOE_KERNEL(kGraphThreads, 4) graph_offsets_kernel(const CUDAMOE_GRID_CONSTANT GraphMatrix matrix) {
  for (int64_t row = int64_t{block_x()} * kGraphThreads + thread_x(); row <= matrix.rows; row += int64_t{grid_size_x()} * kGraphThreads) {
    const int64_t before = row == 0 ? 0 : matrix.offsets[row - 1], at = matrix.offsets[row];
    const bool good = at >= before && at <= matrix.edges && (row > 0 || at == 0) && (row < matrix.rows || at == matrix.edges);
    if (!good) note_offender(matrix.offender, row);
  }
  sync_block();
  if (thread_x() != 0) return;
  report_offender(matrix.offender, matrix.report, static_cast<uint32_t>(grid_size_x()), [&](int64_t row) {
    *matrix.bad_offsets = 1;
    DeviceReport found = {};
    found.code = ReportCode::kGraphOffsets;
    found.index[0] = static_cast<int64_t>(matrix.function);
    found.index[1] = row;
    found.index[2] = matrix.offsets[row];
    found.index[3] = matrix.edges;
    return found;
  });
}

}  // namespace

cudaError_t graph_check_offsets(const GraphMatrix& matrix, cudaStream_t stream) {
  return launch(graph_shape("graph_offsets", ceil_divide(matrix.rows + 1, int64_t{kGraphThreads}), stream), graph_offsets_kernel, matrix);
}

}  // namespace cudamoe::kernels
