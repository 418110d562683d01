// logits[r, :] = x[r, :] * W^T + bias for a few rows, in a register tile of its own.
//
// Floor: 2 rows k_in columns flops; a gate has few columns, so x is nearly as large a floor.
// Tiling: the lanes of an accumulator are kTileColumns columns times two neighbouring depths. A load that broadcasts 64 bits of a row of x,
// where it lies, then feeds as many columns as it needs multiply-adds, and the width of a tile is a multiple of half a vector: the 24
// columns of 3 gates of 8 experts fill three vectors of 16 lanes, where whole vectors of columns would leave a quarter idle.
// kGateRows rows by up to kGateVectors vectors stay in registers; weights are put into that order once for many rows (WeightTile).
// Order of the sums: even depths ascending and odd depths ascending, one fused multiply-add chain each; their sum; then the bias.
#if defined(CUDAMOE_CPU_GATING_LOGITS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CUDAMOE_CPU_GATING_LOGITS_INL_H
#undef CUDAMOE_CPU_GATING_LOGITS_INL_H
#else
#define CUDAMOE_CPU_GATING_LOGITS_INL_H
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "cpu/common/vector-inl.h"
#include "cpu/gating/gate_plan.h"
#include "cpu/gating/gating.h"
#include "cpu/gemm/layout.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

// As many accumulators as leave registers for the weights, a broadcast and, without fused multiply-adds, a product.
#if HWY_TARGET <= HWY_AVX3
inline constexpr int kGateRows = 8, kGateVectors = 3;
#elif HWY_TARGET <= HWY_AVX2
inline constexpr int kGateRows = 4, kGateVectors = 3;
#elif HWY_TARGET <= HWY_SSE4
inline constexpr int kGateRows = 4, kGateVectors = 2;
#else
inline constexpr int kGateRows = 8, kGateVectors = 3;
#endif
inline constexpr int kTileColumns = kLanes / 2;       // of one vector
inline constexpr int64_t kPanelColumns = 2 * kLanes;  // of the packed weights
static_assert(kGateVectors * kTileColumns <= kMostTileColumns);

// x[0] and x[1] in turn.
HWY_INLINE VecF32 broadcast_depths(const float* x) {
  const hn::RepartitionToWide<F32> d64;
  double both;
  std::memcpy(&both, x, sizeof both);
  return hn::BitCast(F32(), hn::Set(d64, both));
}

// even[0], odd[0], even[1], odd[1], ... of kTileColumns columns.
class Interleave {
 public:
  HWY_INLINE VecF32 operator()(const float* even, const float* odd) const {
    const F32 d;
    const hn::Half<F32> half;
    const auto lower = hn::LoadU(half, even), upper = hn::LoadU(half, odd);
    if constexpr (kLanes == 4) {
      return hn::InterleaveLower(d, hn::ZeroExtendVector(d, lower), hn::ZeroExtendVector(d, upper));
    } else {
      return hn::TableLookupLanes(hn::Combine(d, upper, lower), order_);
    }
  }

 private:
  using Order = decltype(hn::SetTableIndices(F32(), static_cast<const int32_t*>(nullptr)));
  static Order order() {
    HWY_ALIGN int32_t lanes[kLanes];
    for (int i = 0; i < kLanes; ++i) lanes[i] = i % 2 * kTileColumns + i / 2;
    return hn::SetTableIndices(F32(), lanes);
  }
  Order order_ = order();
};

// Gives the weights of a tile's columns for two depths at a time, from the order that cudamoe_gemm_pack left them in: for few rows.
template <int kVectors>
class PackedWeights {
 public:
  PackedWeights(const float* packed, int64_t k_in, int64_t first_vector) : left_(k_in) {
    for (int v = 0; v < kVectors; ++v) {
      const int64_t column = (first_vector + v) * kTileColumns;
      at_[v] = packed + column / kPanelColumns * k_in * kPanelColumns + column % kPanelColumns;
    }
  }
  // A depth that is not there has weights 0.
  HWY_INLINE void next(VecF32 (&w)[kVectors]) {
    HWY_ALIGN static constexpr float kNone[kTileColumns] = {};
    for (int v = 0; v < kVectors; ++v) {
      w[v] = interleave_(at_[v], HWY_LIKELY(left_ > 1) ? at_[v] + kPanelColumns : kNone);
      at_[v] += 2 * kPanelColumns;
    }
    left_ -= 2;
  }

