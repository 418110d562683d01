// The fused gate: logits, noise, softmax or sigmoid, top-k, weights and statistics of all gates in one pass over x. For gates whose
// columns fit a tile of 128; wider ones: gate_wide.cu.
//
//   logits = x W^T + bias;  scores, choice and weights by the score mode (cudamoe.h)
//
// Floor: x read once, 4 rows k_in bytes, and the outputs written once; 2 rows k_in columns flops on the units for f32, which reach the
// time of the bytes at some 20 columns on an A100 and 40 on an H100.
// Tiling: blocks of 128 threads take tiles of 16, 64 or 128 rows, by the batch, by all columns of as many gates as fit 32, 48, 64 or 128;
// more gates are further blocks, which find x in the L2 cache. Then a group of 1 to 32 lanes, up to eight experts a lane, makes the scores
// of a row and gate from the tile; neighbouring groups take neighbouring rows. Shared memory: two stages of the product, 12 to 52 KiB,
// where afterwards the tile lies.
// Order of sums: logit_tile.cuh, scores.cuh; statistics in f64 over the rows of a block, one to four strands of rows ascending, then the
// strands, then gate_totals.
#include "gating/logit_tile.cuh"
#include "gating/scores.cuh"

namespace cudamoe::kernels {
namespace {

template <int kColumns, int kRowsPer>
CUDAMOE_KERNEL(kGateThreads, kRowsPer < 4    ? 3
                             : kColumns < 64 ? 4
                                             : 2)
gate_kernel(const CUDAMOE_GRID_CONSTANT GateForward gate, const CUDAMOE_GRID_CONSTANT GatePlan plan) {
  using Tile = LogitTile<kColumns, kRowsPer>;
  CUDAMOE_SHARED(uint32_t, counts, [kColumns]);
  const Shared<float> memory = dynamic_shared<float>();
  const GateOptions& options = gate.options;
  const int own = options.columns(), experts = options.experts;
  const int first_gate = block_y() * plan.gates_of_block;
  const int gates = options.gates - first_gate < plan.gates_of_block ? options.gates - first_gate : plan.gates_of_block;
  const int pairs = gates * experts, columns = gates * own, first_column = first_gate * own;
  const int64_t all_columns = int64_t{options.gates} * own, all_pairs = int64_t{options.gates} * experts;
  const Shared<float> logs = memory + Tile::kRows * Tile::kStride;  // [rows][gates] log sum exp, where z_sums are wanted
  const bool wants_probabilities = gate.probabilities != nullptr || gate.probability_sums != nullptr;
  const LaneGroup group(gate_group_width(experts, options.top_k));
  const int groups = kGateThreads / group.width(), own_group = thread_x() / group.width();

  // The threads of a strand sum the probabilities of a pair each, over every kStrands-th row of a tile.
  constexpr int kStrandThreads = kColumns == 48 ? 64 : kColumns, kStrands = kGateThreads / kStrandThreads;
  const int t = thread_x(), own_pair = t % kStrandThreads, strand = t / kStrandThreads;
  double probability_sum = 0, z_sum = 0;  // of the thread's pair, of gate t
  if (t < kColumns) counts[t] = 0;

  const int64_t begin = int64_t{block_x()} * plan.block_rows;
  const int64_t end = begin + plan.block_rows < gate.rows ? begin + plan.block_rows : gate.rows;
  CUDAMOE_NO_UNROLL
  for (int64_t first = begin; first < end; first += Tile::kRows) {
    const Tile tile{gate.x + first * gate.x_row_stride,
                    gate.x_row_stride,
                    gate.packed + first_column,
                    gate.packed_stride,
                    gate.k_in,
                    end - first < Tile::kRows ? static_cast<int>(end - first) : Tile::kRows,
                    columns,
                    gate.bias == nullptr ? nullptr : gate.bias + first_column,
                    aligned_for<4>(gate.x, gate.x_row_stride),
                    aligned_for<4>(gate.packed + first_column, gate.packed_stride)};
    tile.multiply(memory);
    if (gate.logits != nullptr) {
      tile.store_rows(memory, own, own, gate.logits + first * all_columns + first_column, all_columns);
      sync_block();
    }
    const int items = Tile::kRows * gates;
    CUDAMOE_NO_UNROLL
    for (int base = 0; base < items; base += groups) {
      const int item = base + own_group < items ? base + own_group : 0, r = item % Tile::kRows, g = item / Tile::kRows;
      const bool active = base + own_group < items && r < tile.rows;
      const Shared<float> row = memory + (r * Tile::kStride + g * own);
      const float log_sum = gate_short_row<kShortRow>(
          gate, group, active, first + r, first_gate + g, row, wants_probabilities, [&](int e) -> float { return row[experts + e]; },
          [&](int e) {
            if (gate.counts != nullptr) atomic_add(&counts[g * experts + e], 1u);
          });
      if (active && gate.z_sums != nullptr && group.lane() == 0) logs[r * gates + g] = log_sum;
    }
    sync_block();
    if (gate.probabilities != nullptr) {
      tile.store_rows(memory, own, experts, gate.probabilities + first * all_pairs + int64_t{first_gate} * experts, all_pairs);
    }
    if (gate.probability_sums != nullptr && own_pair < pairs) {
      const int column = own_pair / experts * own + own_pair % experts;
      CUDAMOE_UNROLL
      for (int r = strand; r < Tile::kRows; r += kStrands) {
        if (r >= tile.rows) break;
        const float p = memory[r * Tile::kStride + column];
        probability_sum += static_cast<double>(p);
      }
    }
    if (gate.z_sums != nullptr && t < gates) {
      for (int r = 0; r < tile.rows; ++r) {
        const float log_sum = logs[r * gates + t];
        z_sum += static_cast<double>(log_sum * log_sum);
      }
    }
  }
  sync_block();
  const Shared<double> strands = shared_cast<double>(memory);
  strands[t] = probability_sum;
  sync_block();
  const int64_t block = block_x(), pair = block * all_pairs + int64_t{first_gate} * experts + t;
  if (t < pairs) {
    CUDAMOE_UNROLL
    for (int s = 1; s < kStrands; ++s) probability_sum += strands[s * kStrandThreads + t];
    if (gate.probability_sums != nullptr) gate.probability_sums[pair] = probability_sum;
    if (gate.counts != nullptr) {
      const uint32_t count = counts[t];
      gate.counts[pair] = count;
    }
  }
  if (t < gates && gate.z_sums != nullptr) gate.z_sums[block * options.gates + first_gate + t] = z_sum;
}

template <int kColumns, int kRowsPer>
cudaError_t launch_gate(const GateForward& gate, const GatePlan& plan, cudaStream_t stream) {
  using Tile = LogitTile<kColumns, kRowsPer>;
  const int after = Tile::kRows * (Tile::kStride + (gate.z_sums == nullptr ? 0 : plan.gates_of_block));
  const int64_t floats = after > Tile::kFloats ? after : Tile::kFloats;
  return launch({.name = "gate_forward",
                 .grid = {static_cast<int>(plan.blocks), ceil_divide(gate.options.gates, plan.gates_of_block)},
                 .block = {kGateThreads},
                 .dynamic_shared_bytes = floats * 4,
                 .stream = stream},
                gate_kernel<kColumns, kRowsPer>, gate, plan);
}

template <int kColumns>
cudaError_t launch_rows(const GateForward& gate, const GatePlan& plan, cudaStream_t stream) {
  if constexpr (kColumns == 128) {
    return plan.tile_rows == 16 ? launch_gate<kColumns, 1>(gate, plan, stream) : launch_gate<kColumns, 4>(gate, plan, stream);
  } else {
    if constexpr (kColumns != 48) {
      if (plan.tile_rows == 16) return launch_gate<kColumns, 1>(gate, plan, stream);
    }
    return plan.tile_rows == 64 ? launch_gate<kColumns, 2>(gate, plan, stream) : launch_gate<kColumns, 4>(gate, plan, stream);
  }
}

}  // namespace

GatePlan gate_plan(const GateOptions& options, int64_t rows) {
  constexpr int kWidest = 128;
  static_assert(kWidest <= kShortRow * kWarp);
  constexpr int64_t kFewRows = 4096, kManyRows = 32768, kMostBlocks = 1024, kWideRows = 4;
  GatePlan plan{};
  plan.fused = options.columns() <= kWidest;
  if (plan.fused) {
    const int most = kWidest / options.columns(), parts = ceil_divide(options.gates, most);
    plan.gates_of_block = ceil_divide(options.gates, parts);
    const int columns = plan.gates_of_block * options.columns();
    const bool few = rows < kFewRows;
    plan.tile_columns = columns <= 32 ? 32 : columns <= 48 && !few ? 48 : columns <= 64 ? 64 : kWidest;
    plan.tile_rows = few ? 16 : rows < kManyRows || plan.tile_columns == kWidest ? 64 : 128;
    plan.block_rows = ceil_divide(ceil_divide(rows, int64_t{plan.tile_rows}), kMostBlocks) * plan.tile_rows;
  } else {
    const int64_t most = kMostBlocks / options.gates > 16 ? kMostBlocks / options.gates : 16;
    plan.block_rows = ceil_divide(ceil_divide(rows, kWideRows), most) * kWideRows;
  }
  plan.blocks = rows == 0 ? 0 : ceil_divide(rows, plan.block_rows);
  return plan;
}

cudaError_t gate_forward(const GateForward& gate, const GatePlan& plan, cudaStream_t stream) {
  switch (plan.tile_columns) {
    case 32:
      return launch_rows<32>(gate, plan, stream);
    case 48:
      return launch_rows<48>(gate, plan, stream);
    case 64:
      return launch_rows<64>(gate, plan, stream);
    default:
      return launch_rows<128>(gate, plan, stream);
  }
}

}  // namespace cudamoe::kernels
