// Forward products with one output column, the heads of a network: y[r] = activation(x[r, :] . w + bias).
//
// Floor: each element of x read once. A panel would compute 15 or more columns that do not exist, so eight rows at a time are multiplied
// with w as vectors. Order of a sum: lane l of a vector adds the products of columns l, l + lanes, l + 2 lanes, ... by multiply-adds in
// ascending order; the lanes are then added in the fixed order of Highway's SumOfLanes. It depends on the depth and the level only.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/gemm/dot.cpp"
#include "cpu/gemm/dot.h"

#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include <algorithm>

#include "cpu/common/activation-inl.h"
#include "cpu/gemm/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

constexpr int kRowsAtOnce = 8;

template <bool kRound, class T>
HWY_INLINE VecF32 operand(F32 d, const T* from, int64_t count) {
  const VecF32 value = count >= kLanes ? load(d, from) : load_first(d, from, count);
  if constexpr (kRound) return round_to_bf16(d, value);
  return value;
}

// sums[i] = x[row + i, :] . weights for i < count <= kRowsAtOnce; `weights` has whole vectors.
template <bool kRound, class T>
void multiply_rows(const Product& product, int64_t group, int64_t row, int64_t count, const float* weights, Stream& stream, float* sums) {
  const F32 d;
  const T* x[kRowsAtOnce];
  bool valid[kRowsAtOnce];
  for (int64_t i = 0; i < kRowsAtOnce; ++i) {
    x[i] = row_of_x<T>(product, group, row + std::min(i, count - 1), 0);
    valid[i] = x[i] != nullptr;
    if (valid[i]) continue;
    x[i] = reinterpret_cast<const T*>(weights);  // any values that can be read
    if (i < count) report_row(product, row + i, stream);
  }
  VecF32 s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
  const auto step = [&](int64_t t, int64_t left) HWY_ATTR {
    const VecF32 w = load(d, weights + t);
    s0 = hn::MulAdd(operand<kRound>(d, x[0] + t, left), w, s0);
    s1 = hn::MulAdd(operand<kRound>(d, x[1] + t, left), w, s1);
    s2 = hn::MulAdd(operand<kRound>(d, x[2] + t, left), w, s2);
    s3 = hn::MulAdd(operand<kRound>(d, x[3] + t, left), w, s3);
    s4 = hn::MulAdd(operand<kRound>(d, x[4] + t, left), w, s4);
    s5 = hn::MulAdd(operand<kRound>(d, x[5] + t, left), w, s5);
    s6 = hn::MulAdd(operand<kRound>(d, x[6] + t, left), w, s6);
    s7 = hn::MulAdd(operand<kRound>(d, x[7] + t, left), w, s7);
  };
  int64_t t = 0;
  for (; t + kLanes <= product.depth; t += kLanes) step(t, kLanes);
  if (t < product.depth) step(t, product.depth - t);
  const VecF32 all[kRowsAtOnce] = {s0, s1, s2, s3, s4, s5, s6, s7};
  for (int64_t i = 0; i < count; ++i) sums[i] = valid[i] ? hn::GetLane(hn::SumOfLanes(d, all[i])) : 0.0f;
}

