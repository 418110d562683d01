// Samples of what a product or a weight gradient computed, beside the same sums in double precision: what decides whether a fast kernel is
// used on a GPU. As plain as can be, and on no path of a step.
//
// Products: a block of 128 threads a sampled row, a thread a sampled column. Half of the rows lie evenly over the row space, half are
// first and last rows of groups, where tiles end. Weight gradients: a block a sampled element, its threads a 128th of the rows each.
//
// Bound of the difference: 32 sqrt(terms) 2^-24 sum |a b|, for sums of exact products (bf16) or products rounded to f32 (split tf32), in
// any order; one term that is missing or wrong among operands of like size is beyond it up to some 4,000 terms, and among some thousand
// samples in longer sums. A result that is stored as bf16 may also be off by 2^-8 of itself.
#include "gemm/samples.cuh"

namespace cudamoe::kernels {
namespace {

CUDAMOE_KERNEL(kSampleThreads, 4)
compare_product_kernel(const CUDAMOE_GRID_CONSTANT GemmProduct product, int32_t packed_is_bf16, SampleCounts* counts) {
  const GemmRows& rows = product.rows;
  if (!offsets_are_good<kSampleThreads>(rows)) return;
  const SampledRow at = sampled_row(rows, block_x(), grid_size_x());
  if (at.group < 0) return;
  const int64_t columns = product.columns < kSampleThreads ? product.columns : kSampleThreads;
  if (thread_x() >= columns) return;
  const int64_t column = thread_x() * int64_t{product.columns} / columns, source = source_row(rows, at.row);
  const bool rounded = packed_is_bf16 != 0;
  double sum = 0, magnitudes = 0;
  for (int64_t t = 0; t < product.depth && source >= 0; ++t) {
    const int64_t weight = at.group * product.packed_group_stride + t * product.packed_row_stride + column;
    const double w =
        rounded ? to_float(static_cast<const Bf16*>(product.packed)[weight]) : static_cast<const float*>(product.packed)[weight];
    const double term = operand(product.x, at.group, source, t, rounded) * w;
    sum += term;
    magnitudes += magnitude(term);
  }
  if (product.bias != nullptr) {
    const double bias = product.bias[at.group * product.bias_group_stride + column];
    sum += bias;
    magnitudes += magnitude(bias);
  }
  double bound = bound_of(product.depth, magnitudes);
  bool wrong = product.before.data != nullptr &&
               is_wrong(element(product.before, at.group, at.row, column), sum, bound, product.before.is_bf16 != 0);
  double expected = sum;
  if (product.derivative != 0) {
    if (product.below.data != nullptr) {
      const double factor = activation_derivative(product.activation, element(product.below, at.group, at.row, column), product.slope);
      expected *= factor;
      magnitudes *= magnitude(factor);
      bound *= magnitude(factor) + 1.0 / (1 << 10);
    }
  } else {
    const Bounded y = activate_bounded(product.activation, sum, bound, product.slope);
    expected = y.value;
    bound = y.bound;
  }
  wrong = wrong || is_wrong(element(product.y, at.group, at.row, column), expected, bound, product.y.is_bf16 != 0);
  atomic_add(&counts->samples, 1u);
  if (magnitudes > 0) atomic_add(&counts->informative, 1u);
  if (wrong) atomic_add(&counts->wrong, 1u);
}

CUDAMOE_KERNEL(kSampleThreads, 4)
compare_wgrad_kernel(const CUDAMOE_GRID_CONSTANT GemmWgrad wgrad, int32_t rounded, SampleCounts* counts) {
  const GemmRows& rows = wgrad.rows;
  if (!offsets_are_good<kSampleThreads>(rows)) return;
  CUDAMOE_SHARED(double, sums, [kSampleThreads]);
  CUDAMOE_SHARED(double, magnitudes, [kSampleThreads]);
  // Elements spread by odd numbers, the bias behind the last column.
  const int64_t group = block_x() % rows.groups, spread = block_x() / rows.groups;
  const int64_t n = spread * 37 % wgrad.n, columns = wgrad.k + (wgrad.dbias != nullptr ? 1 : 0);
  const int64_t k = (spread % 8 == 7 ? columns - 1 : spread * 101 % columns);
  const int64_t begin = rows.offsets == nullptr ? 0 : rows.offsets[group],
                end = rows.offsets == nullptr ? rows.rows : rows.offsets[group + 1];
  double sum = 0, total = 0;
  for (int64_t row = begin + thread_x(); row < end; row += kSampleThreads) {
    const int64_t source = source_row(rows, row);
    double term = operand(wgrad.dz, group, row, n, rounded != 0);
    if (k < wgrad.k) term *= source < 0 ? 0.0 : operand(wgrad.x, group, source, k, rounded != 0);
    sum += term;
    total += magnitude(term);
  }
  sums[thread_x()] = sum;
  magnitudes[thread_x()] = total;
  sync_block();
  if (thread_x() != 0) return;
  sum = total = 0;
  for (int i = 0; i < kSampleThreads; ++i) {
    sum += sums[i];
    total += magnitudes[i];
  }
  const float result = k < wgrad.k ? wgrad.dw[group * wgrad.dw_group_stride + n * wgrad.dw_row_stride + k]
                                   : wgrad.dbias[group * wgrad.dbias_group_stride + n];
  atomic_add(&counts->samples, 1u);
  if (total > 0) atomic_add(&counts->informative, 1u);
  if (is_wrong(result, sum, bound_of(end - begin, total), false)) atomic_add(&counts->wrong, 1u);
}

}  // namespace

cudaError_t gemm_compare_product(const GemmProduct& product, bool packed_is_bf16, int samples, SampleCounts* counts, cudaStream_t stream) {
  return launch({.name = "gemm_compare_product", .grid = {samples}, .block = {kSampleThreads}, .stream = stream}, compare_product_kernel,
                product, packed_is_bf16 ? 1 : 0, counts);
}

cudaError_t gemm_compare_wgrad(const GemmWgrad& wgrad, bool rounded, int samples, SampleCounts* counts, cudaStream_t stream) {
  return launch({.name = "gemm_compare_wgrad", .grid = {samples}, .block = {kSampleThreads}, .stream = stream}, compare_wgrad_kernel, wgrad,
                rounded ? 1 : 0, counts);
}

}  // namespace cudamoe::kernels