 private:
  const float* at_[kVectors];
  int64_t left_;
  Interleave interleave_;
};

// The same from memory that holds them in this order: [ceil(k_in / 2)][kVectors][kLanes].
template <int kVectors>
class OrderedWeights {
 public:
  explicit OrderedWeights(const float* ordered) : at_(ordered) {}
  HWY_INLINE void next(VecF32 (&w)[kVectors]) {
    for (int v = 0; v < kVectors; ++v) w[v] = hn::Load(F32(), at_ + v * kLanes);
    at_ += kVectors * kLanes;
  }

 private:
  const float* at_;
};

template <int kVectors>
void order_weights(const float* packed, int64_t k_in, int64_t first_vector, float* HWY_RESTRICT ordered) {
  PackedWeights<kVectors> from(packed, k_in, first_vector);
  for (int64_t t = 0; t < k_in; t += 2) {
    VecF32 w[kVectors];
    from.next(w);
    for (int v = 0; v < kVectors; ++v) hn::Store(w[v], F32(), ordered + v * kLanes);
    ordered += kVectors * kLanes;
  }
}

// Rows of x whose cache lines are fetched one after the other, in the order of the memory.
class LinesAhead {
 public:
  LinesAhead(const float* row, int64_t row_stride, int64_t k_in)
      : at_(reinterpret_cast<const char*>(row)), lines_(divide_up(k_in, kLine)), left_(lines_), skip_(4 * row_stride - 64 * lines_) {}
  HWY_INLINE void fetch() {
    __builtin_prefetch(at_, 0, 2);
    at_ += 64;
    if (HWY_UNLIKELY(--left_ == 0)) {
      at_ += skip_;
      left_ = lines_;
    }
  }
  static constexpr int64_t kLine = 64 / sizeof(float);

 private:
  const char* at_;
  int64_t lines_, left_, skip_;
};

struct LogitTile {
  const float* x;
  int64_t x_row_stride, k_in;
  const float* ahead;  // rows of x that are fetched meanwhile, at the same stride
  const float* bias;   // of the tile's first column, or null
  float* logits;       // the tile's first column
  int64_t logits_row_stride, columns;
};

// Adds up the two depths of each column and the bias, and writes them. kWhole: there are kVectors * kTileColumns columns.
template <int kRows, int kVectors, bool kWhole>
HWY_INLINE void finish_logits(const LogitTile& tile, const VecF32 (&sum)[kRows][kVectors]) {
  const F32 d;
  const hn::Half<F32> half;
  constexpr int kWrites = (kVectors + 1) / 2;  // vectors of whole columns
  int64_t counts[kWrites];
  VecF32 bias[kWrites];
#pragma GCC unroll 4
  for (int w = 0; w < kWrites; ++w) {
    const int64_t all = std::min(2, kVectors - 2 * w) * kTileColumns;
    counts[w] = kWhole ? all : std::clamp<int64_t>(tile.columns - w * kLanes, 0, all);
    bias[w] = tile.bias == nullptr || counts[w] == 0 ? hn::Zero(d) : load_first(d, tile.bias + w * kLanes, counts[w]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int w = 0; w < kWrites; ++w) {
      const VecF32 first = sum[i][2 * w], second = sum[i][std::min(2 * w + 1, kVectors - 1)];
      const VecF32 logits = hn::Add(hn::Add(hn::ConcatEven(d, second, first), hn::ConcatOdd(d, second, first)), bias[w]);
      float* to = tile.logits + i * tile.logits_row_stride + w * kLanes;
      if (!kWhole) {
        store_first(d, logits, to, counts[w]);
      } else if (2 * w + 1 < kVectors) {
        hn::StoreU(logits, d, to);
      } else {
        hn::StoreU(hn::LowerHalf(half, logits), half, to);
      }
    }
  }
}

