// Products with an activated gate, element by element:
//   y = a f(b);   da (+)= dy f(b),  db (+)= dy a f'(b)
//
// Floor: 12 bytes an element forward, 20 backward. Tiling: a thread has four neighbouring columns; the fewest lanes, a power of two up to
// 256, that hold a row take it, so that a block of 256 threads has 1 to 256 rows; the grid strides over rows and over columns beyond 1024.
// Accesses of 16 bytes where everything is aligned. No shared memory, no sums.
#include "activation/activation.h"
#include "common/activation.cuh"
#include "common/quad.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 1 << 16, kMostAcross = 1 << 10;

// body(row, column) for the quads of this thread; a row belongs to 2^lane_bits neighbouring threads.
template <class Body>
CUDAMOE_DEVICE void for_quads(int64_t rows, int64_t width, int lane_bits, Body&& body) {
  const int lanes = 1 << lane_bits, lane = thread_x() & (lanes - 1), strand = thread_x() >> lane_bits;
  const int64_t row_step = int64_t{grid_size_x()} * (kThreads >> lane_bits), column_step = int64_t{grid_size_y()} * lanes * 4;
  for (int64_t row = int64_t{block_x()} * (kThreads >> lane_bits) + strand; row < rows; row += row_step) {
    for (int64_t column = (int64_t{block_y()} * lanes + lane) * 4; column < width; column += column_step) body(row, column);
  }
}

// Calls body with the activation as a constant: value and derivative then share what they have in common.
template <class Body>
CUDAMOE_DEVICE void with_activation(Activation activation, Body&& body) {
  switch (activation) {
    case Activation::kRelu:
      return body(std::integral_constant<Activation, Activation::kRelu>{});
    case Activation::kLeakyRelu:
      return body(std::integral_constant<Activation, Activation::kLeakyRelu>{});
    case Activation::kGelu:
      return body(std::integral_constant<Activation, Activation::kGelu>{});
    case Activation::kSilu:
      return body(std::integral_constant<Activation, Activation::kSilu>{});
    case Activation::kSigmoid:
      return body(std::integral_constant<Activation, Activation::kSigmoid>{});
    case Activation::kTanh:
      return body(std::integral_constant<Activation, Activation::kTanh>{});
    default:
      return body(std::integral_constant<Activation, Activation::kNone>{});
  }
}

template <bool kAligned>
CUDAMOE_KERNEL(kThreads, 4)
product_kernel(const CUDAMOE_GRID_CONSTANT GatedProduct k, int lane_bits) {
  for_quads(k.rows, k.width, lane_bits, [&](int64_t row, int64_t column) {
    const int64_t left = k.width - column;
    const Quad a = load_quad<kAligned>(k.a + row * k.a_row_stride + column, left);
    const Quad b = load_quad<kAligned>(k.b + row * k.b_row_stride + column, left);
    Quad y;
    with_activation(k.activation, [&](auto activation) {
      CUDAMOE_UNROLL
      for (int i = 0; i < 4; ++i) y[i] = a[i] * activate(decltype(activation)::value, b[i], k.slope);
    });
    store_quad<kAligned>(k.y + row * k.y_row_stride + column, y, left);
  });
}

template <bool kAligned>
CUDAMOE_DEVICE void add_or_store(float* to, Quad quad, int64_t left, bool accumulate) {
  if (accumulate) {
    const Quad before = load_quad<kAligned>(to, left);
    CUDAMOE_UNROLL
    for (int i = 0; i < 4; ++i) quad[i] = before[i] + quad[i];
  }
  store_quad<kAligned>(to, quad, left);
}

template <bool kAligned>
CUDAMOE_KERNEL(kThreads, 4)
gradient_kernel(const CUDAMOE_GRID_CONSTANT GatedProductGradient k, int lane_bits) {
  for_quads(k.rows, k.width, lane_bits, [&](int64_t row, int64_t column) {
    const int64_t left = k.width - column;
    const Quad a = load_quad<kAligned>(k.a + row * k.a_row_stride + column, left);
    const Quad b = load_quad<kAligned>(k.b + row * k.b_row_stride + column, left);
    const Quad dy = load_quad<kAligned>(k.dy + row * k.dy_row_stride + column, left);
    Quad da, db;
    with_activation(k.activation, [&](auto activation) {
      constexpr Activation kActivation = decltype(activation)::value;
      CUDAMOE_UNROLL
      for (int i = 0; i < 4; ++i) {
        const float value = activate(kActivation, b[i], k.slope);
        const bool before = kActivation == Activation::kGelu || kActivation == Activation::kSilu;
        da[i] = dy[i] * value;
        db[i] = dy[i] * a[i] * activation_derivative(kActivation, before ? b[i] : value, k.slope);
      }
    });
    add_or_store<kAligned>(k.da + row * k.da_row_stride + column, da, left, k.accumulate_a != 0);
    add_or_store<kAligned>(k.db + row * k.db_row_stride + column, db, left, k.accumulate_b != 0);
  });
}

int lane_bits_of(int64_t width) {
  int bits = 0;
  while (bits < 8 && (int64_t{4} << bits) < width) ++bits;
  return bits;
}

LaunchShape shape_of(const char* name, int64_t rows, int64_t width, int lane_bits, cudaStream_t stream) {
  const int64_t blocks = ceil_divide(rows, int64_t{kThreads >> lane_bits}), across = ceil_divide(width, int64_t{4} << lane_bits);
  return {.name = name,
          .grid = {static_cast<int>(blocks < kMostBlocks ? blocks : kMostBlocks),
                   static_cast<int>(across < kMostAcross ? across : kMostAcross)},
          .block = {kThreads},
          .stream = stream};
}

}  // namespace

cudaError_t gated_product(const GatedProduct& product, cudaStream_t stream) {
  if (product.rows == 0) return cudaSuccess;
  const int lane_bits = lane_bits_of(product.width);
  const LaunchShape shape = shape_of("gated_product", product.rows, product.width, lane_bits, stream);
  const bool aligned = product.width % 4 == 0 && aligned_for<4>(product.a, product.a_row_stride) &&
                       aligned_for<4>(product.b, product.b_row_stride) && aligned_for<4>(product.y, product.y_row_stride);
  return aligned ? launch(shape, product_kernel<true>, product, lane_bits) : launch(shape, product_kernel<false>, product, lane_bits);
}

cudaError_t gated_product_gradient(const GatedProductGradient& gradient, cudaStream_t stream) {
  if (gradient.rows == 0) return cudaSuccess;
  const int lane_bits = lane_bits_of(gradient.width);
  const LaunchShape shape = shape_of("gated_product_gradient", gradient.rows, gradient.width, lane_bits, stream);
  const bool aligned = gradient.width % 4 == 0 && aligned_for<4>(gradient.a, gradient.a_row_stride) &&
                       aligned_for<4>(gradient.b, gradient.b_row_stride) && aligned_for<4>(gradient.dy, gradient.dy_row_stride) &&
                       aligned_for<4>(gradient.da, gradient.da_row_stride) && aligned_for<4>(gradient.db, gradient.db_row_stride);
  return aligned ? launch(shape, gradient_kernel<true>, gradient, lane_bits) : launch(shape, gradient_kernel<false>, gradient, lane_bits);
}

}  // namespace cudamoe::kernels
