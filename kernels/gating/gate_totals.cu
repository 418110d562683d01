// Statistics of a gate: total[i] = sum over the blocks of partial[block][i].
//
// Floor: the partials read once, at most 1024 blocks of 16 bytes an expert. Tiling: a block of 1024 threads per 32 totals, 32 strands of
// blocks by 32 neighbouring totals. Shared memory: 8,448 bytes.
// Order of sums: strand s takes the blocks s, s + 32, ... ascending; then the strands ascending.
#include "common/kernel.cuh"
#include "gating/gating.h"

namespace cudamoe::kernels {
namespace {

constexpr int kSide = 32;

template <class T>
CUDAMOE_KERNEL(kSide* kSide, 1)
totals_kernel(const T* partial, int64_t blocks, int64_t width, T* total) {
  CUDAMOE_SHARED(T, strands, [kSide][kSide + 1]);
  const int column = thread_x() % kSide, strand = thread_x() / kSide;
  const int64_t i = int64_t{block_x()} * kSide + column;
  T sum = 0;
  if (i < width) {
    for (int64_t block = strand; block < blocks; block += kSide) sum += partial[block * width + i];
  }
  strands[strand][column] = sum;
  sync_block();
  if (strand == 0 && i < width) {
    for (int s = 1; s < kSide; ++s) sum += strands[s][column];
    total[i] = sum;
  }
}

template <class T>
cudaError_t launch_totals(const T* partial, int64_t blocks, int64_t width, T* total, cudaStream_t stream) {
  if (total == nullptr) return cudaSuccess;
  return launch(
      {.name = "gate_totals", .grid = {static_cast<int>(ceil_divide(width, int64_t{kSide}))}, .block = {kSide * kSide}, .stream = stream},
      totals_kernel<T>, partial, blocks, width, total);
}

}  // namespace

cudaError_t gate_totals(const GateForward& gate, const GatePlan& plan, const GateTotals& totals, cudaStream_t stream) {
  const int64_t pairs = int64_t{gate.options.gates} * gate.options.experts;
  cudaError_t error = launch_totals(gate.counts, plan.blocks, pairs, totals.counts, stream);
  if (error == cudaSuccess) error = launch_totals(gate.probability_sums, plan.blocks, pairs, totals.probability_sums, stream);
  if (error == cudaSuccess) error = launch_totals(gate.z_sums, plan.blocks, int64_t{gate.options.gates}, totals.z_sums, stream);
  return error;
}

}  // namespace cudamoe::kernels
