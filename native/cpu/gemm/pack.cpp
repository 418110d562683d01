// Reorders weights W[g] of shape [n, k] into panels of consecutive columns of the product, depth contiguous:
//   forward:       packed[g][p][t][j] = W[g][p * width + j, t]       (columns n, depth k: a transposition)
//   data gradient: packed[g][p][t][j] = W[g][t, p * width + j]       (columns k, depth n)
// with zeros in the columns beyond the last one. Where products multiply bf16 pairs (layout.h), t counts pairs: element j is made of
// depth 2 t and 2 t + 1, the latter zero beyond the depth. Floor: each weight read and written once. A task is one panel of one group.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/gemm/pack.cpp"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include "cpu/common/vector-inl.h"
#include "cpu/device.h"
#include "cpu/gemm/gemm.h"
#include "cpu/gemm/layout.h"
#include "cpu/gemm/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

using F32x4 = hn::FixedTag<float, 4>;
using U32x4 = hn::FixedTag<uint32_t, 4>;

HWY_INLINE void store4(hn::Vec<F32x4> value, float* to) { hn::StoreU(value, F32x4(), to); }
HWY_INLINE void store4(hn::Vec<F32x4> value, Bf16* to) {
  HWY_ALIGN float lanes[4];
  hn::Store(value, F32x4(), lanes);
  for (int i = 0; i < 4; ++i) to[i] = to_bf16(lanes[i]);
}
HWY_INLINE void store4(hn::Vec<U32x4> value, uint32_t* to) { hn::StoreU(value, U32x4(), to); }
HWY_INLINE void put(float value, float* to) { *to = value; }
HWY_INLINE void put(uint32_t value, uint32_t* to) { *to = value; }
HWY_INLINE void put(float value, Bf16* to) { *to = to_bf16(value); }

// out[t * kPanel + j] = in[j * stride + t] for j < columns, 0 beyond.
template <class In, class T>
void pack_transposed_panel(const In* in, int64_t stride, int64_t columns, int64_t depth, T* out) {
  const hn::FixedTag<In, 4> d;
  const int64_t whole_columns = columns / 4 * 4, whole_depth = depth / 4 * 4;
  for (int64_t t = 0; t < whole_depth; t += 4) {
    for (int64_t j = 0; j < whole_columns; j += 4) {
      const In* from = in + j * stride + t;
      const auto r0 = hn::LoadU(d, from), r1 = hn::LoadU(d, from + stride), r2 = hn::LoadU(d, from + 2 * stride),
                 r3 = hn::LoadU(d, from + 3 * stride);
      const auto a = hn::InterleaveLower(d, r0, r2), b = hn::InterleaveLower(d, r1, r3);
      const auto e = hn::InterleaveUpper(d, r0, r2), f = hn::InterleaveUpper(d, r1, r3);
      store4(hn::InterleaveLower(d, a, b), out + t * kPanel + j);
      store4(hn::InterleaveUpper(d, a, b), out + (t + 1) * kPanel + j);
      store4(hn::InterleaveLower(d, e, f), out + (t + 2) * kPanel + j);
      store4(hn::InterleaveUpper(d, e, f), out + (t + 3) * kPanel + j);
    }
  }
  for (int64_t t = 0; t < depth; ++t) {
    for (int64_t j = t < whole_depth ? whole_columns : 0; j < columns; ++j) put(in[j * stride + t], out + t * kPanel + j);
    for (int64_t j = columns; j < kPanel; ++j) put(In{0}, out + t * kPanel + j);
  }
}

// out[t * kPanel + j] = in[t * stride + j] for j < columns, 0 beyond.
template <class T>
void pack_panel(const float* in, int64_t stride, int64_t columns, int64_t depth, T* out) {
  const F32 d;
  for (int64_t t = 0; t < depth; ++t) {
    for (int64_t v = 0; v < 2; ++v) {
      const int64_t count = std::clamp<int64_t>(columns - v * kLanes, 0, kLanes);
      store(d, load_first(d, in + t * stride + (count > 0 ? v * kLanes : 0), count), out + t * kPanel + v * kLanes);
    }
  }
}

