// The register tile of all matrix products:
//   c[i, j] (+)= sum over t = 0 .. depth-1, ascending, of a[i, t] * b[t, j]      (one fused multiply-add chain an element)
// with i < kRows and j < kVectors vectors of columns, and its write-out.
//
// Floor: 2 * rows * columns * depth flops. Tiling: 2 vectors of columns (one panel) by as many rows as leave one register for the broadcast
// of a and two for b: 14 x 32 with AVX-512 (28 of 32 registers accumulate), 6 x 16 with AVX2, 6 x 8 with SSE4, 12 x 8 with 32 registers of
// 4 lanes. Fewer rows take several panels at once, so that there are enough chains to hide the latency of the multiply-add. An element's
// sum does not depend on the tile that it falls into.
//
// With bf16 instructions a and b hold pairs: each step of the depth adds two products to a chain (common/bf16_dot-inl.h).
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
#include <type_traits>
#include <utility>

#include "cpu/common/bf16_dot-inl.h"
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
enum class Finish { kRaw, kBias, kBiasRelu, kAccumulate, kReluMask, kAccumulateReluMask };

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
  bool dense = false;  // a line each step of depth, not every second one: it costs the product a percent or two

  // `steps` of depth will be multiplied until the next start.
  void start(const PrefetchRow* rows, int64_t count, int64_t steps = INT64_MAX) {
    int64_t lines = 0;
    for (int64_t i = 0; i < count; ++i) lines += rows[i].lines;
    dense = lines > steps / 2;
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

// The elements that packed or copied right operands of type B are multiplied with; bf16 is widened in registers.
template <class B>
using LeftOf = std::conditional_t<std::is_same_v<B, Bf16Pair>, Bf16Pair, float>;

template <class B>
struct TileArgs {
  Prefetcher* prefetcher;
  const LeftOf<B>* a;
  int64_t a_row_stride = kRowScratchStride;  // RowsOfA only
  const B* b;                                // panels of [depth][kPanel]
  int64_t panel_stride;                      // elements from one panel to the next
  int64_t depth;
  int64_t a_step, b_step;  // ColumnsOfA only: elements from one t to the next
  const float* start;      // sums so far, [rows] at start_stride, whole vectors; null: 0
  int64_t start_stride;
  Finish finish;
  float* c;
  int64_t c_stride;
  int64_t columns;     // that c has, of the vectors of this tile
  const float* bias;   // kBias, kBiasRelu, kAccumulate: [columns] or null
  const float* below;  // kReluMask, kAccumulateReluMask: [rows, columns]
  int64_t below_stride;
};

// How operands are addressed: a[i, t] at row(i) after t steps, b[t, j] at t * b_step + j.
//
// Rows of the left operand at any stride, and packed panels. Seven rows are reached from one pointer, with the strides that an address of
// x86 can hold, so that the 14 rows of a tile need two pointers and three strides.
template <class B>
class RowsOfA {
 public:
  HWY_INLINE explicit RowsOfA(const TileArgs<B>& args)
      : low_(args.a), high_(args.a + 7 * args.a_row_stride), stride_(args.a_row_stride), stride3_(3 * stride_), stride5_(5 * stride_) {
    // The compiler would otherwise keep a pointer for every row, and most of them in memory.
    __asm__("" : "+r"(low_));
    __asm__("" : "+r"(high_));
    __asm__("" : "+r"(stride3_));
    __asm__("" : "+r"(stride5_));
  }
  HWY_INLINE const LeftOf<B>* row(int i) const {
    const LeftOf<B>* from = i < 7 ? low_ : high_;
    switch (i % 7) {
      case 0:
        return from;
      case 1:
        return from + stride_;
      case 2:
        return from + 2 * stride_;
      case 3:
        return from + stride3_;
      case 4:
        return from + 4 * stride_;
      case 5:
        return from + stride5_;
      default:
        return from + 2 * stride3_;
    }
  }
  HWY_INLINE void step() {
    ++low_;
    ++high_;
    __asm__("" : "+r"(low_));
    __asm__("" : "+r"(high_));
  }
  static constexpr int64_t b_step(const TileArgs<B>&) { return kPanel; }

 private:
  const LeftOf<B>*low_, *high_;
  int64_t stride_, stride3_, stride5_;
};

// Both operands of a weight gradient, rows at any stride.
template <class B>
class ColumnsOfA {
 public:
  HWY_INLINE explicit ColumnsOfA(const TileArgs<B>& args) : at_(args.a), step_(args.a_step) {}
  HWY_INLINE const LeftOf<B>* row(int i) const { return at_ + i; }
  HWY_INLINE void step() { at_ += step_; }
  static constexpr int64_t b_step(const TileArgs<B>& args) { return args.b_step; }

 private:
  const LeftOf<B>* at_;
  int64_t step_;
};

template <int kRows, int kVectors>
struct Accumulators {
  VecF32 value[kRows][kVectors];
};

// What a step does with an element of each operand.
HWY_INLINE VecF32 broadcast(F32 d, const float* a) { return hn::Set(d, *a); }
HWY_INLINE VecF32 operand(F32 d, const float* b) { return load(d, b); }
HWY_INLINE VecF32 operand(F32 d, const Bf16* b) { return load(d, b); }
HWY_INLINE VecF32 multiply_add(VecF32 a, VecF32 b, VecF32 sum) { return hn::MulAdd(a, b, sum); }
#if CUDAMOE_BF16_DOT
HWY_INLINE VecPairs broadcast(F32, const Bf16Pair* a) { return broadcast_pair(a); }
HWY_INLINE VecPairs operand(F32, const Bf16Pair* b) { return load_pairs(b); }
HWY_INLINE VecF32 multiply_add(VecPairs a, VecPairs b, VecF32 sum) { return dot_pairs(a, b, sum); }
#endif

template <int kRows, int kVectors, class AOrder, class B>
HWY_INLINE void multiply_step(F32 d, const AOrder& a, const B* HWY_RESTRICT b, int64_t panel_stride, Accumulators<kRows, kVectors>& acc) {
  if constexpr (kVectors <= 2) {
    decltype(operand(d, b)) bv[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) bv[v] = operand(d, b + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const auto av = broadcast(d, a.row(i));
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) acc.value[i][v] = multiply_add(av, bv[v], acc.value[i][v]);
    }
  } else {
    decltype(broadcast(d, a.row(0))) av[kRows];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) av[i] = broadcast(d, a.row(i));
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const auto bv = operand(d, b + (v / 2) * panel_stride + (v % 2) * kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) acc.value[i][v] = multiply_add(av[i], bv, acc.value[i][v]);
    }
  }
}

