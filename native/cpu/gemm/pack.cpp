// Reorders weights W[g] of shape [n, k] into panels of consecutive columns of the product, depth contiguous:
//   forward:       packed[g][p][t][j] = W[g][p * width + j, t]       (columns n, depth k: a transposition)
//   data gradient: packed[g][p][t][j] = W[g][t, p * width + j]       (columns k, depth n)
// with zeros in the columns beyond the last one. Floor: each weight read and written once. A task is one panel of one group.
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

HWY_INLINE void store4(hn::Vec<F32x4> value, float* to) { hn::StoreU(value, F32x4(), to); }
HWY_INLINE void store4(hn::Vec<F32x4> value, Bf16* to) {
  HWY_ALIGN float lanes[4];
  hn::Store(value, F32x4(), lanes);
  for (int i = 0; i < 4; ++i) to[i] = to_bf16(lanes[i]);
}
HWY_INLINE void put(float value, float* to) { *to = value; }
HWY_INLINE void put(float value, Bf16* to) { *to = to_bf16(value); }

// out[t * kPanel + j] = in[j * stride + t] for j < columns, 0 beyond.
template <class T>
void pack_transposed_panel(const float* in, int64_t stride, int64_t columns, int64_t depth, T* out) {
  const F32x4 d;
  const int64_t whole_columns = columns / 4 * 4, whole_depth = depth / 4 * 4;
  for (int64_t t = 0; t < whole_depth; t += 4) {
    for (int64_t j = 0; j < whole_columns; j += 4) {
      const float* from = in + j * stride + t;
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
    for (int64_t j = columns; j < kPanel; ++j) put(0.0f, out + t * kPanel + j);
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

template <class T>
void pack_task(const cudamoe_gemm_pack_args& args, int64_t task) {
  const PackedLayout layout = packed_layout(args.n, args.k, args.transposed != 0);
  const int64_t group = task / layout.panels(), panel = task % layout.panels(), first = panel * kPanel;
  const float* weights = args.weights + group * args.weights_group_stride;
  T* out = static_cast<T*>(args.packed) + group * layout.group_elements() + panel * layout.panel_elements();
  const int64_t columns = std::min<int64_t>(kPanel, layout.columns - first);
  if (args.transposed != 0) {
    pack_panel(weights + first, args.weights_row_stride, columns, layout.depth, out);
  } else {
    pack_transposed_panel(weights + first * args.weights_row_stride, args.weights_row_stride, columns, layout.depth, out);
  }
}

void pack_one(const cudamoe_gemm_pack_args& args, int64_t task) {
  if (args.dtype == CUDAMOE_BF16) {
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

int64_t gemm_packed_bytes(void*, const cudamoe_gemm_pack_args& args) {
  const PackedLayout layout = packed_layout(args.n, args.k, args.transposed != 0);
  return args.groups * layout.group_elements() * (args.dtype == CUDAMOE_BF16 ? 2 : 4);
}

cudamoe_status gemm_pack(void* stream, const cudamoe_gemm_pack_args& args) {
  const PackedLayout layout = packed_layout(args.n, args.k, args.transposed != 0);
  constexpr double kNanosecondsAnElement = 0.4;
  const auto elements = static_cast<double>(args.groups * layout.group_elements());
  const auto pack = HWY_DYNAMIC_DISPATCH(pack_one);
  stream_of(stream).device().for_tiles(args.groups * layout.panels(), elements * kNanosecondsAnElement,
                                       [&](int64_t task) { pack(args, task); });
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
#endif