// Pairs of consecutive t of one column: rows of the weights are rounded, a part of the depth at a time, and their pairs turned.
void pack_transposed_panel(const float* in, int64_t stride, int64_t columns, int64_t depth, Bf16Pair* out) {
  constexpr int64_t kPart = 128;
  const F32 d;
  HWY_ALIGN uint32_t rounded[kPanel * kPart / 2];
  for (int64_t begin = 0; begin < depth; begin += kPart) {
    const int64_t count = std::min(kPart, depth - begin);
    for (int64_t j = 0; j < columns; ++j) {
      const float* from = in + j * stride + begin;
      auto* to = reinterpret_cast<Bf16*>(rounded + j * (kPart / 2));
      for (int64_t t = 0; t < count; t += kLanes) store(d, load_first(d, from + t, std::min<int64_t>(kLanes, count - t)), to + t);
    }
    pack_transposed_panel(rounded, kPart / 2, columns, divide_up(count, 2), reinterpret_cast<uint32_t*>(out) + begin / 2 * kPanel);
  }
}

// Pairs of two consecutive rows of the weights.
void pack_panel(const float* in, int64_t stride, int64_t columns, int64_t depth, Bf16Pair* out) {
  const F32 d;
  for (int64_t t = 0; t < depth; t += 2, in += 2 * stride, out += kPanel) {
    for (int64_t j = 0; j < kPanel; j += kLanes) {
      const int64_t count = std::clamp<int64_t>(columns - j, 0, kLanes);
      const float* low = in + (count > 0 ? j : 0);
      const auto high = t + 1 < depth ? bf16_bits(load_first(d, low + stride, count)) : hn::Zero(hn::RebindToUnsigned<F32>());
      store_pairs(bf16_bits(load_first(d, low, count)) | hn::ShiftLeft<16>(high), out + j);
    }
  }
}

template <class T>
void pack_task(const cudamoe_gemm_pack_args& args, int64_t task) {
  const PackedLayout layout = pack_layout(args);
  const int64_t group = task / layout.panels(), panel = task % layout.panels(), first = panel * kPanel;
  const float* weights = args.weights + group * args.weights_group_stride;
  T* out = static_cast<T*>(args.packed) + group * layout.group_elements() + panel * layout.panel_elements();
  const int64_t columns = std::min<int64_t>(kPanel, layout.columns - first);
  if (args.transposed != 0) {
    pack_panel(weights + first, args.weights_row_stride, columns, args.n, out);
  } else {
    pack_transposed_panel(weights + first * args.weights_row_stride, args.weights_row_stride, columns, args.k, out);
  }
}

void pack_one(const cudamoe_gemm_pack_args& args, int64_t task) {
  if (multiplies_pairs(args.dtype == CUDAMOE_BF16)) {
    pack_task<Bf16Pair>(args, task);
  } else if (args.dtype == CUDAMOE_BF16) {
    pack_task<Bf16>(args, task);
  } else {
    pack_task<float>(args, task);
  }
}

TileShape tile_shape_of_target() { return {kTileRows, kPanel}; }

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cudamoe::cpu {

HWY_EXPORT(pack_one);
HWY_EXPORT(tile_shape_of_target);

const TileShape& tile_shape() {
  static const TileShape shape = HWY_DYNAMIC_DISPATCH(tile_shape_of_target)();
  return shape;
}

int64_t gemm_packed_bytes(void*, const cudamoe_gemm_pack_args& args) { return args.groups * pack_layout(args).group_bytes(); }

cudamoe_status gemm_pack(void* stream, const cudamoe_gemm_pack_args& args) {
  const PackedLayout layout = pack_layout(args);
  constexpr double kNanosecondsAnElement = 0.4;
  const auto elements = static_cast<double>(args.groups * layout.group_elements());
  const auto pack = HWY_DYNAMIC_DISPATCH(pack_one);
  stream_of(stream).device().for_tiles(args.groups * layout.panels(), elements * kNanosecondsAnElement,
                                       [&](int64_t task) { pack(args, task); });
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
#endif
