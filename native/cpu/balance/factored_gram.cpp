// Gram matrix of gradients given as products, gradient_t = dZ_t * W_t:
//   gram[i, j] = sum over a in block i, b in block j of (dZ^T dZ)[a, b] * (W W^T)[a, b]
//
// Floor: one read of the upper blocks of the two [h, h] matrices.
// Tiling: one block (i, j), i <= j, a tile. Order of sums: each vector lane in ascending columns and rows in f64, then the lanes.
#include "cpu/balance/balance.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/balance/factored_gram.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Sum of a[r, c] * b[r, c].
double BlockProduct(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int64_t rows, int64_t columns) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> d32;
  const auto width = static_cast<int64_t>(hn::Lanes(d));
  auto sum = hn::Zero(d);
  double rest = 0;
  for (int64_t r = 0; r < rows; ++r, a += a_stride, b += b_stride) {
    int64_t c = 0;
    for (; c + width <= columns; c += width)
      sum = hn::MulAdd(hn::PromoteTo(d, hn::LoadU(d32, a + c)), hn::PromoteTo(d, hn::LoadU(d32, b + c)), sum);
    for (; c < columns; ++c) rest += static_cast<double>(a[c]) * static_cast<double>(b[c]);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum)) + rest;
}

}  // namespace
}  // namespace cudamoe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cudamoe::cpu {
namespace {
HWY_EXPORT(BlockProduct);
}  // namespace

cudamoe_status balance_factored_gram(void* stream, const cudamoe_balance_factored_gram_args& args) {
  const int64_t tasks = args.tasks, h = args.starts[tasks];
  stream_of(stream).device().for_tiles(tasks * tasks, 0.5 * static_cast<double>(h) * static_cast<double>(h), [&](int64_t tile) {
    const int64_t i = tile / tasks, j = tile % tasks;
    if (i > j) return;
    const int64_t row = args.starts[i], column = args.starts[j];
    const double product = HWY_DYNAMIC_DISPATCH(BlockProduct)(
        args.gradient_products + row * args.gradient_products_row_stride + column, args.gradient_products_row_stride,
        args.weight_products + row * args.weight_products_row_stride + column, args.weight_products_row_stride, args.starts[i + 1] - row,
        args.starts[j + 1] - column);
    args.gram[i * tasks + j] = product;
    args.gram[j * tasks + i] = product;
  });
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
#endif  // HWY_ONCE
