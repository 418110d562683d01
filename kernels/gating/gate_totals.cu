// Statistics of a gate: total[i] = sum over the blocks of partial[block][i].
//
// Floor: the partials read once, at most 1024 blocks of 16 bytes an expert. Tiling: a block of 1024 threads per 32 totals of one kind, 32
// strands of blocks by 32 neighbouring totals, eight blocks' loads at once. Shared memory: 16,896 bytes.
// Order of sums: strand s takes the blocks s, s + 32, ... ascending; then the strands ascending.
#include "common/kernel.cuh"
#include "gating/gating.h"

namespace cudamoe::kernels {
namespace {

constexpr int kSide = 32, kAtOnce = 8;

template <class T>
CUDAMOE_DEVICE void sum_blocks(const T* partial, int64_t blocks, int64_t width, T* total) {
  CUDAMOE_SHARED(T, strands, [kSide][kSide + 1]);
  const int column = thread_x() % kSide, strand = thread_x() / kSide;
  const int64_t i = int64_t{block_x()} * kSide + column;
  T sum = 0;
  for (int64_t first = strand; first < blocks; first += kAtOnce * kSide) {
    T values[kAtOnce];
    CUDAMOE_UNROLL
    for (int k = 0; k < kAtOnce; ++k) {
      const int64_t block = first + k * kSide;
      values[k] = block < blocks && i < width ? partial[block * width + i] : T{0};
    }
    CUDAMOE_UNROLL
    for (int k = 0; k < kAtOnce; ++k) sum += values[k];
  }
  strands[strand][column] = sum;
  sync_block();
  if (strand == 0 && i < width) {
    for (int s = 1; s < kSide; ++s) sum += strands[s][column];
    total[i] = sum;
  }
}

CUDAMOE_KERNEL(kSide* kSide, 1)
totals_kernel(const CUDAMOE_GRID_CONSTANT GateTotals totals, const int64_t* counts, const double* probability_sums, const double* z_sums,
              int64_t blocks, int64_t pairs, int64_t gates) {
  if (block_y() == 0) {
    if (totals.counts != nullptr) sum_blocks(counts, blocks, pairs, totals.counts);
  } else if (block_y() == 1) {
    if (totals.probability_sums != nullptr) sum_blocks(probability_sums, blocks, pairs, totals.probability_sums);
  } else if (block_x() * kSide < gates) {
    sum_blocks(z_sums, blocks, gates, totals.z_sums);
  }
}

}  // namespace

cudaError_t gate_totals(const GateForward& gate, const GatePlan& plan, const GateTotals& totals, cudaStream_t stream) {
  if (totals.counts == nullptr && totals.probability_sums == nullptr && totals.z_sums == nullptr) return cudaSuccess;
  const int64_t pairs = int64_t{gate.options.gates} * gate.options.experts;
  return launch({.name = "gate_totals",
                 .grid = {static_cast<int>(ceil_divide(pairs, int64_t{kSide})), totals.z_sums == nullptr ? 2 : 3},
                 .block = {kSide * kSide},
                 .stream = stream},
                totals_kernel, totals, gate.counts, gate.probability_sums, gate.z_sums, plan.blocks, pairs, int64_t{gate.options.gates});
}

}  // namespace cudamoe::kernels
