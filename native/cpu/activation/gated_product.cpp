// Products with an activated gate, element by element.
//
//   forward    y = a f(b)
//   backward   da (+)= dy f(b),  db (+)= dy a f'(b)
//
// Floor: forward 12 bytes an element (a and b in, y out), backward 20 (a, b and dy in, da and db out), and the activation's arithmetic.
// Tiling: blocks of rows of about kBlockElements elements; rows without gaps are taken as one run. No sums.
#include <algorithm>

#include "cpu/activation/activation.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/activation/gated_product.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/common/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

// f and f' at x.
struct Gate {
  VecF32 value, derivative;
};

template <int32_t kActivation>
HWY_INLINE Gate gate_of(F32 d, VecF32 x, float slope) {
  if constexpr (kActivation == CUDAMOE_ACTIVATION_SILU) {  // one sigmoid for both
    const VecF32 one = hn::Set(d, 1.0f), s = sigmoid(d, x);
    return {x * s, s * hn::MulAdd(x, one - s, one)};
  } else {
    const VecF32 value = activate<kActivation>(d, x, slope);
    return {value, activation_derivative<kActivation>(d, kActivation == CUDAMOE_ACTIVATION_GELU ? x : value, slope)};
  }
}

// Whole vectors, then the rest of a row.
template <class Body>
HWY_INLINE void for_columns(int64_t width, Body&& body) {
  int64_t j = 0;
  for (; j + kLanes <= width; j += kLanes) {
    body([&](const float* p) HWY_ATTR { return load(F32(), p + j); }, [&](VecF32 v, float* p) HWY_ATTR { store(F32(), v, p + j); });
  }
  if (j == width) return;
  body([&](const float* p) HWY_ATTR { return load_first(F32(), p + j, width - j); },
       [&](VecF32 v, float* p) HWY_ATTR { store_first(F32(), v, p + j, width - j); });
}

void multiply_by_gates(const cudamoe_gated_product_forward_args& args, int64_t first, int64_t rows) {
  with_activation(args.activation, [&](auto activation) HWY_ATTR {
    for (int64_t row = first; row < first + rows; ++row) {
      const float *a = args.a + row * args.a_row_stride, *b = args.b + row * args.b_row_stride;
      float* y = args.y + row * args.y_row_stride;
      for_columns(args.width, [&](auto read, auto write) HWY_ATTR {
        write(read(a) * activate<decltype(activation)::value>(F32(), read(b), args.activation_slope), y);
      });
    }
  });
}

void multiply_by_gates_back(const cudamoe_gated_product_backward_args& args, int64_t first, int64_t rows) {
  with_activation(args.activation, [&](auto activation) HWY_ATTR {
    for (int64_t row = first; row < first + rows; ++row) {
      const float *a = args.a + row * args.a_row_stride, *b = args.b + row * args.b_row_stride, *dy = args.dy + row * args.dy_row_stride;
      float *da = args.da + row * args.da_row_stride, *db = args.db + row * args.db_row_stride;
      for_columns(args.width, [&](auto read, auto write) HWY_ATTR {
        const VecF32 upper = read(dy);
        const Gate gate = gate_of<decltype(activation)::value>(F32(), read(b), args.activation_slope);
        const VecF32 to_a = upper * gate.value, to_b = upper * read(a) * gate.derivative;
        write(args.accumulate_a != 0 ? read(da) + to_a : to_a, da);
        write(args.accumulate_b != 0 ? read(db) + to_b : to_b, db);
      });
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace cudamoe::cpu {

HWY_EXPORT(multiply_by_gates);
HWY_EXPORT(multiply_by_gates_back);

namespace {

constexpr int64_t kBlockElements = 4096;
constexpr double kNanosecondsAnElement = 1;

// Rows without gaps as long rows, all but the last of kBlockElements elements: body(args of one shape, first row, rows).
template <class Args, class Body>
void for_blocks(void* handle, Args args, bool packed, const Body& body) {
  Device& device = stream_of(handle).device();
  const double cost = kNanosecondsAnElement * static_cast<double>(args.rows) * static_cast<double>(args.width);
  if (packed) {
    const int64_t elements = args.rows * args.width;
    device.for_tiles((elements + kBlockElements - 1) / kBlockElements, cost, [&](int64_t tile) {
      Args run = args;
      const int64_t first = tile * kBlockElements;
      run.width = std::min(kBlockElements, elements - first);
      body(run, first, int64_t{1});
    });
    return;
  }
  const int64_t rows = std::max<int64_t>(1, kBlockElements / args.width);
  device.for_tiles((args.rows + rows - 1) / rows, cost, [&](int64_t tile) {
    const int64_t first = tile * rows;
    body(args, first, std::min(rows, args.rows - first));
  });
}

}  // namespace

cudamoe_status gated_product_forward(void* handle, const cudamoe_gated_product_forward_args& given) {
  cudamoe_gated_product_forward_args args = given;
  const bool packed = args.a_row_stride == args.width && args.b_row_stride == args.width && args.y_row_stride == args.width;
  if (packed) args.a_row_stride = args.b_row_stride = args.y_row_stride = 1;  // a run begins at its first element
  for_blocks(handle, args, packed, [](const cudamoe_gated_product_forward_args& block, int64_t first, int64_t rows) {
    HWY_DYNAMIC_DISPATCH(multiply_by_gates)(block, first, rows);
  });
  return CUDAMOE_OK;
}

cudamoe_status gated_product_backward(void* handle, const cudamoe_gated_product_backward_args& given) {
  cudamoe_gated_product_backward_args args = given;
  const bool packed = args.a_row_stride == args.width && args.b_row_stride == args.width && args.dy_row_stride == args.width &&
                      args.da_row_stride == args.width && args.db_row_stride == args.width;
  if (packed) args.a_row_stride = args.b_row_stride = args.dy_row_stride = args.da_row_stride = args.db_row_stride = 1;
  for_blocks(handle, args, packed, [](const cudamoe_gated_product_backward_args& block, int64_t first, int64_t rows) {
    HWY_DYNAMIC_DISPATCH(multiply_by_gates_back)(block, first, rows);
  });
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu

#endif  // HWY_ONCE
