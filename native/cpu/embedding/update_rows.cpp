// The optimiser step of embedding rows, from their merged gradients. With g = gradient_scale * gradient, d = 1 - learning_rate *
// weight_decay, and ms = mean over the row of g^2:
//   SGD:               w = d * w - lr * g
//   AdaGrad:           s = s + g^2                                   w = d * w - lr * g / (sqrt(s) + epsilon)
//   row-wise AdaGrad:  s = s + ms (one s a row)                      w = d * w - lr / (sqrt(s) + epsilon) * g
//   row-wise Adam:     v = beta2 * v + (1 - beta2) * ms (one v a row)
//                      m = beta1 * m + (1 - beta1) * g               w = d * w - lr * m^ / (sqrt(v^) + epsilon)
//                      with m^ = m / (1 - beta1^step), v^ = v / (1 - beta2^step)
// in f32. Floor: weights and state of a touched row are read and written once.
//
// bf16 weights are widened, updated in f32 and rounded at random to one of their two neighbours, with the probability that makes the
// expected value right: 16 random bits are added below the mantissa and the lower half is dropped. The bits are those of
// Philox4x32-10 with key (seed, step) and counter (row, element / 8, table, step), so they depend on nothing else.
//
// A group of rows is taken through each stage together, so that the square roots and divisions of 16 rows are one vector operation.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "cpu/embedding/update.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/embedding/update_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/embedding/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu::HWY_NAMESPACE {
namespace {

// A whole vector, or its first lanes (of full vectors only: short rows of a known dimension fill a short vector).
struct Whole {
  template <class D, class T>
  HWY_INLINE hn::Vec<D> Load(D d, const T* from) const {
    return LoadRow(d, from);
  }
  template <class D>
  HWY_INLINE void Store(hn::Vec<D> v, D d, float* to) const {
    StoreRow(v, d, to);
  }
  template <class D>
  HWY_INLINE void StoreBits(hn::Vec<Bits16<D>> v, D, Bf16* to) const {
    hn::StoreU(v, Bits16<D>(), reinterpret_cast<uint16_t*>(to));
  }
};
struct Cut {
  int64_t count;
  template <class T>
  HWY_INLINE VecF32 Load(F32 d, const T* from) const {
    return load_first(d, from, count);
  }
  HWY_INLINE void Store(VecF32 v, F32 d, float* to) const { store_first(d, v, to, count); }
  HWY_INLINE void StoreBits(hn::Vec<Bits16<F32>> v, F32, Bf16* to) const {
    HWY_ALIGN uint16_t lanes[kLanes];
    hn::Store(v, Bits16<F32>(), lanes);
    std::memcpy(static_cast<void*>(to), lanes, static_cast<size_t>(count) * sizeof(Bf16));
  }
};

// The tag of a row of kDim elements; kDim = 0 stands for any dimension.
template <int kDim>
using RowTag = hn::CappedTag<float, kDim == 0 ? 64 : kDim>;

// Calls use(first element, access) for each vector of a row.
template <int kDim, class Use>
HWY_INLINE void ForVectors(int64_t dim, Use&& use) {
  constexpr int kWidth = static_cast<int>(hn::MaxLanes(RowTag<kDim>()));
  if constexpr (kDim > 0) {
#pragma GCC unroll 32
    for (int j = 0; j < kDim; j += kWidth) use(int64_t{j}, Whole());
  } else {
    int64_t j = 0;
    for (; j + kWidth <= dim; j += kWidth) use(j, Whole());
    if (j < dim) use(j, Cut{dim - j});
  }
}

// Both halves of the products of 32-bit lanes.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void WideMul(D d, V a, V b, V* high, V* low) {
  const hn::RepartitionToWide<D> wide;
  const auto even = hn::MulEven(a, b);
  const auto odd = hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(wide, a))), b);
  const auto upper = hn::Set(wide, 0xFFFFFFFF00000000u);
  *low = hn::BitCast(d, hn::Or(hn::AndNot(upper, even), hn::ShiftLeft<32>(odd)));
  *high = hn::BitCast(d, hn::Or(hn::ShiftRight<32>(even), hn::And(upper, odd)));
}

