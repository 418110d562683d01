// Layer normalisation over rows of `width` columns, and normalisation by the root of the mean square (RMS).
//
//   forward    m = mean(x), v = mean((x - m)^2), r = 1 / sqrt(v + epsilon), y = (x - m) r gamma + beta
//   backward   with h = (x - m) r and g = dy gamma:  dx = r (g - mean(g) - h mean(g h)),  dgamma = sum_b dy h,  dbeta = sum_b dy
//   RMS        the same with m = 0, without the term mean(g) and without beta
//
// Floor: forward 8 bytes an element (x in, y out); backward 12 (x and dy in, dx out). The variance is summed from the deviations
// in a second pass over the row, which is in L1 then: the difference of mean squares would cancel.
// Tiling: blocks of rows fixed by the shape. dgamma and dbeta are f32 sums over a block's rows, then f64 sums over the blocks.
// Order of the sums: along a row by lanes in four accumulators, then the lanes; over rows ascending.
#include <algorithm>
#include <cmath>

#include "cpu/norm/norm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/norm/layer_norm.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/common/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

// Calls body(column, load, store) for all vectors of a row; load(p) and store(v, p) treat the last, partial one right: lanes
// beyond the row load as `load`'s zeros and are not stored.
struct WholeVector {
  HWY_INLINE VecF32 read(const float* p) const { return hn::LoadU(F32(), p); }
  HWY_INLINE void write(VecF32 v, float* p) const { hn::StoreU(v, F32(), p); }
  HWY_INLINE VecF32 keep(VecF32 v) const { return v; }
};
struct PartVector {
  int64_t lanes;
  HWY_INLINE VecF32 read(const float* p) const { return load_first(F32(), p, lanes); }
  HWY_INLINE void write(VecF32 v, float* p) const { store_first(F32(), v, p, lanes); }
  HWY_INLINE VecF32 keep(VecF32 v) const { return hn::IfThenElseZero(hn::FirstN(F32(), lanes), v); }
};

template <class Body>
HWY_INLINE void for_columns(int64_t width, Body&& body) {
  const auto step = int64_t{kLanes};
  int64_t j = 0;
  int turn = 0;
  for (; j + step <= width; j += step, turn = (turn + 1) % 4) body(j, turn, WholeVector());
  if (j < width) body(j, turn, PartVector{width - j});
}

struct Sum4 {
  VecF32 part[4];
  HWY_INLINE Sum4() {
    for (VecF32& p : part) p = hn::Zero(F32());
  }
  HWY_INLINE float total_of() const {
    return hn::GetLane(hn::SumOfLanes(F32(), hn::Add(hn::Add(part[0], part[1]), hn::Add(part[2], part[3]))));
  }
};

void normalize_rows(const cudamoe_layer_norm_forward_args& args, bool centred, int64_t first, int64_t rows) {
  const F32 d;
  const float inverse_width = 1.0f / static_cast<float>(args.width);
  for (int64_t row = first; row < first + rows; ++row) {
    const float* x = args.x + row * args.x_row_stride;
    float* y = args.y + row * args.y_row_stride;
    float mean = 0;
    if (centred) {
      Sum4 sum;
      for_columns(args.width,
                  [&](int64_t j, int turn, auto vector) HWY_ATTR { sum.part[turn] = hn::Add(sum.part[turn], vector.read(x + j)); });
      mean = sum.total_of() * inverse_width;
    }
    const VecF32 m = hn::Set(d, mean);
    Sum4 squares;
    for_columns(args.width, [&](int64_t j, int turn, auto vector) HWY_ATTR {
      const VecF32 deviation = vector.keep(hn::Sub(vector.read(x + j), m));
      squares.part[turn] = hn::MulAdd(deviation, deviation, squares.part[turn]);
    });
    const float reciprocal = 1.0f / std::sqrt(squares.total_of() * inverse_width + args.epsilon);
    const VecF32 r = hn::Set(d, reciprocal);
    for_columns(args.width, [&](int64_t j, int, auto vector) HWY_ATTR {
      VecF32 v = hn::Mul(hn::Sub(vector.read(x + j), m), r);
      if (args.gamma != nullptr) v = hn::Mul(v, vector.read(args.gamma + j));
      if (args.beta != nullptr) v = hn::Add(v, vector.read(args.beta + j));
      vector.write(v, y + j);
    });
    if (args.mean != nullptr) args.mean[row] = mean;
    if (args.reciprocal_deviation != nullptr) args.reciprocal_deviation[row] = reciprocal;
  }
}

