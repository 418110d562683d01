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
#include "cpu/embedding/update.h"

#include <cmath>
#include <cstring>
#include <type_traits>

#include "cpu/common/philox.h"

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

// 16 random bits for each element of a row.
void RandomBits(const UpdateStep& step, uint32_t table, uint32_t row, int64_t dim, uint16_t* bits) {
  for (int64_t j = 0; j < dim; j += 8) {
    const Philox random = philox(step.key0, step.key1, {row, static_cast<uint32_t>(j / 8), table, step.step});
    std::memcpy(bits + j, random.data(), sizeof random);
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

// w = decay * w - rate * direction, for f32 and bf16 weights.
template <int kDim, class W>
class WeightRow {
 public:
  WeightRow(const UpdateStep& step, const UpdateGroup& group, int r)
      : weights_(static_cast<W*>(group.table->weights) + group.rows[r] * group.table->row_stride), decay_(step.decay) {
    if constexpr (std::is_same_v<W, Bf16>) RandomBits(step, group.table_index, static_cast<uint32_t>(group.rows[r]), group.table->dim, random_);
  }

  template <class D, class Access>
  HWY_INLINE void Move(D d, int64_t j, Access access, hn::Vec<D> rate, hn::Vec<D> direction) const {
    const auto updated = hn::NegMulAdd(rate, direction, hn::Mul(hn::Set(d, decay_), access.Load(d, weights_ + j)));
    if constexpr (std::is_same_v<W, Bf16>) {
      access.StoreBits(RoundAtRandom(d, updated, hn::LoadU(Bits16<D>(), random_ + j)), d, weights_ + j);
    } else {
      access.Store(updated, d, weights_ + j);
    }
  }

 private:
  W* weights_;
  float decay_;
  // Whole vectors and whole Philox blocks are read and written, hence the room behind.
  uint16_t random_[std::is_same_v<W, Bf16> ? (kDim > 0 ? kDim + 8 : kGroupFloats + 64) : 1];
};

template <int kDim>
HWY_INLINE void ScaleGradients(const UpdateStep& step, const UpdateGroup& group) {
  if (step.gradient_scale == 1.0f) return;
  const RowTag<kDim> d;
  const auto scale = hn::Set(d, step.gradient_scale);
  for (int r = 0; r < group.count; ++r) {
    float* gradient = group.gradients + r * group.gradient_stride;
    ForVectors<kDim>(group.table->dim, [&](int64_t j, auto access) HWY_ATTR { access.Store(hn::Mul(scale, access.Load(d, gradient + j)), d, gradient + j); });
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
  ScaleGradients<kDim>(step, group);
  const auto rate = hn::Set(d, step.learning_rate);
  for (int r = 0; r < group.count; ++r) {
    const float* gradient = group.gradients + r * group.gradient_stride;
    const WeightRow<kDim, W> weights(step, group, r);
    ForVectors<kDim>(group.table->dim, [&](int64_t j, auto access) HWY_ATTR { weights.Move(d, j, access, rate, access.Load(d, gradient + j)); });
  }
}

template <int kDim, class W>
void AdaGrad(const UpdateStep& step, const UpdateGroup& group) {
  const RowTag<kDim> d;
  ScaleGradients<kDim>(step, group);
  const auto rate = hn::Set(d, step.learning_rate), epsilon = hn::Set(d, step.epsilon);
  for (int r = 0; r < group.count; ++r) {
    const float* gradient = group.gradients + r * group.gradient_stride;
    float* state = group.table->state1 + group.rows[r] * group.table->row_stride;
    const WeightRow<kDim, W> weights(step, group, r);
    ForVectors<kDim>(group.table->dim, [&](int64_t j, auto access) HWY_ATTR {
      const auto g = access.Load(d, gradient + j);
      const auto s = hn::MulAdd(g, g, access.Load(d, state + j));
      access.Store(s, d, state + j);
      weights.Move(d, j, access, rate, hn::Div(g, hn::Add(hn::Sqrt(s), epsilon)));
    });
  }
}

template <int kDim, class W>
void RowWiseAdaGrad(const UpdateStep& step, const UpdateGroup& group) {
  const RowTag<kDim> d;
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
    const WeightRow<kDim, W> weights(step, group, r);
    ForVectors<kDim>(group.table->dim, [&](int64_t j, auto access) HWY_ATTR { weights.Move(d, j, access, rate, access.Load(d, gradient + j)); });
  }
}

template <int kDim, class W>
void RowWiseAdam(const UpdateStep& step, const UpdateGroup& group) {
  const RowTag<kDim> d;
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
    const WeightRow<kDim, W> weights(step, group, r);
    ForVectors<kDim>(group.table->dim, [&](int64_t j, auto access) HWY_ATTR {
      const auto m = hn::MulAdd(beta, access.Load(d, moment + j), hn::Mul(rest, access.Load(d, gradient + j)));
      access.Store(m, d, moment + j);
      weights.Move(d, j, access, rate, m);
    });
  }
}

template <int kDim, class W>
UpdateRows ForOptimizer(int32_t optimizer) {
  switch (optimizer) {
    case CUDAMOE_OPTIMIZER_SGD: return Sgd<kDim, W>;
    case CUDAMOE_OPTIMIZER_ADAGRAD: return AdaGrad<kDim, W>;
    case CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD: return RowWiseAdaGrad<kDim, W>;
    default: return RowWiseAdam<kDim, W>;
  }
}

template <class W>
UpdateRows ForDim(int32_t optimizer, int32_t dim) {
  switch (dim) {
    case 4: return ForOptimizer<4, W>(optimizer);
    case 8: return ForOptimizer<8, W>(optimizer);
    case 16: return ForOptimizer<16, W>(optimizer);
    case 32: return ForOptimizer<32, W>(optimizer);
    case 64: return ForOptimizer<64, W>(optimizer);
    case 128: return ForOptimizer<128, W>(optimizer);
    default: return ForOptimizer<0, W>(optimizer);
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
