// Attention whose heads are one column wide, each with a key head of its own: pooling over positions, column by column.
//
//   s[j] = scale q k[j],  p = softmax(s) over the seen keys,  y = sum_j p[j] w[j] v[j],  log_sum = ln sum_j exp(s[j])
//   backward, with p[j] = exp(s[j] - log_sum) and D = dy y:
//   dv[j] += p[j] w[j] dy,   ds[j] = scale p[j] (w[j] dy v[j] - D),   dq = sum_j ds[j] k[j],   dk[j] += ds[j] q
//
// Floor: forward one exponential for each pair of a query and a key and each head, backward another.
// Tiling: a lane is a head; a task is some sequences, all heads. Scores are computed twice, for their maximum and for their exponentials.
// Order of the sums: keys ascending; dk and dv queries ascending.
#include <algorithm>
#include <limits>

#include "cpu/attention/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/attention/columns.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/common/activation-inl.h"
#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

// Some neighbouring heads, at most a vector of them.
struct HeadLanes {
  int64_t first, count;

  HWY_INLINE VecF32 read(const float* row) const {
    return count == kLanes ? load(F32(), row + first) : load_first(F32(), row + first, count);
  }
  HWY_INLINE void write(VecF32 v, float* row) const {
    if (count == kLanes) {
      store(F32(), v, row + first);
    } else {
      store_first(F32(), v, row + first, count);
    }
  }
};

template <class Args>
HWY_INLINE VecF32 key_weight(const Args& args, int64_t sequence, int64_t key) {
  return hn::Set(F32(), args.key_weights == nullptr ? 1.0f : args.key_weights[sequence * args.key_weights_row_stride + key]);
}

void attend_query(const cudamoe_attention_forward_args& args, int64_t sequence, int64_t query, int64_t seen, HeadLanes heads) {
  const F32 d;
  const int64_t row = sequence * args.queries + query;
  const float *k = args.k + sequence * args.keys * args.k_row_stride, *v = args.v + sequence * args.keys * args.v_row_stride;
  const VecF32 q = hn::Mul(heads.read(args.q + row * args.q_row_stride), hn::Set(d, args.scale));
  VecF32 most = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (int64_t j = 0; j < seen; ++j) most = hn::Max(most, hn::Mul(q, heads.read(k + j * args.k_row_stride)));
  VecF32 total = hn::Zero(d), sum = hn::Zero(d);
  for (int64_t j = 0; j < seen; ++j) {
    const VecF32 p = exp(d, hn::MulSub(q, heads.read(k + j * args.k_row_stride), most));
    total = hn::Add(total, p);
    sum = hn::MulAdd(hn::Mul(p, key_weight(args, sequence, j)), heads.read(v + j * args.v_row_stride), sum);
  }
  heads.write(seen == 0 ? hn::Zero(d) : hn::Div(sum, total), args.y + row * args.y_row_stride);
  if (args.log_sum == nullptr) return;
  const VecF32 log_sum = seen == 0 ? most : hn::IfThenElse(hn::IsNaN(total), total, hn::Add(most, hn::Log(d, total)));
  heads.write(log_sum, args.log_sum + row * args.heads);
}

void attend_columns(const cudamoe_attention_forward_args& args, int64_t first, int64_t sequences, FirstOffender& bad) {
  for (int64_t s = first; s < first + sequences; ++s) {
    const int64_t count = key_count(args, s, bad);
    for (int64_t i = 0; i < args.queries; ++i) {
      for (int64_t h = 0; h < args.heads; h += kLanes)
        attend_query(args, s, i, seen_keys(args, i, count), {h, std::min<int64_t>(kLanes, args.heads - h)});
    }
  }
}