// A column of a matrix as vectors of up to kLanes rows.
template <class T>
HWY_INLINE VecF32 load_rows(F32 d, const T* from, int64_t stride, int64_t count) {
  if (stride == 1) return load_first(d, from, count);
  HWY_ALIGN T lanes[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = from[i * stride];
  return load(d, lanes);
}
template <class T>
HWY_INLINE void store_rows(F32 d, VecF32 value, T* to, int64_t stride, int64_t count) {
  if (stride == 1) return store_first(d, value, to, count);
  HWY_ALIGN T lanes[kLanes];
  store(d, value, lanes);
  for (int64_t i = 0; i < count; ++i) to[i * stride] = lanes[i];
}

// The sums of rows row .. row + count - 1 to y; `sums` has whole vectors.
template <class T>
void finish_rows(const Product& product, int64_t group, int64_t row, int64_t count, const float* sums) {
  const int64_t stride = product.y_row_stride;
  const int64_t begin = (product.groups.offsets == nullptr ? group * product.y_group_stride : 0) + row * stride;
  T* y = static_cast<T*>(product.y) + begin;
  T* before = product.preactivation == nullptr ? nullptr : static_cast<T*>(product.preactivation) + begin;
  const float* bias = product.bias == nullptr ? nullptr : product.bias + group * product.bias_group_stride;
  with_activation(product.activation, [&](auto activation) HWY_ATTR {
    const F32 d;
    for (int64_t r = 0; r < count; r += kLanes) {
      const int64_t part = std::min<int64_t>(kLanes, count - r);
      VecF32 value = load(d, sums + r);
      if (product.accumulate) value = load_rows(d, y + r * stride, stride, part) + value;
      if (bias != nullptr) value = value + hn::Set(d, *bias);
      if (before != nullptr) store_rows(d, value, before + r * stride, stride, part);
      store_rows(d, activate<activation()>(d, value, product.slope), y + r * stride, stride, part);
    }
  });
}

// The only column of packed weights, in whole vectors.
void unpack_weights(const Product& product, int64_t group, float* weights) {
  const PackedLayout layout = packed_layout(product.columns, product.depth, product.packed_bf16);
  const void* packed = static_cast<const char*>(product.packed) + group * layout.group_bytes();
  const bool pairs = multiplies_pairs(product.packed_bf16);
  for (int64_t t = 0; t < product.depth; ++t) {
    if (pairs) {
      const Bf16Pair& pair = static_cast<const Bf16Pair*>(packed)[t / 2 * panel_columns()];
      weights[t] = to_f32(t % 2 == 0 ? pair.low : pair.high);
    } else {
      const int64_t at = t * panel_columns();
      weights[t] = product.packed_bf16 ? to_f32(static_cast<const Bf16*>(packed)[at]) : static_cast<const float*>(packed)[at];
    }
  }
  std::fill(weights + product.depth, weights + round_up(product.depth, kLanes), 0.0f);
}

void dot_task(const Product& product, int64_t group, int64_t row, int64_t rows, Stream& stream, float* weights) {
  unpack_weights(product, group, weights);
  const auto multiply = product.x_bf16        ? &multiply_rows<false, Bf16>
                        : product.packed_bf16 ? &multiply_rows<true, float>
                                              : &multiply_rows<false, float>;
  const auto finish = product.y_bf16 ? &finish_rows<Bf16> : &finish_rows<float>;
  constexpr int64_t kSums = 64;
  HWY_ALIGN float sums[kSums] = {};
  for (int64_t done = 0; done < rows; done += kSums) {
    const int64_t count = std::min(kSums, rows - done);
    for (int64_t i = 0; i < count; i += kRowsAtOnce) {
      multiply(product, group, row + done + i, std::min<int64_t>(kRowsAtOnce, count - i), weights, stream, sums + i);
    }
    finish(product, group, row + done, count, sums);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cudamoe::cpu {

HWY_EXPORT(dot_task);

bool is_dot(const Product& product) { return product.columns == 1 && !product.derivative && product.depth <= kMostDotDepth; }

void run_dot(Stream& stream, const Product& product, float* workspace, int64_t worker_floats) {
  constexpr int64_t kTaskRows = 512;
  constexpr double kNanosecondsARow = 3, kNanosecondsAnElement = 0.05;
  const RowGroups& groups = product.groups;
  const RowBlocks blocks(groups, kTaskRows, 1);
  const auto rows = static_cast<double>(groups.offsets == nullptr ? groups.groups * groups.rows : groups.offsets[groups.groups]);
  const double cost = rows * (kNanosecondsARow + static_cast<double>(product.depth) * kNanosecondsAnElement);
  const auto run = HWY_DYNAMIC_DISPATCH(dot_task);
  stream.device().for_tiles(blocks.count(), cost, [&](int64_t task, int worker) {
    const RowBlocks::Block block = blocks.block(task);
    if (block.tiles == 0) return;
    const int64_t row = block.tile_begin(block.first_tile);
    run(product, block.group, row, block.tile_begin(block.first_tile + 1) - row, stream, workspace + worker * worker_floats);
  });
}

}  // namespace cudamoe::cpu
#endif
