// The maximum of each column over the positions of a sequence, and the position that its gradient goes to.
//
// Floor: forward x read once, y and places written once; backward dy read once, places once a position through the caches, dx written once.
// Tiling: forward a thread per sequence and column, neighbouring threads neighbouring columns; backward a thread per element of dx; the
// grids stride. No shared memory, no sums.
#include "attention/attention.h"
#include "common/first_offender.cuh"
#include "common/kernel.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 1 << 16;

// Positions of a sequence. A count out of range is bounded, and noted.
CUDAMOE_DEVICE int64_t position_count(const SequenceMaximum& m, int64_t sequence) {
  if (m.counts == nullptr) return m.positions;
  const int64_t count = m.counts[sequence];
  if (count >= 0 && count <= m.positions) return count;
  note_offender(m.offender, sequence);
  return count < 0 ? 0 : m.positions;
}

CUDAMOE_KERNEL(kThreads, 6) sequence_maximum_kernel(const CUDAMOE_GRID_CONSTANT SequenceMaximum m) {
  const int64_t count = m.sequences * m.width;
  for (int64_t i = int64_t{block_x()} * kThreads + thread_x(); i < count; i += int64_t{grid_size_x()} * kThreads) {
    const int64_t sequence = i / m.width, column = i % m.width, positions = position_count(m, sequence);
    const float* x = m.x + sequence * m.positions * m.x_row_stride + column;
    float most = positions > 0 ? x[0] : 0.0f;
    int32_t place = positions > 0 ? 0 : -1;
    for (int64_t p = 1; p < positions && !is_nan(most); ++p) {
      const float value = x[p * m.x_row_stride];
      if (!(value > most) && !is_nan(value)) continue;
      most = value;
      place = static_cast<int32_t>(p);
    }
    m.y[sequence * m.y_row_stride + column] = most;
    if (m.places != nullptr) m.places[i] = place;
  }
  if (m.counts == nullptr) return;  // the same for the whole grid
  sync_block();
  if (thread_x() != 0) return;
  report_offender(m.offender, m.report, static_cast<uint32_t>(grid_size_x()), [&](int64_t sequence) {
    DeviceReport found = {};
    found.code = ReportCode::kMaximumCount;
    found.index[0] = sequence;
    found.index[1] = m.counts[sequence];
    found.index[2] = m.positions;
    return found;
  });
}

CUDAMOE_KERNEL(kThreads, 6) sequence_maximum_gradient_kernel(const CUDAMOE_GRID_CONSTANT SequenceMaximumGradient g) {
  const int64_t count = g.sequences * g.positions * g.width;
  for (int64_t i = int64_t{block_x()} * kThreads + thread_x(); i < count; i += int64_t{grid_size_x()} * kThreads) {
    const int64_t row = i / g.width, column = i % g.width, sequence = row / g.positions;
    const bool here = g.places[sequence * g.width + column] == row % g.positions;
    g.dx[row * g.dx_row_stride + column] = here ? g.dy[sequence * g.dy_row_stride + column] : 0.0f;
  }
}

LaunchShape shape_of(const char* name, int64_t count, cudaStream_t stream) {
  const int64_t blocks = ceil_divide(count, int64_t{kThreads});
  return {.name = name, .grid = {static_cast<int>(blocks < kMostBlocks ? blocks : kMostBlocks)}, .block = {kThreads}, .stream = stream};
}

}  // namespace

cudaError_t sequence_maximum(const SequenceMaximum& maximum, cudaStream_t stream) {
  return launch(shape_of("sequence_maximum", maximum.sequences * maximum.width, stream), sequence_maximum_kernel, maximum);
}

cudaError_t sequence_maximum_gradient(const SequenceMaximumGradient& gradient, cudaStream_t stream) {
  return launch(shape_of("sequence_maximum_gradient", gradient.sequences * gradient.positions * gradient.width, stream),
                sequence_maximum_gradient_kernel, gradient);
}

}  // namespace cudamoe::kernels