void attend_query_back(const cudamoe_attention_backward_args& args, int64_t sequence, int64_t query, int64_t seen, HeadLanes heads) {
  const F32 d;
  const int64_t row = sequence * args.queries + query, keys = sequence * args.keys;
  const VecF32 q = heads.read(args.q + row * args.q_row_stride), dy = heads.read(args.dy + row * args.dy_row_stride);
  const VecF32 scale = hn::Set(d, args.scale), scaled = hn::Mul(q, scale), log_sum = heads.read(args.log_sum + row * args.heads);
  const VecF32 dot = hn::Mul(dy, heads.read(args.y + row * args.y_row_stride));
  VecF32 dq = hn::Zero(d);
  for (int64_t j = 0; j < seen; ++j) {
    const VecF32 k = heads.read(args.k + (keys + j) * args.k_row_stride), v = heads.read(args.v + (keys + j) * args.v_row_stride);
    const VecF32 p = exp(d, hn::MulSub(scaled, k, log_sum)), w = key_weight(args, sequence, j);
    const VecF32 upper = hn::Mul(w, dy), ds = hn::Mul(hn::Mul(p, scale), hn::MulSub(upper, v, dot));
    float *dk = args.dk + (keys + j) * args.dk_row_stride, *dv = args.dv + (keys + j) * args.dv_row_stride;
    heads.write(hn::MulAdd(p, upper, heads.read(dv)), dv);
    heads.write(hn::MulAdd(ds, q, heads.read(dk)), dk);
    dq = hn::MulAdd(ds, k, dq);
  }
  heads.write(dq, args.dq + row * args.dq_row_stride);
}

void attend_columns_back(const cudamoe_attention_backward_args& args, int64_t first, int64_t sequences, FirstOffender& bad) {
  for (int64_t s = first; s < first + sequences; ++s) {
    for (int64_t j = s * args.keys; j < (s + 1) * args.keys; ++j) {
      std::fill_n(args.dk + j * args.dk_row_stride, args.heads, 0.0f);
      std::fill_n(args.dv + j * args.dv_row_stride, args.heads, 0.0f);
    }
    const int64_t count = key_count(args, s, bad);
    for (int64_t i = 0; i < args.queries; ++i) {
      for (int64_t h = 0; h < args.heads; h += kLanes)
        attend_query_back(args, s, i, seen_keys(args, i, count), {h, std::min<int64_t>(kLanes, args.heads - h)});
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace cudamoe::cpu {

HWY_EXPORT(attend_columns);
HWY_EXPORT(attend_columns_back);

namespace {

// Enough sequences for a thread to take, fixed by the shape.
template <class Args, class Body>
void for_sequences(Stream& stream, const char* function, const Args& args, const Body& body) {
  constexpr int64_t kWorthwhile = 8192;
  const double each = static_cast<double>(args.queries) * static_cast<double>(args.keys) * args.heads;
  const int64_t size = each >= kWorthwhile ? 1 : kWorthwhile / std::max<int64_t>(1, static_cast<int64_t>(each));
  FirstOffender bad;
  stream.device().for_tiles((args.sequences + size - 1) / size, 0.5 * each * static_cast<double>(args.sequences), [&](int64_t tile) {
    const int64_t first = tile * size;
    body(first, std::min(size, args.sequences - first), bad);
  });
  report_key_count(stream, function, args, bad);
}

}  // namespace

void column_attention_forward(Stream& stream, const cudamoe_attention_forward_args& args) {
  for_sequences(stream, "cudamoe_attention_forward", args, [&](int64_t first, int64_t sequences, FirstOffender& bad) {
    HWY_DYNAMIC_DISPATCH(attend_columns)(args, first, sequences, bad);
  });
}

void column_attention_backward(Stream& stream, const cudamoe_attention_backward_args& args) {
  for_sequences(stream, "cudamoe_attention_backward", args, [&](int64_t first, int64_t sequences, FirstOffender& bad) {
    HWY_DYNAMIC_DISPATCH(attend_columns_back)(args, first, sequences, bad);
  });
}

}  // namespace cudamoe::cpu

#endif  // HWY_ONCE
