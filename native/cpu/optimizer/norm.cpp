// Norm of all gradients: norm[0] = sqrt(sum of g^2).
//
// Floor: one read of the gradients. Tiling: chunks of one tensor, TensorChunks::kElements each, fixed by the shapes.
// Order of sums: squares of f32 are exact in f64. In a chunk four vectors of f64 sums, each lane in ascending order, then the four, then
// the lanes; then the chunks in ascending order.
#include <cmath>

#include "cpu/optimizer/optimizer.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/optimizer/norm.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

double SumOfSquares(const float* values, int64_t count) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> d32;
  const auto width = static_cast<int64_t>(hn::Lanes(d));
  auto sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  int64_t i = 0;
  const auto square = [&](int64_t at, auto sum) HWY_ATTR {
    const auto v = hn::PromoteTo(d, hn::LoadU(d32, values + at));
    return hn::MulAdd(v, v, sum);
  };
  for (; i + 4 * width <= count; i += 4 * width) {
    sum0 = square(i, sum0);
    sum1 = square(i + width, sum1);
    sum2 = square(i + 2 * width, sum2);
    sum3 = square(i + 3 * width, sum3);
  }
  double rest = 0;
  for (; i < count; ++i) rest += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3)))) + rest;
}

}  // namespace
}  // namespace cudamoe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cudamoe::cpu {
namespace {
HWY_EXPORT(SumOfSquares);
}  // namespace

int64_t optimizer_norm_workspace(void*, const cudamoe_optimizer_norm_args& args) {
  int64_t chunks = 0;
  for (int32_t t = 0; t < args.tensor_count; ++t) chunks += TensorChunks::chunks_of(args.tensors[t]);
  return 8 * chunks;
}

cudamoe_status optimizer_norm(void* stream, const cudamoe_optimizer_norm_args& args) {
  const TensorChunks chunks(args.tensors, args.tensor_count);
  auto* partials = static_cast<double*>(args.workspace);
  stream_of(stream).device().for_tiles(chunks.count(), 0.3 * static_cast<double>(chunks.elements()), [&](int64_t c) {
    const TensorChunks::Chunk chunk = chunks[c];
    partials[c] = HWY_DYNAMIC_DISPATCH(SumOfSquares)(chunk.tensor->gradient + chunk.begin, chunk.end - chunk.begin);
  });
  double sum = 0;
  for (int64_t c = 0; c < chunks.count(); ++c) sum += partials[c];
  args.norm[0] = std::sqrt(sum);
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
#endif  // HWY_ONCE