// dgamma and dbeta [width] receive the sums over these rows; both or neither are null. Without `mean` it is RMS.
void normalize_gradient_rows(const cudamoe_layer_norm_backward_args& args, int64_t first, int64_t rows, float* dgamma, float* dbeta) {
  const F32 d;
  const float inverse_width = 1.0f / static_cast<float>(args.width);
  if (dgamma != nullptr) std::fill_n(dgamma, args.width, 0.0f);
  if (dbeta != nullptr) std::fill_n(dbeta, args.width, 0.0f);
  for (int64_t row = first; row < first + rows; ++row) {
    const float* x = args.x + row * args.x_row_stride;
    const float* dy = args.dy + row * args.dy_row_stride;
    float* dx = args.dx + row * args.dx_row_stride;
    const VecF32 m = hn::Set(d, args.mean == nullptr ? 0.0f : args.mean[row]), r = hn::Set(d, args.reciprocal_deviation[row]);
    Sum4 sum, product;
    for_columns(args.width, [&](int64_t j, int turn, auto vector) HWY_ATTR {
      const VecF32 upper = vector.read(dy + j);
      const VecF32 h = vector.keep(hn::Mul(hn::Sub(vector.read(x + j), m), r));
      const VecF32 g = args.gamma == nullptr ? upper : hn::Mul(upper, vector.read(args.gamma + j));
      sum.part[turn] = hn::Add(sum.part[turn], g);
      product.part[turn] = hn::MulAdd(g, h, product.part[turn]);
      if (dgamma == nullptr) return;
      vector.write(hn::MulAdd(upper, h, vector.read(dgamma + j)), dgamma + j);
      vector.write(hn::Add(upper, vector.read(dbeta + j)), dbeta + j);
    });
    const VecF32 mean_g = hn::Set(d, args.mean == nullptr ? 0.0f : sum.total_of() * inverse_width);
    const VecF32 mean_gh = hn::Set(d, product.total_of() * inverse_width);
    for_columns(args.width, [&](int64_t j, int, auto vector) HWY_ATTR {
      const VecF32 upper = vector.read(dy + j);
      const VecF32 h = hn::Mul(hn::Sub(vector.read(x + j), m), r);
      const VecF32 g = args.gamma == nullptr ? upper : hn::Mul(upper, vector.read(args.gamma + j));
      vector.write(hn::Mul(r, hn::Sub(hn::Sub(g, mean_g), hn::Mul(h, mean_gh))), dx + j);
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace cudamoe::cpu {

HWY_EXPORT(normalize_rows);
HWY_EXPORT(normalize_gradient_rows);

namespace {

constexpr double kNanosecondsPerByte = 0.1;

// Blocks of the backward, each with a partial sum of dgamma and dbeta.
struct Blocks {
  int64_t rows, count;
};

Blocks blocks_of(int64_t total_rows) {
  constexpr int64_t kSmallest = 32, kMost = 256;
  const int64_t rows = std::max(kSmallest, (total_rows + kMost - 1) / kMost);
  return {rows, (total_rows + rows - 1) / rows};
}

cudamoe_status forward(void* handle, const cudamoe_layer_norm_forward_args& args, bool centred) {
  constexpr int64_t kBlockRows = 32;
  const double bytes = 8.0 * static_cast<double>(args.rows) * static_cast<double>(args.width);
  stream_of(handle).device().for_tiles((args.rows + kBlockRows - 1) / kBlockRows, kNanosecondsPerByte * bytes, [&](int64_t tile) {
    const int64_t first = tile * kBlockRows;
    HWY_DYNAMIC_DISPATCH(normalize_rows)(args, centred, first, std::min(kBlockRows, args.rows - first));
  });
  return CUDAMOE_OK;
}

int64_t partial_bytes(int64_t rows, int64_t width) { return blocks_of(rows).count * 2 * width * static_cast<int64_t>(sizeof(float)); }

cudamoe_status backward(void* handle, const cudamoe_layer_norm_backward_args& args) {
  Device& device = stream_of(handle).device();
  const Blocks blocks = blocks_of(args.rows);
  const int64_t width = args.width;
  auto* partials = static_cast<float*>(args.workspace);  // [blocks, {dgamma, dbeta}, width]
  const bool sums = args.dgamma != nullptr || args.dbeta != nullptr;
  const double bytes = 12.0 * static_cast<double>(args.rows) * static_cast<double>(width);
  device.for_tiles(blocks.count, kNanosecondsPerByte * bytes, [&](int64_t tile) {
    const int64_t first = tile * blocks.rows;
    float* partial = sums ? partials + tile * 2 * width : nullptr;
    HWY_DYNAMIC_DISPATCH(normalize_gradient_rows)
    (args, first, std::min(blocks.rows, args.rows - first), partial, sums ? partial + width : nullptr);
  });
  if (!sums) return CUDAMOE_OK;
  constexpr int64_t kColumns = 256;
  device.for_tiles((width + kColumns - 1) / kColumns, kNanosecondsPerByte * 8.0 * static_cast<double>(blocks.count * width),
                   [&](int64_t tile) {
                     const int64_t first = tile * kColumns, columns = std::min(kColumns, width - first);
                     for (int which = 0; which < 2; ++which) {
                       float* out = which == 0 ? args.dgamma : args.dbeta;
                       if (out == nullptr) continue;
                       double total[kColumns];
                       for (int64_t j = 0; j < columns; ++j) total[j] = args.accumulate != 0 ? static_cast<double>(out[first + j]) : 0.0;
                       for (int64_t b = 0; b < blocks.count; ++b) {
                         const float* partial = partials + (2 * b + which) * width + first;
                         for (int64_t j = 0; j < columns; ++j) total[j] += static_cast<double>(partial[j]);
                       }
                       for (int64_t j = 0; j < columns; ++j) out[first + j] = static_cast<float>(total[j]);
                     }
                   });
  return CUDAMOE_OK;
}

}  // namespace

cudamoe_status layer_norm_forward(void* handle, const cudamoe_layer_norm_forward_args& args) { return forward(handle, args, true); }

int64_t layer_norm_backward_workspace(void*, const cudamoe_layer_norm_backward_args& args) { return partial_bytes(args.rows, args.width); }

cudamoe_status layer_norm_backward(void* handle, const cudamoe_layer_norm_backward_args& args) { return backward(handle, args); }

cudamoe_status rms_norm_forward(void* handle, const cudamoe_rms_norm_forward_args& args) {
  cudamoe_layer_norm_forward_args norm{};
  norm.epsilon = args.epsilon;
  norm.rows = args.rows;
  norm.width = args.width;
  norm.x = args.x;
  norm.x_row_stride = args.x_row_stride;
  norm.gamma = args.gamma;
  norm.y = args.y;
  norm.y_row_stride = args.y_row_stride;
  norm.reciprocal_deviation = args.reciprocal;
  return forward(handle, norm, false);
}

int64_t rms_norm_backward_workspace(void*, const cudamoe_rms_norm_backward_args& args) { return partial_bytes(args.rows, args.width); }

cudamoe_status rms_norm_backward(void* handle, const cudamoe_rms_norm_backward_args& args) {
  cudamoe_layer_norm_backward_args norm{};
  norm.accumulate = args.accumulate;
  norm.rows = args.rows;
  norm.width = args.width;
  norm.x = args.x;
  norm.x_row_stride = args.x_row_stride;
  norm.gamma = args.gamma;
  norm.reciprocal_deviation = args.reciprocal;
  norm.dy = args.dy;
  norm.dy_row_stride = args.dy_row_stride;
  norm.dx = args.dx;
  norm.dx_row_stride = args.dx_row_stride;
  norm.dgamma = args.dgamma;
  norm.workspace = args.workspace;
  norm.workspace_bytes = args.workspace_bytes;
  return backward(handle, norm);
}

}  // namespace cudamoe::cpu

#endif  // HWY_ONCE
