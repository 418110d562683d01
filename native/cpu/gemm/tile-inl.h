// The register tile of all matrix products:
//   c[i, j] (+)= sum over t = 0 .. depth-1, ascending, of a[i, t] * b[t, j]      (one fused multiply-add chain an element)
// with i < kRows and j < kVectors vectors of columns, and its write-out.
//
// Floor: 2 * rows * columns * depth flops. Tiling: 2 vectors of columns (one panel) by as many rows as leave one register for the broadcast
// of a and two for b: 14 x 32 with AVX-512 (28 of 32 registers accumulate), 6 x 16 with AVX2, 6 x 8 with SSE4, 12 x 8 with 32 registers of
// 4 lanes. Fewer rows take several panels at once, so that there are enough chains to hide the latency of the multiply-add. An element's
// sum does not depend on the tile that it falls into.
//
// Include it after <hwy/highway.h> in a file that is compiled once for each target.
#if defined(CUDAMOE_CPU_GEMM_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CUDAMOE_CPU_GEMM_TILE_INL_H
#undef CUDAMOE_CPU_GEMM_TILE_INL_H
#else
#define CUDAMOE_CPU_GEMM_TILE_INL_H
#endif

#include <hwy/highway.h>

#include <array>
#include <utility>

#include "cpu/common/vector-inl.h"
#include "cpu/gemm/layout.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

inline constexpr int kPanel = 2 * kLanes;  // columns of a panel
#if HWY_TARGET <= HWY_AVX3
inline constexpr int kTileRows = 14;
inline constexpr int kMostAccumulators = 24;  // of tiles with several panels
#elif HWY_TARGET <= HWY_SSE4
inline constexpr int kTileRows = 6;
inline constexpr int kMostAccumulators = 8;
#else
inline constexpr int kTileRows = 12;
inline constexpr int kMostAccumulators = 24;
#endif

// Panels that a tile of few rows takes at once.
constexpr int panels_at_once(int rows) {
  if (rows > 3) return 1;
  return rows * 8 <= kMostAccumulators ? 4 : rows * 4 <= kMostAccumulators ? 2 : 1;
}

// What happens to a finished tile in registers. `raw` stores the sums; the others need f32 outputs.
enum class Finish { kRaw, kBias, kBiasRelu, kAccumulate, kReluMask };

// Cache lines that will be read soon, fetched into the L2 cache one by one while tiles multiply: copying rows that lie in memory or in a
// far cache would otherwise stall every tile.
struct PrefetchRow {
  const void* at;
  int64_t lines;
};
struct Prefetcher {
  const PrefetchRow* next = nullptr;
  const PrefetchRow* end = nullptr;
  const char* at = nullptr;
  int64_t left = 1;

  void start(const PrefetchRow* rows, int64_t count) {
    if (count == 0) return;
    next = rows + 1;
    end = rows + count;
    at = static_cast<const char*>(rows->at);
    left = rows->lines;
  }
  // After the last line it stays there.
  HWY_INLINE void step() {
    __builtin_prefetch(at, 0, 2);
    at += 64;
    if (HWY_UNLIKELY(--left == 0)) {
      if (next != end) {
        at = static_cast<const char*>(next->at);
        left = next->lines;
        ++next;
      } else {
        at -= 64;
        left = 1;
      }
    }
  }
};

template <class B>
struct TileArgs {
  Prefetcher* prefetcher;
  const float* a;
  const B* b;            // panels of [depth][kPanel]
  int64_t panel_stride;  // elements from one panel to the next
  int64_t depth;
  int64_t a_step, b_step;  // ColumnsOfA only: elements from one t to the next
  const float* start;      // sums so far, [rows] at start_stride, whole vectors; null: 0
  int64_t start_stride;
  Finish finish;
  float* c;
  int64_t c_stride;
  int64_t columns;     // that c has, of the vectors of this tile
  const float* bias;   // kBias, kBiasRelu: [columns] or null
  const float* below;  // kReluMask: [rows, columns]
  int64_t below_stride;
};

// How operands are addressed: a[i, t] at i * kRowStep + t * a_step, b[t, j] at t * b_step + j.
struct RowsOfA {  // rows of the left operand, copied side by side, and packed panels
  static constexpr int64_t kRowStep = kRowScratchStride;
  template <class B>
  static constexpr int64_t a_step(const TileArgs<B>&) {
    return 1;
  }
  template <class B>
  static constexpr int64_t b_step(const TileArgs<B>&) {
    return kPanel;
  }
};
struct ColumnsOfA {  // both operands of a weight gradient, rows at any stride
  static constexpr int64_t kRowStep = 1;
  template <class B>
  static constexpr int64_t a_step(const TileArgs<B>& args) {
    return args.a_step;
  }
  template <class B>
  static constexpr int64_t b_step(const TileArgs<B>& args) {
    return args.b_step;
  }
};

template <int kRows, int kVectors>
struct Accumulators {
  VecF32 value[kRows][kVectors];
};