template <int kRows, int kVectors, class Weights>
HWY_NOINLINE void multiply_logits(const LogitTile& tile, Weights weights) {
  const F32 d;
  VecF32 sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::Zero(d);
  }
  const auto step = [&](const float* x, int64_t row_stride) HWY_ATTR {
    VecF32 w[kVectors];
    weights.next(w);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const VecF32 a = broadcast_depths(x + i * row_stride);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::MulAdd(a, w[v], sum[i][v]);
    }
  };
  LinesAhead ahead(tile.ahead, tile.x_row_stride, tile.k_in);
  int64_t t = 0;
  for (; t + LinesAhead::kLine <= tile.k_in; t += LinesAhead::kLine) {
    for (int i = 0; i < kRows; ++i) ahead.fetch();
#pragma GCC unroll 8
    for (int u = 0; u < LinesAhead::kLine / 2; ++u) step(tile.x + t + 2 * u, tile.x_row_stride);
  }
  if (t < tile.k_in) {
    for (int i = 0; i < kRows; ++i) ahead.fetch();
  }
  for (; t + 2 <= tile.k_in; t += 2) step(tile.x + t, tile.x_row_stride);
  if (t < tile.k_in) {
    float last[2 * kRows];
    for (int i = 0; i < kRows; ++i) {
      last[2 * i] = tile.x[i * tile.x_row_stride + t];
      last[2 * i + 1] = 0;
    }
    step(last, 2);
  }
  if (tile.columns >= kVectors * kTileColumns) {
    finish_logits<kRows, kVectors, true>(tile, sum);
  } else {
    finish_logits<kRows, kVectors, false>(tile, sum);
  }
}

template <int kVectors, int... kRow>
HWY_INLINE void multiply_few_rows(const LogitTile& tile, int64_t rows, const PackedWeights<kVectors>& weights,
                                  std::integer_sequence<int, kRow...>) {
  static constexpr std::array<void (*)(const LogitTile&, PackedWeights<kVectors>), sizeof...(kRow)> kTiles = {
      {&multiply_logits<kRow + 1, kVectors, PackedWeights<kVectors>>...}};
  kTiles[static_cast<size_t>(rows - 1)](tile, weights);
}

// The logits of kVectors vectors of columns, from `first_vector` on, of the rows of x first .. first + rows - 1.
template <int kVectors>
void logits_of_columns(const cudamoe_gate_forward_args& args, int64_t first_vector, int64_t first, int64_t rows, float* logits,
                       const GateScratch& scratch) {
  const auto* packed = static_cast<const float*>(args.packed);
  const int64_t column = first_vector * kTileColumns;
  LogitTile tile{};
  tile.x_row_stride = args.x_row_stride;
  tile.k_in = args.k_in;
  tile.bias = args.bias == nullptr ? nullptr : args.bias + column;
  tile.logits_row_stride = gate_columns(args);
  tile.columns = tile.logits_row_stride - column;
  // Putting weights into order is not worth it for one or two tiles.
  if (args.rows >= 3 * kGateRows && *scratch.ordered_from != first_vector) {
    order_weights<kVectors>(packed, args.k_in, first_vector, scratch.ordered);
    *scratch.ordered_from = first_vector;
  }
  for (int64_t row = 0; row < rows; row += kGateRows) {
    const int64_t count = std::min<int64_t>(kGateRows, rows - row);
    tile.x = static_cast<const float*>(args.x) + (first + row) * args.x_row_stride;
    // The next tile's rows, while x is read for the first time.
    tile.ahead = first_vector == 0 && first + row + 2 * kGateRows <= args.rows ? tile.x + kGateRows * args.x_row_stride : tile.x;
    tile.logits = logits + row * tile.logits_row_stride + column;
    if (count == kGateRows && *scratch.ordered_from == first_vector) {
      multiply_logits<kGateRows, kVectors>(tile, OrderedWeights<kVectors>(scratch.ordered));
    } else {
      multiply_few_rows<kVectors>(tile, count, PackedWeights<kVectors>(packed, args.k_in, first_vector),
                                  std::make_integer_sequence<int, kGateRows>());
    }
  }
}

// Rows first .. first + rows - 1 of x give logits [rows, columns].
inline void gate_logits(const cudamoe_gate_forward_args& args, int64_t first, int64_t rows, float* logits, const GateScratch& scratch) {
  const int64_t vectors = divide_up(gate_columns(args), kTileColumns), passes = divide_up(vectors, kGateVectors);
  for (int64_t pass = 0; pass < passes; ++pass) {
    const int64_t begin = part_begin(vectors, passes, pass), count = part_begin(vectors, passes, pass + 1) - begin;
    if (count == 1) {
      logits_of_columns<1>(args, begin, first, rows, logits, scratch);
    } else if (kGateVectors == 2 || count == 2) {
      logits_of_columns<2>(args, begin, first, rows, logits, scratch);
    } else {
      logits_of_columns<kGateVectors>(args, begin, first, rows, logits, scratch);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // CUDAMOE_CPU_GATING_LOGITS_INL_H
