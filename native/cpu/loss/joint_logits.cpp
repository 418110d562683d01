// The logit of a product of two probabilities, and its derivatives. With lo <= hi the two logits in order, and
//   hi >= 0:  x = e^(lo - hi), y = e^-hi       joint = lo - log1p(x + y)           derivatives (1 + y, x + y) / (1 + x + y) on (lo, hi)
//   hi <  0:  x = e^lo,        y = e^hi        joint = lo + hi - log1p(x + y)      derivatives (1 + y, 1 + x) / (1 + x + y)
// no exponential exceeds 1 and no difference cancels but in the joint logit itself, whose absolute error is that of its largest term.
//
// Floor: 12 bytes a row forward, 20 backward. Tiling: blocks of kBlockRows rows. No sums over rows.
#include <algorithm>

#include "cpu/loss/loss.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/loss/joint_logits.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/common/activation-inl.h"
#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

constexpr int64_t kChunk = 256;  // rows staged in L1; a whole number of vectors

struct Terms {
  hn::Mask<F32> above;  // hi >= 0
  VecF32 lo, hi, x, y;

  Terms(VecF32 a, VecF32 b) {
    const F32 d;
    lo = hn::Min(a, b);
    hi = hn::Max(a, b);
    // Min and Max answer either operand when one is NaN.
    lo = hn::IfThenElse(hn::IsNaN(a), a, hn::IfThenElse(hn::IsNaN(b), b, lo));
    above = hn::Ge(hi, hn::Zero(d));
    x = exp(d, hn::IfThenElse(above, hn::Sub(lo, hi), lo));
    y = exp(d, hn::IfThenElse(above, hn::Neg(hi), hi));
  }
};

void gather(const float* source, int64_t stride, int64_t count, float* buffer) {
  for (int64_t i = 0; i < count; ++i) buffer[i] = source[i * stride];
  std::fill(buffer + count, buffer + hwy::RoundUpTo(static_cast<size_t>(count), static_cast<size_t>(kLanes)), 0.0f);
}

void joint(const cudamoe_joint_logits_forward_args& args, int64_t first, int64_t rows) {
  const F32 d;
  HWY_ALIGN float a[kChunk], b[kChunk];
  for (int64_t start = first; start < first + rows; start += kChunk) {
    const int64_t count = std::min(kChunk, first + rows - start);
    gather(args.a + start * args.a_stride, args.a_stride, count, a);
    gather(args.b + start * args.b_stride, args.b_stride, count, b);
    for (int64_t i = 0; i < count; i += int64_t{kLanes}) {
      const Terms t(hn::Load(d, a + i), hn::Load(d, b + i));
      const VecF32 line = hn::IfThenElse(t.above, t.lo, hn::Add(t.lo, t.hi));
      hn::Store(hn::Sub(line, hn::Log1p(d, hn::Add(t.x, t.y))), d, a + i);
    }
    float* out = args.joint + start * args.joint_stride;
    for (int64_t i = 0; i < count; ++i) out[i * args.joint_stride] = a[i];
  }
}

void derivatives(const cudamoe_joint_logits_backward_args& args, int64_t first, int64_t rows) {
  const F32 d;
  const VecF32 one = hn::Set(d, 1.0f);
  HWY_ALIGN float a[kChunk], b[kChunk], gradient[kChunk];
  const auto add = [](const float* values, int64_t count, float* out, int64_t stride, bool accumulate) {
    for (int64_t i = 0; i < count; ++i) out[i * stride] = accumulate ? out[i * stride] + values[i] : values[i];
  };
  for (int64_t start = first; start < first + rows; start += kChunk) {
    const int64_t count = std::min(kChunk, first + rows - start);
    gather(args.a + start * args.a_stride, args.a_stride, count, a);
    gather(args.b + start * args.b_stride, args.b_stride, count, b);
    gather(args.djoint + start * args.djoint_stride, args.djoint_stride, count, gradient);
    for (int64_t i = 0; i < count; i += int64_t{kLanes}) {
      const VecF32 va = hn::Load(d, a + i), vb = hn::Load(d, b + i);
      const Terms t(va, vb);
      const VecF32 scale = hn::Div(hn::Load(d, gradient + i), hn::Add(one, hn::Add(t.x, t.y)));
      const VecF32 of_lo = hn::Mul(scale, hn::Add(one, t.y));
      const VecF32 of_hi = hn::Mul(scale, hn::Add(hn::IfThenElse(t.above, t.y, one), t.x));
      const auto a_is_low = hn::Le(va, vb);
      hn::Store(hn::IfThenElse(a_is_low, of_lo, of_hi), d, a + i);
      hn::Store(hn::IfThenElse(a_is_low, of_hi, of_lo), d, b + i);
    }
    add(a, count, args.da + start * args.da_stride, args.da_stride, args.accumulate_a != 0);
    add(b, count, args.db + start * args.db_stride, args.db_stride, args.accumulate_b != 0);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace cudamoe::cpu {

HWY_EXPORT(joint);
HWY_EXPORT(derivatives);

namespace {

constexpr int64_t kBlockRows = 2048;
constexpr double kNanosecondsARow = 3;

template <class Body>
void for_blocks(void* handle, int64_t rows, const Body& body) {
  const int64_t blocks = (rows + kBlockRows - 1) / kBlockRows;
  stream_of(handle).device().for_tiles(blocks, kNanosecondsARow * static_cast<double>(rows), [&](int64_t block) {
    const int64_t first = block * kBlockRows;
    body(first, std::min(kBlockRows, rows - first));
  });
}

}  // namespace

cudamoe_status joint_logits_forward(void* handle, const cudamoe_joint_logits_forward_args& args) {
  for_blocks(handle, args.rows, [&](int64_t first, int64_t rows) { HWY_DYNAMIC_DISPATCH(joint)(args, first, rows); });
  return CUDAMOE_OK;
}

cudamoe_status joint_logits_backward(void* handle, const cudamoe_joint_logits_backward_args& args) {
  for_blocks(handle, args.rows, [&](int64_t first, int64_t rows) { HWY_DYNAMIC_DISPATCH(derivatives)(args, first, rows); });
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu

#endif  // HWY_ONCE
