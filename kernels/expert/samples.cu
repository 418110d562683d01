// Samples of what experts or their mixtures gave, beside the same sums in double precision: what decides whether a fused kernel is used on
// a GPU. As plain as can be, and on no path of a step.
//
// A block of 128 threads a sampled row, of a mixture a sample and a task: half of the rows lie evenly over the row space, half begin or end
// a tile. 128 hidden columns at a time, a thread each, then a sampled output column a thread. Shared memory: 1 KiB.
//
// Bound of the difference: 32 sqrt(terms) 2^-24 sum |a b| for each layer's sums, as in gemm/samples.cu. A hidden value is rounded to bf16
// between the layers: where the bound of its sum reaches across the middle of two bf16 numbers, either may have been taken, and half their
// distance times |w| is added for it. Bounds of experts are added up with the weights of the mixture.
#include "expert/expert.h"
#include "gemm/samples.cuh"

namespace cudamoe::kernels {
namespace {

CUDAMOE_DEVICE double rounded_to_bf16(double value) { return to_float(to_bf16(static_cast<float>(value))); }

CUDAMOE_DEVICE double weight_of(const ExpertLayer& layer, int64_t expert, int64_t t, int64_t column) {
  return to_float(static_cast<const Bf16*>(layer.packed)[expert * layer.group_stride + t * layer.row_stride + column]);
}
CUDAMOE_DEVICE double bias_of(const ExpertLayer& layer, int64_t expert, int64_t column) {
  return layer.bias == nullptr ? 0 : layer.bias[expert * layer.bias_group_stride + column];
}

struct Sampled {
  int64_t group, row, task;
};

// Samples of a mixture: rows of the batch, the tasks in turn.
CUDAMOE_DEVICE Sampled mixture_row(const Expert& expert, int64_t sample, int64_t samples) {
  const int64_t rows = expert.rows.rows, each = sample / 2, half = (samples + 1) / 2;
  int64_t row = half > 1 ? each * (rows - 1) / (half - 1) : 0;
  if (sample % 2 != 0) {
    row = row / kExpertRows * kExpertRows + (each % 2 == 0 ? 0 : kExpertRows - 1);
    if (row >= rows) row = rows - 1;
  }
  return {0, row, each % expert.tasks};
}

CUDAMOE_KERNEL(kSampleThreads, 4)
compare_kernel(const CUDAMOE_GRID_CONSTANT Expert expert, const int32_t* chosen, SampleCounts* counts) {
  CUDAMOE_SHARED(float, hidden, [kSampleThreads]);
  CUDAMOE_SHARED(float, doubts, [kSampleThreads]);
  const bool mixes = expert.form != ExpertForm::kForward;
  const GemmRows& rows = expert.rows;
  if (!offsets_are_good<kSampleThreads>(rows)) return;
  Sampled at = mixture_row(expert, block_x(), grid_size_x());
  if (!mixes) {
    const SampledRow row = sampled_row(rows, block_x(), grid_size_x());
    at = {row.group, row.row, 0};
  }
  if (at.group < 0) return;
  const int64_t source = mixes ? at.row : source_row(rows, at.row), pair = (at.row * expert.tasks + at.task) * expert.choices;
  const int64_t columns = expert.columns < kSampleThreads ? expert.columns : kSampleThreads;
  const bool writes = thread_x() < columns;
  const int64_t column = writes ? thread_x() * int64_t{expert.columns} / columns : 0;
  const int32_t list = mixes ? expert.choices : 1;
  double total = 0, magnitudes = 0, bound = 0;
  bool wrong = false;
  for (int32_t j = 0; j < list; ++j) {
    int64_t number = mixes ? j : at.group;
    if (chosen != nullptr) number = chosen[pair + j];
    if (number < 0 || (mixes && number >= expert.experts)) continue;
    double gate = mixes ? expert.gates[pair + j] : 1.0;
    if (mixes && expert.residual != nullptr) gate += expert.residual[at.task * expert.experts + number];
    double sum = 0, sizes = 0, doubt = 0;
    for (int64_t first = 0; first < expert.hidden; first += kSampleThreads) {
      const int64_t own = first + thread_x();
      if (own < expert.hidden) {
        double z = bias_of(expert.first, number, own), size = magnitude(z);
        for (int64_t t = 0; t < expert.depth && source >= 0; ++t) {
          const double term = operand(expert.x, mixes ? 0 : at.group, source, t, true) * weight_of(expert.first, number, t, own);
          z += term;
          size += magnitude(term);
        }
        const double z_bound = bound_of(expert.depth, size);
        const Bounded h = activate_bounded(expert.first.activation, z, z_bound, expert.slope);
        const double low = rounded_to_bf16(h.value - h.bound), high = rounded_to_bf16(h.value + h.bound);
        hidden[thread_x()] = static_cast<float>((low + high) / 2);
        doubts[thread_x()] = static_cast<float>((high - low) / 2);
        if (expert.before.data != nullptr)
          wrong = wrong || is_wrong(element(expert.before, at.group, at.row, own), z, z_bound, expert.before.is_bf16 != 0);
        if (expert.h.data != nullptr)
          wrong = wrong || is_wrong(element(expert.h, at.group, at.row, own), h.value, h.bound, expert.h.is_bf16 != 0);
      }
      sync_block();
      const int64_t here = expert.hidden - first < kSampleThreads ? expert.hidden - first : kSampleThreads;
      for (int64_t i = 0; i < here && writes; ++i) {
        const double w = weight_of(expert.second, number, first + i, column), term = hidden[i] * w;
        sum += term;
        sizes += magnitude(term);
        doubt += doubts[i] * magnitude(w);
      }
      sync_block();
    }
    const double bias = bias_of(expert.second, number, column);
    sizes += magnitude(bias);
    const Bounded y = activate_bounded(expert.second.activation, sum + bias, bound_of(expert.hidden, sizes) + doubt, expert.slope);
    total += gate * y.value;
    magnitudes += magnitude(gate * y.value);
    bound += magnitude(gate) * y.bound;
  }
  if (mixes) bound += bound_of(list, magnitudes);
  if (!writes) {
    if (wrong) atomic_add(&counts->wrong, 1u);
    return;
  }
  const GemmMatrix& y = expert.y;
  const float result =
      mixes ? element(y, 0, 0, at.row * y.row_stride + at.task * expert.y_task_stride + column) : element(y, at.group, at.row, column);
  wrong = wrong || is_wrong(result, total, bound, y.is_bf16 != 0);
  atomic_add(&counts->samples, 1u);
  if (magnitudes > 0) atomic_add(&counts->informative, 1u);
  if (wrong) atomic_add(&counts->wrong, 1u);
}

}  // namespace

cudaError_t expert_compare(const Expert& expert, const int32_t* chosen, int samples, SampleCounts* counts, cudaStream_t stream) {
  return launch({.name = "expert_compare", .grid = {samples}, .block = {kSampleThreads}, .stream = stream}, compare_kernel, expert, chosen,
                counts);
}

}  // namespace cudamoe::kernels