template <int kRows, int kVectors, class AOrder, class B>
HWY_INLINE void multiply_step(F32 d, const float* HWY_RESTRICT a, const B* HWY_RESTRICT b, int64_t panel_stride,
                              Accumulators<kRows, kVectors>& acc) {
  if constexpr (kVectors <= 2) {
    VecF32 bv[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) bv[v] = load(d, b + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const VecF32 av = hn::Set(d, a[i * AOrder::kRowStep]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) acc.value[i][v] = hn::MulAdd(av, bv[v], acc.value[i][v]);
    }
  } else {
    VecF32 av[kRows];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) av[i] = hn::Set(d, a[i * AOrder::kRowStep]);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const VecF32 bv = load(d, b + (v / 2) * panel_stride + (v % 2) * kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) acc.value[i][v] = hn::MulAdd(av[i], bv, acc.value[i][v]);
    }
  }
}

// One finished vector of row i at column j; `count` of its lanes are columns of c.
template <bool kWhole, class B>
HWY_INLINE void finish_vector(F32 d, const TileArgs<B>& args, int i, int64_t j, int64_t count, VecF32 value) {
  const auto read = [&](const float* from) HWY_ATTR { return kWhole ? load(d, from) : load_first(d, from, count); };
  float* c = args.c + i * args.c_stride + j;
  switch (args.finish) {
    case Finish::kRaw:
      break;
    case Finish::kBias:
      if (args.bias != nullptr) value = value + read(args.bias + j);
      break;
    case Finish::kBiasRelu:
      if (args.bias != nullptr) value = value + read(args.bias + j);
      value = hn::IfThenZeroElse(value < hn::Zero(d), value);
      break;
    case Finish::kAccumulate:
      if (args.bias != nullptr) value = value + read(args.bias + j);
      value = read(c) + value;
      break;
    case Finish::kReluMask:
      value = value * hn::IfThenZeroElse(read(args.below + i * args.below_stride + j) <= hn::Zero(d), hn::Set(d, 1.0f));
      break;
  }
  if constexpr (kWhole) {
    store(d, value, c);
  } else {
    store_first(d, value, c, count);
  }
}

template <int kRows, int kVectors, class AOrder, class B>
HWY_NOINLINE void multiply_tile(const TileArgs<B>& args) {
  const F32 d;
  Accumulators<kRows, kVectors> acc;
  if (args.start == nullptr) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) acc.value[i][v] = hn::Zero(d);
    }
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) acc.value[i][v] = load(d, args.start + i * args.start_stride + v * kLanes);
    }
  }

  const float* HWY_RESTRICT a = args.a;
  const B* HWY_RESTRICT b = args.b;
  const int64_t panel_stride = args.panel_stride, a_step = AOrder::a_step(args), b_step = AOrder::b_step(args);
  Prefetcher prefetcher = *args.prefetcher;
  int64_t t = args.depth;
  for (; t >= 4; t -= 4) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      if (u % 2 == 0) prefetcher.step();
      multiply_step<kRows, kVectors, AOrder>(d, a, b, panel_stride, acc);
      a += a_step;
      b += b_step;
    }
  }
  *args.prefetcher = prefetcher;
  for (; t > 0; --t) {
    multiply_step<kRows, kVectors, AOrder>(d, a, b, panel_stride, acc);
    a += a_step;
    b += b_step;
  }

  if (args.columns >= kVectors * kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) finish_vector<true>(d, args, i, v * kLanes, kLanes, acc.value[i][v]);
    }
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const int64_t left = args.columns - v * kLanes;
        if (left > 0) finish_vector<false>(d, args, i, v * kLanes, left < kLanes ? left : kLanes, acc.value[i][v]);
      }
    }
  }
}

template <class B>
using TileFunction = void (*)(const TileArgs<B>&);

// multiply_tile for 1 .. kTileRows rows.
template <int kVectors, class AOrder, class B, int... kRow>
constexpr std::array<TileFunction<B>, sizeof...(kRow)> tiles_of(std::integer_sequence<int, kRow...>) {
  return {{&multiply_tile<kRow + 1, kVectors, AOrder, B>...}};
}

// The tile for `rows` rows and up to `panels` panels whose last has `columns` columns in all; answers the panels that it takes.
template <class AOrder, class B>
HWY_INLINE TileFunction<B> choose_tile(int rows, int64_t panels, int64_t columns, int* taken) {
  static constexpr auto kHalf = tiles_of<1, AOrder, B>(std::make_integer_sequence<int, kTileRows>());
  static constexpr auto kOne = tiles_of<2, AOrder, B>(std::make_integer_sequence<int, kTileRows>());
  static constexpr auto kTwo = tiles_of<4, AOrder, B>(std::make_integer_sequence < int, kMostAccumulators >= 12 ? 3 : 2 > ());
  static constexpr auto kFour = tiles_of<8, AOrder, B>(std::make_integer_sequence<int, kMostAccumulators / 8>());
  const int most = panels_at_once(rows);
  if (most == 4 && panels >= 4) {
    *taken = 4;
    return kFour[static_cast<size_t>(rows - 1)];
  }
  if (most >= 2 && panels >= 2) {
    *taken = 2;
    return kTwo[static_cast<size_t>(rows - 1)];
  }
  *taken = 1;
  return (columns <= kLanes ? kHalf : kOne)[static_cast<size_t>(rows - 1)];
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#endif
