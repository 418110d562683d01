// For mixtures whose experts' outputs go through memory: the experts that pairs have chosen as keys to sort by, slots of pairs that have no
// expert, and mixtures as bf16.
//
// Floor: what is read and written once, 4 bytes a chosen number, 4 a key. Tiling: a thread a sample, a pair, an element. No sums of floats.
#include "common/kernel.cuh"
#include "expert/expert.h"
#include "expert/keys.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 256;

CUDAMOE_KERNEL(kThreads, 4) keys_kernel(const CUDAMOE_GRID_CONSTANT ExpertKeys keys) {
  const int64_t item = int64_t{block_x()} * kThreads + thread_x();
  if (item < keys.items) keys.keys[item] = list_of_choices(keys.chosen, item * keys.digits, keys.digits, keys.experts, keys.offender);
  sync_block();
  if (thread_x() == 0) report_choices(keys.chosen, keys.first_pair, keys.experts, keys.offender, keys.report);
}

CUDAMOE_KERNEL(kThreads, 4) drop_kernel(int32_t* slots, int64_t count, const int64_t* end) {
  const int64_t i = int64_t{block_x()} * kThreads + thread_x();
  if (i < count && slots[i] >= end[0]) slots[i] = -1;
}

CUDAMOE_KERNEL(kThreads, 4) round_kernel(const CUDAMOE_GRID_CONSTANT ExpertRound round) {
  const int64_t i = int64_t{block_x()} * kThreads + thread_x();
  if (i >= round.rows * round.tasks * round.columns) return;
  const int64_t item = i / round.columns, column = i % round.columns;
  static_cast<Bf16*>(round.y)[item / round.tasks * round.y_row_stride + item % round.tasks * round.y_task_stride + column] =
      to_bf16(round.sums[i]);
}

}  // namespace

cudaError_t expert_round(const ExpertRound& round, cudaStream_t stream) {
  const int64_t blocks = ceil_divide(round.rows * round.tasks * round.columns, int64_t{kThreads});
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  return launch({.name = "expert_round", .grid = {static_cast<int>(blocks)}, .block = {kThreads}, .stream = stream}, round_kernel, round);
}

cudaError_t expert_keys(const ExpertKeys& keys, cudaStream_t stream) {
  const int blocks = static_cast<int>(ceil_divide(keys.items, int64_t{kThreads}));
  return launch({.name = "expert_keys", .grid = {blocks}, .block = {kThreads}, .stream = stream}, keys_kernel, keys);
}

cudaError_t expert_drop_slots(int32_t* slots, int64_t count, const int64_t* end, cudaStream_t stream) {
  const int blocks = static_cast<int>(ceil_divide(count, int64_t{kThreads}));
  return launch({.name = "expert_drop_slots", .grid = {blocks}, .block = {kThreads}, .stream = stream}, drop_kernel, slots, count, end);
}

}  // namespace cudamoe::kernels
