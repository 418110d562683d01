// Sums over rows of task gradients, and factors of their columns:
//   sums[p, t, j] = sum over the rows b of part p of gradient_t[b, j] (times the sign of value_t[b, j])
//   gradient_t[b, j] = factors[t, j] * gradient_t[b, j]
//
// Floor: one read of the gradients (and values) for the sums; one read and one write for the factors.
// Tiling: sums by task and kStrip columns over all rows, four vectors of sums in registers; factors by task and about kTileElements
// elements. Order of sums: the rows ascending, in f64.
#include <algorithm>

#include "cpu/balance/balance.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/balance/columns.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/common/vector-inl.h"

#ifndef CUDAMOE_CPU_BALANCE_COLUMNS_STRIP
#define CUDAMOE_CPU_BALANCE_COLUMNS_STRIP
namespace cudamoe::cpu {
namespace {

constexpr int64_t kStrip = 64, kTileElements = 8192;

// Some columns of one task; `values` may be null.
struct ColumnStrip {
  const float* gradients;
  int64_t row_stride;
  const float* values;
  int64_t values_row_stride;
  int64_t first_row, row_step, rows, columns;
  double* sums;
};

}  // namespace
}  // namespace cudamoe::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu::HWY_NAMESPACE {
namespace {

using F64 = hn::ScalableTag<double>;
using HalfF32 = hn::Rebind<float, F64>;

// The gradient with the sign of the value; 0 where the value is 0 or NaN.
template <class D, class V>
HWY_INLINE V Signed(D d, V gradient, V value) {
  const V zero = hn::Zero(d);
  return hn::IfThenElse(hn::Gt(value, zero), gradient, hn::IfThenElseZero(hn::Lt(value, zero), hn::Neg(gradient)));
}

template <int kVectors>
void SumVectors(const ColumnStrip& strip, int64_t column) {
  const F64 d;
  const HalfF32 d32;
  const auto width = static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<F64> sums[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) sums[v] = hn::Zero(d);
  for (int64_t row = strip.first_row; row < strip.rows; row += strip.row_step) {
    const float* gradients = strip.gradients + row * strip.row_stride + column;
    const float* values = strip.values == nullptr ? nullptr : strip.values + row * strip.values_row_stride + column;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      auto gradient = hn::LoadU(d32, gradients + v * width);
      if (values != nullptr) gradient = Signed(d32, gradient, hn::LoadU(d32, values + v * width));
      sums[v] = hn::Add(sums[v], hn::PromoteTo(d, gradient));
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[v], d, strip.sums + column + v * width);
}

void SumStrip(const ColumnStrip& strip) {
  const auto width = static_cast<int64_t>(hn::Lanes(F64()));
  int64_t column = 0;
  for (; column + 4 * width <= strip.columns; column += 4 * width) SumVectors<4>(strip, column);
  for (; column + width <= strip.columns; column += width) SumVectors<1>(strip, column);
  for (; column < strip.columns; ++column) {
    double sum = 0;
    for (int64_t row = strip.first_row; row < strip.rows; row += strip.row_step) {
      const auto gradient = static_cast<double>(strip.gradients[row * strip.row_stride + column]);
      const float value = strip.values == nullptr ? 1.0f : strip.values[row * strip.values_row_stride + column];
      sum += value > 0 ? gradient : value < 0 ? -gradient : 0.0;
    }
    strip.sums[column] = sum;
  }
}

void ScaleTile(const cudamoe_balance_scale_args& args, int64_t task, const MatrixTiles::Tile& tile) {
  const F32 d;
  const float* factors = args.factors + task * args.width + tile.column;
  for (int64_t row = tile.row; row < tile.row + tile.rows; ++row) {
    float* gradients = args.gradients + task * args.task_stride + row * args.row_stride + tile.column;
    for (int64_t c = 0; c < tile.columns; c += kLanes) {
      const int64_t count = std::min<int64_t>(kLanes, tile.columns - c);
      store_first(d, hn::Mul(load_first(d, factors + c, count), load_first(d, gradients + c, count)), gradients + c, count);
    }
  }
}

}  // namespace
}  // namespace cudamoe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cudamoe::cpu {
namespace {
HWY_EXPORT(SumStrip);
HWY_EXPORT(ScaleTile);
}  // namespace

int64_t balance_columns_workspace(void*, const cudamoe_balance_columns_args&) { return 0; }

cudamoe_status balance_columns(void* stream, const cudamoe_balance_columns_args& args) {
  const int64_t strips = (args.width + kStrip - 1) / kStrip;
  const double cost = 0.4 * args.tasks * static_cast<double>(args.rows) * static_cast<double>(args.width);
  stream_of(stream).device().for_tiles(args.parts * args.tasks * strips, cost, [&](int64_t tile) {
    const int64_t part = tile / (args.tasks * strips), task = tile / strips % args.tasks, column = tile % strips * kStrip;
    ColumnStrip strip{};
    strip.gradients = args.gradients + task * args.task_stride + column;
    strip.row_stride = args.row_stride;
    strip.values = args.values == nullptr ? nullptr : args.values + task * args.values_task_stride + column;
    strip.values_row_stride = args.values_row_stride;
    strip.first_row = part;
    strip.row_step = args.parts;
    strip.rows = args.rows;
    strip.columns = std::min(kStrip, args.width - column);
    strip.sums = args.sums + (part * args.tasks + task) * args.width + column;
    HWY_DYNAMIC_DISPATCH(SumStrip)(strip);
  });
  return CUDAMOE_OK;
}

cudamoe_status balance_scale(void* stream, const cudamoe_balance_scale_args& args) {
  const MatrixTiles tiles(args.rows, args.width, kTileElements);
  const double cost = 0.6 * args.tasks * static_cast<double>(args.rows) * static_cast<double>(args.width);
  stream_of(stream).device().for_tiles(args.tasks * tiles.count(), cost, [&](int64_t tile) {
    HWY_DYNAMIC_DISPATCH(ScaleTile)(args, tile / tiles.count(), tiles[tile % tiles.count()]);
  });
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
#endif  // HWY_ONCE
