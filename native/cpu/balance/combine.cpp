// Weighted sum of task gradients, and moving averages:
//   output[b, c] (+)= sum over t of weights[t] * gradient_t[b, c]
//   averages[i] = averages[i] + rate * (values[i] - averages[i])
//
// Floor: one read of the gradients of tasks whose weight is not zero and one write of the output; element-wise, so every element is
// summed in one register in ascending t. Tiling: about kTileElements elements.
#include "cpu/balance/balance.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/balance/combine.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/common/vector-inl.h"

#ifndef CUDAMOE_CPU_BALANCE_COMBINE_TASK
#define CUDAMOE_CPU_BALANCE_COMBINE_TASK
namespace cudamoe::cpu {
namespace {

constexpr int64_t kTileElements = 8192;

// The tasks whose weight is not zero.
struct ActiveTasks {
  int count = 0;
  float weights[CUDAMOE_MAX_TASKS];
  int64_t starts[CUDAMOE_MAX_TASKS];  // of their gradients
};

}  // namespace
}  // namespace cudamoe::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu::HWY_NAMESPACE {
namespace {

void CombineTile(const cudamoe_balance_combine_args& args, const ActiveTasks& tasks, const MatrixTiles::Tile& tile) {
  const F32 d;
  for (int64_t row = tile.row; row < tile.row + tile.rows; ++row) {
    const float* gradients = args.gradients + row * args.row_stride + tile.column;
    float* output = args.output + row * args.output_row_stride + tile.column;
    int64_t c = 0;
    for (; c + 4 * kLanes <= tile.columns; c += 4 * kLanes) {
      auto sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
      for (int t = 0; t < tasks.count; ++t) {
        const float* from = gradients + tasks.starts[t] + c;
        const auto weight = hn::Set(d, tasks.weights[t]);
        sum0 = hn::MulAdd(weight, load(d, from), sum0);
        sum1 = hn::MulAdd(weight, load(d, from + kLanes), sum1);
        sum2 = hn::MulAdd(weight, load(d, from + 2 * kLanes), sum2);
        sum3 = hn::MulAdd(weight, load(d, from + 3 * kLanes), sum3);
      }
      if (args.accumulate != 0) {
        sum0 = hn::Add(load(d, output + c), sum0);
        sum1 = hn::Add(load(d, output + c + kLanes), sum1);
        sum2 = hn::Add(load(d, output + c + 2 * kLanes), sum2);
        sum3 = hn::Add(load(d, output + c + 3 * kLanes), sum3);
      }
      store(d, sum0, output + c);
      store(d, sum1, output + c + kLanes);
      store(d, sum2, output + c + 2 * kLanes);
      store(d, sum3, output + c + 3 * kLanes);
    }
    for (; c < tile.columns; c += kLanes) {
      const int64_t count = std::min<int64_t>(kLanes, tile.columns - c);
      auto sum = hn::Zero(d);
      for (int t = 0; t < tasks.count; ++t)
        sum = hn::MulAdd(hn::Set(d, tasks.weights[t]), load_first(d, gradients + tasks.starts[t] + c, count), sum);
      if (args.accumulate != 0) sum = hn::Add(load_first(d, output + c, count), sum);
      store_first(d, sum, output + c, count);
    }
  }
}

void AverageTile(const cudamoe_balance_average_args& args, int64_t begin, int64_t end) {
  const F32 d;
  const auto rate = hn::Set(d, args.rate);
  for (int64_t i = begin; i < end; i += kLanes) {
    const int64_t count = std::min<int64_t>(kLanes, end - i);
    const auto value = load_first(d, args.values + i, count), average = load_first(d, args.averages + i, count);
    // Of a number the difference with itself is 0; of an infinity or NaN it is NaN.
    const auto finite = hn::Eq(hn::Sub(value, value), hn::Zero(d));
    store_first(d, hn::IfThenElse(finite, hn::MulAdd(rate, hn::Sub(value, average), average), average), args.averages + i, count);
  }
}

}  // namespace
}  // namespace cudamoe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cudamoe::cpu {
namespace {
HWY_EXPORT(CombineTile);
HWY_EXPORT(AverageTile);
}  // namespace

cudamoe_status balance_combine(void* stream, const cudamoe_balance_combine_args& args) {
  ActiveTasks tasks;
  for (int32_t t = 0; t < args.tasks; ++t) {
    if (args.weights[t] == 0) continue;
    tasks.weights[tasks.count] = args.weights[t];
    tasks.starts[tasks.count++] = t * args.task_stride;
  }
  const MatrixTiles tiles(args.rows, args.width, kTileElements);
  const double cost = 0.4 * (tasks.count + 1) * static_cast<double>(args.rows) * static_cast<double>(args.width);
  stream_of(stream).device().for_tiles(tiles.count(), cost, [&](int64_t tile) {
    HWY_DYNAMIC_DISPATCH(CombineTile)(args, tasks, tiles[tile]);
  });
  return CUDAMOE_OK;
}

cudamoe_status balance_average(void* stream, const cudamoe_balance_average_args& args) {
  const int64_t tiles = (args.count + kTileElements - 1) / kTileElements;
  stream_of(stream).device().for_tiles(tiles, static_cast<double>(args.count), [&](int64_t tile) {
    HWY_DYNAMIC_DISPATCH(AverageTile)(args, tile * kTileElements, std::min(args.count, (tile + 1) * kTileElements));
  });
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
#endif  // HWY_ONCE