// Philox of cpu/common/philox.h, one counter a lane; the four words of a lane follow each other in `to`.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void PhiloxLanes(D d, uint32_t key0, uint32_t key1, V c0, V c1, V c2, V c3, uint32_t* to) {
  const auto multiplier0 = hn::Set(d, 0xD2511F53u), multiplier1 = hn::Set(d, 0xCD9E8D57u);
  for (int round = 0; round < 10; ++round) {
    V high0, low0, high1, low1;
    WideMul(d, c0, multiplier0, &high0, &low0);
    WideMul(d, c2, multiplier1, &high1, &low1);
    c0 = hn::Xor(hn::Xor(high1, c1), hn::Set(d, key0));
    c1 = low1;
    c2 = hn::Xor(hn::Xor(high0, c3), hn::Set(d, key1));
    c3 = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  hn::StoreInterleaved4(c0, c1, c2, c3, d, to);
}

// 16 random bits for each element of each row of a group; row r's begin at bits + r * RandomStride(dim).
HWY_INLINE int64_t RandomStride(int64_t dim) { return (dim + 7) / 8 * 8; }

void RandomBits(const UpdateStep& step, const UpdateGroup& group, uint16_t* bits) {
  const hn::ScalableTag<uint32_t> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t blocks = RandomStride(group.table->dim) / 8, all = blocks * group.count;
  HWY_ALIGN uint32_t rows[hn::MaxLanes(d)], places[hn::MaxLanes(d)];
  int64_t row = 0, place = 0;
  for (int64_t i = 0; i < all; i += lanes) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      rows[lane] = static_cast<uint32_t>(group.rows[std::min<int64_t>(row, group.count - 1)]);
      places[lane] = static_cast<uint32_t>(place);
      if (++place == blocks) {
        place = 0;
        ++row;
      }
    }
    PhiloxLanes(d, step.key0, step.key1, hn::Load(d, rows), hn::Load(d, places), hn::Set(d, group.table_index), hn::Set(d, step.step),
                reinterpret_cast<uint32_t*>(bits + 8 * i));
  }
}

template <class D>
HWY_INLINE hn::Vec<Bits16<D>> RoundAtRandom(D d, hn::Vec<D> v, hn::Vec<Bits16<D>> random) {
  const Bits32<D> u;
  const auto bits = hn::BitCast(u, v);
  const auto exponent = hn::Set(u, 0x7F800000u);
  const auto infinite = hn::Eq(hn::And(bits, exponent), exponent);
  const auto rounded = hn::IfThenElse(infinite, bits, hn::Add(bits, hn::PromoteTo(u, random)));
  return UpperHalves(d, QuietNan(d, v, rounded));
}

// The weights of a group: w = decay * w - rate * direction, for f32 and bf16.
template <int kDim, class W>
class GroupWeights {
 public:
  GroupWeights(const UpdateStep& step, const UpdateGroup& group)
      : weights_(static_cast<W*>(group.table->weights)),
        rows_(group.rows),
        stride_(group.table->row_stride),
        dim_(group.table->dim),
        decay_(step.decay) {
    if constexpr (std::is_same_v<W, Bf16>) RandomBits(step, group, random_);
  }

  // Elements j .. of row r.
  template <class D, class Access>
  HWY_INLINE void Move(D d, int r, int64_t j, Access access, hn::Vec<D> rate, hn::Vec<D> direction) const {
    W* weights = weights_ + rows_[r] * stride_ + j;
    const auto updated = hn::NegMulAdd(rate, direction, hn::Mul(hn::Set(d, decay_), access.Load(d, weights)));
    if constexpr (std::is_same_v<W, Bf16>) {
      access.StoreBits(RoundAtRandom(d, updated, hn::LoadU(Bits16<D>(), random_ + r * RandomStride(dim_) + j)), d, weights);
    } else {
      access.Store(updated, d, weights);
    }
  }

