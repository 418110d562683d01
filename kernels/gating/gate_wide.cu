// Gates of more than 128 columns: the logits first, then the scores from stored logits.
//
// Floor: x and the outputs as in gate_forward.cu, and the logits written and read once more, 8 rows columns bytes.
// Tiling: logits in tiles of 64 rows by 128 columns (26 KiB and 51 KiB of shared memory by their stages); scores by blocks of 64 or 128
// threads, one gate and a run of rows a block, one row a warp at a time, 20 bytes of shared memory an expert (28 with 128 threads).
// Order of sums: logit_tile.cuh, scores.cuh; statistics in f64 over the rows of a block ascending (z: those of each warp, then the warps),
// then gate_totals.
#include "gating/logit_tile.cuh"
#include "gating/scores.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kTileColumns = 128, kTileRowsPer = 4;
using WideTile = LogitTile<kTileColumns, kTileRowsPer>;

CUDAMOE_KERNEL(kGateThreads, 2) logits_kernel(const CUDAMOE_GRID_CONSTANT GateForward gate, int64_t first_row, int64_t rows) {
  const Shared<float> memory = dynamic_shared<float>();
  const int64_t columns = int64_t{gate.options.gates} * gate.options.columns();
  const int64_t across = ceil_divide(columns, int64_t{kTileColumns});
  const int64_t column = block_x() % across * kTileColumns, row = block_x() / across * WideTile::kRows;
  const int64_t rows_left = rows - row, columns_left = columns - column;
  const WideTile tile{gate.x + (first_row + row) * gate.x_row_stride,
                      gate.x_row_stride,
                      gate.packed + column,
                      gate.packed_stride,
                      gate.k_in,
                      rows_left < WideTile::kRows ? static_cast<int>(rows_left) : WideTile::kRows,
                      columns_left < kTileColumns ? static_cast<int>(columns_left) : kTileColumns,
                      gate.bias == nullptr ? nullptr : gate.bias + column,
                      aligned_for<4>(gate.x, gate.x_row_stride),
                      aligned_for<4>(gate.packed, gate.packed_stride)};
  tile.multiply(memory);
  tile.store_rows(memory, tile.columns, tile.columns, gate.logits + row * columns + column, columns);
}

constexpr int kMostWarps = 4;

CUDAMOE_KERNEL(kMostWarps* kWarp, 4)
scores_kernel(const CUDAMOE_GRID_CONSTANT GateForward gate, const CUDAMOE_GRID_CONSTANT GatePlan plan, int64_t first_block,
              const float* logits) {
  CUDAMOE_SHARED(double, z_of_warp, [kMostWarps]);
  const GateOptions& options = gate.options;
  const int experts = options.experts, own = options.columns(), warps = block_size_x() / kWarp, warp = warp_id(), g = block_y();
  const int64_t columns = int64_t{options.gates} * own, all_pairs = int64_t{options.gates} * experts;
  const Shared<double> sums = dynamic_shared<double>();
  const Shared<uint32_t> counts = shared_cast<uint32_t>(sums + experts);
  const Shared<float> rows = shared_cast<float>(counts + experts);
  const Shared<float> row = rows + warp * experts;
  const bool wants_sums = gate.probability_sums != nullptr;
  const bool wants_probabilities = gate.probabilities != nullptr || wants_sums;
  const LaneGroup group(kWarp);

  for (int e = thread_x(); e < experts; e += block_size_x()) {
    sums[e] = 0;
    counts[e] = 0;
  }
  sync_block();
  double z = 0;
  const int64_t block = first_block + block_x(), begin = block * plan.block_rows;
  const int64_t end = begin + plan.block_rows < gate.rows ? begin + plan.block_rows : gate.rows;
  for (int64_t first = begin; first < end; first += warps) {
    const int64_t b = first + warp;
    const bool active = b < end;
    const float* from = logits + (b - first_block * plan.block_rows) * columns + int64_t{g} * own;
    for (int e = group.lane(); active && e < experts; e += kWarp) row[e] = from[e];
    const float log_sum = gate_row(
        gate, group, active, b, g, row, wants_probabilities, [&](int e) { return from[experts + e]; },
        [&](int e) {
          if (gate.counts != nullptr) atomic_add(&counts[e], 1u);
        });
    if (active) z += static_cast<double>(log_sum * log_sum);
    if (active && gate.probabilities != nullptr) {
      float* to = gate.probabilities + b * all_pairs + int64_t{g} * experts;
      for (int e = group.lane(); e < experts; e += kWarp) to[e] = row[e];
    }
    sync_block();
    if (wants_sums) {
      for (int e = thread_x(); e < experts; e += block_size_x()) {
        double sum = sums[e];
        for (int w = 0; w < warps && first + w < end; ++w) {
          const float p = rows[w * experts + e];
          sum += static_cast<double>(p);
        }
        sums[e] = sum;
      }
      sync_block();
    }
  }
  if (group.lane() == 0) z_of_warp[warp] = z;
  sync_block();
  for (int e = thread_x(); e < experts; e += block_size_x()) {
    const int64_t pair = block * all_pairs + int64_t{g} * experts + e;
    if (wants_sums) gate.probability_sums[pair] = sums[e];
    if (gate.counts != nullptr) {
      const uint32_t count = counts[e];
      gate.counts[pair] = count;
    }
  }
  if (thread_x() == 0 && gate.z_sums != nullptr) {
    for (int w = 1; w < warps; ++w) z += z_of_warp[w];
    gate.z_sums[block * options.gates + g] = z;
  }
}

}  // namespace

cudaError_t gate_logits(const GateForward& gate, int64_t first_row, int64_t rows, cudaStream_t stream) {
  const int64_t columns = int64_t{gate.options.gates} * gate.options.columns();
  const int64_t tiles = ceil_divide(columns, int64_t{kTileColumns}) * ceil_divide(rows, int64_t{WideTile::kRows});
  if (tiles > INT32_MAX) return cudaErrorInvalidConfiguration;
  return launch({.name = "gate_logits",
                 .grid = {static_cast<int>(tiles)},
                 .block = {kGateThreads},
                 .dynamic_shared_bytes = WideTile::kFloats * 4,
                 .stream = stream},
                logits_kernel, gate, first_row, rows);
}

cudaError_t gate_scores(const GateForward& gate, const GatePlan& plan, int64_t first_block, int64_t blocks, const float* logits,
                        cudaStream_t stream) {
  const int warps = gate.options.experts > 2048 ? 2 : kMostWarps;
  return launch({.name = "gate_scores",
                 .grid = {static_cast<int>(blocks), gate.options.gates},
                 .block = {warps * kWarp},
                 .dynamic_shared_bytes = ceil_divide(int64_t{gate.options.experts} * (12 + 4 * warps), int64_t{8}) * 8,
                 .stream = stream},
                scores_kernel, gate, plan, first_block, logits);
}

}  // namespace cudamoe::kernels