// Writes a finished tile; kWhole: every vector is `kLanes` columns of c.
template <Finish kFinish, bool kWhole, int kRows, int kVectors, class B>
HWY_INLINE void finish_as(F32 d, const TileArgs<B>& args, const Accumulators<kRows, kVectors>& acc) {
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    const int64_t j = v * kLanes, left = args.columns - j;
    if (!kWhole && left <= 0) return;
    const int64_t count = left < kLanes ? left : kLanes;
    const auto read = [&](const float* from) HWY_ATTR { return kWhole ? load(d, from) : load_first(d, from, count); };
    VecF32 bias = hn::Zero(d);
    if constexpr (kFinish == Finish::kBias || kFinish == Finish::kBiasRelu || kFinish == Finish::kAccumulate) {
      if (args.bias != nullptr) bias = read(args.bias + j);
    }
    float* c = args.c + j;
    constexpr bool kMask = kFinish == Finish::kReluMask || kFinish == Finish::kAccumulateReluMask;
    [[maybe_unused]] const float* below = kMask ? args.below + j : nullptr;
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i, c += args.c_stride) {
      VecF32 value = acc.value[i][v];
      if constexpr (kFinish == Finish::kAccumulateReluMask) value = read(c) + value;
      if constexpr (kMask) {
        value = value * hn::IfThenZeroElse(read(below) <= hn::Zero(d), hn::Set(d, 1.0f));
        below += args.below_stride;
      } else if constexpr (kFinish != Finish::kRaw) {
        value = value + bias;
      }
      if constexpr (kFinish == Finish::kBiasRelu) value = hn::IfThenZeroElse(value < hn::Zero(d), value);
      if constexpr (kFinish == Finish::kAccumulate) value = read(c) + value;
      if constexpr (kWhole) {
        store(d, value, c);
      } else {
        store_first(d, value, c, count);
      }
    }
  }
}

template <bool kWhole, int kRows, int kVectors, class B>
HWY_INLINE void finish_tile_in_registers(F32 d, const TileArgs<B>& args, const Accumulators<kRows, kVectors>& acc) {
  switch (args.finish) {
    case Finish::kRaw:
      return finish_as<Finish::kRaw, kWhole>(d, args, acc);
    case Finish::kBias:
      return finish_as<Finish::kBias, kWhole>(d, args, acc);
    case Finish::kBiasRelu:
      return finish_as<Finish::kBiasRelu, kWhole>(d, args, acc);
    case Finish::kAccumulate:
      return finish_as<Finish::kAccumulate, kWhole>(d, args, acc);
    case Finish::kReluMask:
      return finish_as<Finish::kReluMask, kWhole>(d, args, acc);
    case Finish::kAccumulateReluMask:
      return finish_as<Finish::kAccumulateReluMask, kWhole>(d, args, acc);
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

  AOrder a(args);
  const B* HWY_RESTRICT b = args.b;
  const int64_t panel_stride = args.panel_stride, b_step = AOrder::b_step(args);
  Prefetcher prefetcher = *args.prefetcher;
  int64_t t = args.depth;
  for (; t >= 4; t -= 4) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      if (u % 2 == 0 || prefetcher.dense) prefetcher.step();
      multiply_step(d, a, b, panel_stride, acc);
      a.step();
      b += b_step;
    }
  }
  *args.prefetcher = prefetcher;
  for (; t > 0; --t) {
    multiply_step(d, a, b, panel_stride, acc);
    a.step();
    b += b_step;
  }

  if (args.columns >= kVectors * kLanes) {
    finish_tile_in_registers<true>(d, args, acc);
  } else {
    finish_tile_in_registers<false>(d, args, acc);
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