 private:
  W* weights_;
  const int64_t* rows_;
  int64_t stride_, dim_;
  float decay_;
  // Whole vectors are written and read, hence the room behind.
  alignas(64) uint16_t random_[std::is_same_v<W, Bf16> ? kGroupFloats + 128 : 1];
};

template <int kDim>
HWY_INLINE void ScaleGradients(const UpdateStep& step, const UpdateGroup& group) {
  if (step.gradient_scale == 1.0f) return;
  const RowTag<kDim> d;
  const auto scale = hn::Set(d, step.gradient_scale);
  for (int r = 0; r < group.count; ++r) {
    float* gradient = group.gradients + r * group.gradient_stride;
    ForVectors<kDim>(group.table->dim,
                     [&](int64_t j, auto access) HWY_ATTR { access.Store(hn::Mul(scale, access.Load(d, gradient + j)), d, gradient + j); });
  }
}

// means[r] = mean of the squares of row r's gradient.
template <int kDim>
HWY_INLINE void MeanSquares(const UpdateGroup& group, float* means) {
  const RowTag<kDim> d;
  const float dim = static_cast<float>(group.table->dim);
  for (int r = 0; r < group.count; ++r) {
    const float* gradient = group.gradients + r * group.gradient_stride;
    auto sum = hn::Zero(d);
    ForVectors<kDim>(group.table->dim, [&](int64_t j, auto access) HWY_ATTR {
      const auto g = access.Load(d, gradient + j);
      sum = hn::MulAdd(g, g, sum);
    });
    means[r] = hn::GetLane(hn::SumOfLanes(d, sum)) / dim;
  }
}

// rates[r] = numerator / (sqrt(scale * states[r]) + epsilon) for a whole group.
HWY_INLINE void RowRates(float numerator, float scale, float epsilon, const float* states, float* rates) {
  const hn::CappedTag<float, kGroupRows> d;
  for (size_t r = 0; r < kGroupRows; r += hn::Lanes(d)) {
    const auto root = hn::Sqrt(hn::Mul(hn::Set(d, scale), hn::Load(d, states + r)));
    hn::Store(hn::Div(hn::Set(d, numerator), hn::Add(root, hn::Set(d, epsilon))), d, rates + r);
  }
}

template <int kDim, class W>
void Sgd(const UpdateStep& step, const UpdateGroup& group) {
  const RowTag<kDim> d;
  const GroupWeights<kDim, W> weights(step, group);
  ScaleGradients<kDim>(step, group);
  const auto rate = hn::Set(d, step.learning_rate);
  for (int r = 0; r < group.count; ++r) {
    const float* gradient = group.gradients + r * group.gradient_stride;
    ForVectors<kDim>(group.table->dim,
                     [&](int64_t j, auto access) HWY_ATTR { weights.Move(d, r, j, access, rate, access.Load(d, gradient + j)); });
  }
}

template <int kDim, class W>
void AdaGrad(const UpdateStep& step, const UpdateGroup& group) {
  const RowTag<kDim> d;
  const GroupWeights<kDim, W> weights(step, group);
  ScaleGradients<kDim>(step, group);
  const auto rate = hn::Set(d, step.learning_rate), epsilon = hn::Set(d, step.epsilon);
  for (int r = 0; r < group.count; ++r) {
    const float* gradient = group.gradients + r * group.gradient_stride;
    float* state = group.table->state1 + group.rows[r] * group.table->row_stride;
    ForVectors<kDim>(group.table->dim, [&](int64_t j, auto access) HWY_ATTR {
      const auto g = access.Load(d, gradient + j);
      const auto s = hn::MulAdd(g, g, access.Load(d, state + j));
      access.Store(s, d, state + j);
      weights.Move(d, r, j, access, rate, hn::Div(g, hn::Add(hn::Sqrt(s), epsilon)));
    });
  }
}

template <int kDim, class W>
void RowWiseAdaGrad(const UpdateStep& step, const UpdateGroup& group) {
  const RowTag<kDim> d;
  const GroupWeights<kDim, W> weights(step, group);
  HWY_ALIGN float states[kGroupRows] = {}, rates[kGroupRows];
  ScaleGradients<kDim>(step, group);
  MeanSquares<kDim>(group, states);
  for (int r = 0; r < group.count; ++r) {
    float& state = group.table->state1[group.rows[r]];
    states[r] += state;
    state = states[r];
  }
  RowRates(step.learning_rate, 1.0f, step.epsilon, states, rates);
  for (int r = 0; r < group.count; ++r) {
    const float* gradient = group.gradients + r * group.gradient_stride;
    const auto rate = hn::Set(d, rates[r]);
    ForVectors<kDim>(group.table->dim,
                     [&](int64_t j, auto access) HWY_ATTR { weights.Move(d, r, j, access, rate, access.Load(d, gradient + j)); });
  }
}

template <int kDim, class W>
void RowWiseAdam(const UpdateStep& step, const UpdateGroup& group) {
  const RowTag<kDim> d;
  const GroupWeights<kDim, W> weights(step, group);
  HWY_ALIGN float states[kGroupRows] = {}, rates[kGroupRows];
  ScaleGradients<kDim>(step, group);
  MeanSquares<kDim>(group, states);
  for (int r = 0; r < group.count; ++r) {
    float& state = group.table->state2[group.rows[r]];
    states[r] = step.beta2 * state + (1.0f - step.beta2) * states[r];
    state = states[r];
  }
  RowRates(step.learning_rate * step.correction1, step.correction2, step.epsilon, states, rates);
  const auto beta = hn::Set(d, step.beta1), rest = hn::Set(d, 1.0f - step.beta1);
  for (int r = 0; r < group.count; ++r) {
    const float* gradient = group.gradients + r * group.gradient_stride;
    float* moment = group.table->state1 + group.rows[r] * group.table->row_stride;
    const auto rate = hn::Set(d, rates[r]);
    ForVectors<kDim>(group.table->dim, [&](int64_t j, auto access) HWY_ATTR {
      const auto m = hn::MulAdd(beta, access.Load(d, moment + j), hn::Mul(rest, access.Load(d, gradient + j)));
      access.Store(m, d, moment + j);
      weights.Move(d, r, j, access, rate, m);
    });
  }
}

template <int kDim, class W>
UpdateRows ForOptimizer(int32_t optimizer) {
  switch (optimizer) {
    case CUDAMOE_OPTIMIZER_SGD:
      return Sgd<kDim, W>;
    case CUDAMOE_OPTIMIZER_ADAGRAD:
      return AdaGrad<kDim, W>;
    case CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD:
      return RowWiseAdaGrad<kDim, W>;
    default:
      return RowWiseAdam<kDim, W>;
  }
}

template <class W>
UpdateRows ForDim(int32_t optimizer, int32_t dim) {
  switch (dim) {
    case 4:
      return ForOptimizer<4, W>(optimizer);
    case 8:
      return ForOptimizer<8, W>(optimizer);
    case 16:
      return ForOptimizer<16, W>(optimizer);
    case 32:
      return ForOptimizer<32, W>(optimizer);
    case 64:
      return ForOptimizer<64, W>(optimizer);
    case 128:
      return ForOptimizer<128, W>(optimizer);
    default:
      return ForOptimizer<0, W>(optimizer);
  }
}

UpdateRows ChooseUpdateRows(int32_t optimizer, int32_t dim, int32_t dtype) {
  return dtype == CUDAMOE_BF16 ? ForDim<Bf16>(optimizer, dim) : ForDim<float>(optimizer, dim);
}

}  // namespace
}  // namespace cudamoe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cudamoe::cpu {
namespace {
HWY_EXPORT(ChooseUpdateRows);
}  // namespace

UpdateRows update_rows_for(int32_t optimizer, const cudamoe_embedding_table& table) {
  return HWY_DYNAMIC_DISPATCH(ChooseUpdateRows)(optimizer, table.dim, table.dtype);
}

}  // namespace cudamoe::cpu
#endif  // HWY_ONCE
