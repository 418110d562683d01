// What a product does with its sums, straight from the accumulators (fragment_rows.cuh): bias, ReLU or LeakyReLU, or their derivative at
// `below`; see gemm.h.
//
// Whole tiles of aligned rows, with neither an old value nor one before the activation, go by code that knows its case: sixteen copies of
// anything longer are more than the caches for instructions hold. All others go fragment by fragment.
#pragma once

#include "common/activation.cuh"
#include "gemm/fragment_rows.cuh"
#include "gemm/rows.cuh"

namespace cudamoe::kernels {

template <class Y>
class FragmentFinish {
 public:
  CUDAMOE_DEVICE FragmentFinish(const GemmProduct& product, const GemmRowTile& tile) : product_(product), tile_(tile) {
    const bool strided = product.rows.offsets == nullptr, forward = product.derivative == 0;
    const auto place = [&](const GemmMatrix& matrix) {
      return static_cast<const Y*>(matrix.data) + (strided ? tile.group * matrix.group_stride : 0) + tile.begin * matrix.row_stride;
    };
    y_ = const_cast<Y*>(place(product.y));
    before_ = forward && product.before.data != nullptr ? const_cast<Y*>(place(product.before)) : nullptr;
    below_ = !forward && product.below.data != nullptr ? place(product.below) : nullptr;
    bias_ = forward && product.bias != nullptr ? product.bias + tile.group * product.bias_group_stride : nullptr;
    const auto aligned = [](const Y* rows, const GemmMatrix& matrix) {
      return rows == nullptr || fragments_are_aligned(rows, matrix.row_stride);
    };
    aligned_ = aligned(y_, product.y) && aligned(before_, product.before) && aligned(below_, product.below);
    activation_ = forward || below_ != nullptr ? product.activation : Activation::kNone;
    slope_ = activation_ == Activation::kLeakyRelu ? product.slope : (activation_ == Activation::kRelu ? 0.0f : 1.0f);
  }

  // sums(one) calls one(sums of 16 rows of the warp, the thread's first row) for all that the warp has, of columns first_column on.
  template <class Sums>
  CUDAMOE_DEVICE void run(int first_column, int columns, Sums&& sums) const {
    const bool whole =
        aligned_ && first_column + columns <= product_.columns && product_.accumulate == 0 && before_ == nullptr && aligned_for<2>(bias_);
    const auto as = [&](auto kind, auto bias) {
      sums([&](const auto& sum, int row) { whole_tile<decltype(kind)::value, decltype(bias)::value>(sum, row, first_column); });
    };
    constexpr std::bool_constant<true> kBias;
    constexpr std::bool_constant<false> kNoBias;
    if (!whole) {
      sums([&](const auto& sum, int row) { any_tile(sum, row, first_column); });
    } else if (below_ != nullptr) {
      as(Constant<Kind::kBelow>{}, kNoBias);
    } else if (activation_ == Activation::kRelu) {
      bias_ != nullptr ? as(Constant<Kind::kRelu>{}, kBias) : as(Constant<Kind::kRelu>{}, kNoBias);
    } else {
      bias_ != nullptr ? as(Constant<Kind::kLeaky>{}, kBias) : as(Constant<Kind::kLeaky>{}, kNoBias);
    }
  }

 private:
  // kLeaky: with a slope of 1 also for no activation.
  enum class Kind { kRelu, kLeaky, kBelow };
  template <Kind kKind>
  using Constant = std::integral_constant<Kind, kKind>;

  template <class Body>
  CUDAMOE_DEVICE static void each(Body&& body) {
    CUDAMOE_UNROLL
    for (int j = 0; j < 4; ++j) {
      body(j, 0);
      body(j, 1);
    }
  }

  template <Kind kKind>
  CUDAMOE_DEVICE float activated(float x) const {
    return kKind == Kind::kRelu ? (x < 0 ? 0.0f : x) : (x < 0 ? slope_ * x : x);
  }

  template <Kind kKind, bool kBias, int kSums>
  CUDAMOE_DEVICE void whole_tile(const float (&sum)[kSums], int first_row, int first_column) const {
    constexpr int kAcross = kSums / 16;
    const bool inside[2] = {first_row < tile_.rows, first_row + 8 < tile_.rows};
    // Of below, the loads of 64 columns are under way before a result of theirs is stored.
    constexpr int kTogether = 4;
    Vector<uint32_t, 4> words[kTogether];
    const Y* const from[2] = {below_ + first_row * product_.below.row_stride + first_column,
                              below_ + (first_row + 8) * product_.below.row_stride + first_column};
    Y* const to[2] = {y_ + first_row * product_.y.row_stride + first_column, y_ + (first_row + 8) * product_.y.row_stride + first_column};
    CUDAMOE_UNROLL
    for (int i = 0; i < kAcross; ++i) {
      if constexpr (kKind == Kind::kBelow && std::is_same_v<Y, Bf16>) {
        if (2 * i % kTogether == 0) {
          CUDAMOE_UNROLL
          for (int e = 0; e < kTogether; ++e) words[e] = load_words(from[e % 2] + (i + e / 2) * 32, inside[e % 2]);
        }
      }
      RowFragment bias;
      if constexpr (kBias) {
        CUDAMOE_UNROLL
        for (int j = 0; j < 4; ++j) {
          const Vector<float, 2> two = load<2>(bias_ + (first_column + 32 * i + 8 * j + lane_id() % 4 * 2));
          bias.value[j][0] = two[0];
          bias.value[j][1] = two[1];
        }
      }
      CUDAMOE_UNROLL
      for (int half = 0; half < 2; ++half) {
        RowFragment f = fragment_of(sum, 2 * i + half);
        if constexpr (kKind == Kind::kBelow) {
          RowFragment below;
          if constexpr (std::is_same_v<Y, Bf16>) {
            below = fragment_of(words[(2 * i + half) % kTogether]);
          } else {
            below = load_fragment(from[half] + 32 * i, 32, inside[half], true);
          }
          each([&](int j, int e) { f.value[j][e] *= below.value[j][e] <= 0 ? slope_ : 1.0f; });
        } else {
          if constexpr (kBias) each([&](int j, int e) { f.value[j][e] += bias.value[j][e]; });
          each([&](int j, int e) { f.value[j][e] = activated<kKind>(f.value[j][e]); });
        }
        store_whole(to[half] + 32 * i, f, inside[half]);
      }
    }
  }

  template <int kSums>
  CUDAMOE_DEVICE void any_tile(const float (&sum)[kSums], int first_row, int first_column) const {
    CUDAMOE_NO_UNROLL
    for (int which = 0; which < kSums / 8; ++which) {
      RowFragment f = {};
      CUDAMOE_UNROLL
      for (int i = 0; i < kSums / 8; ++i) {
        if (i == which) f = fragment_of(sum, i);
      }
      const int row = first_row + which % 2 * 8, column = first_column + which / 2 * 32, columns = product_.columns - column;
      if (columns > 0) any_fragment(f, row, column, columns);
    }
  }

  CUDAMOE_DEVICE void any_fragment(RowFragment& f, int row, int column, int columns) const {
    const bool inside = row < tile_.rows;
    const auto at = [&](auto* rows, const GemmMatrix& matrix) { return rows + row * matrix.row_stride + column; };
    if (product_.accumulate != 0) {
      const RowFragment old = load_fragment(at(y_, product_.y), columns, inside, aligned_);
      each([&](int j, int e) { f.value[j][e] = old.value[j][e] + f.value[j][e]; });
    }
    if (below_ != nullptr) {
      const RowFragment below = load_fragment(at(below_, product_.below), columns, inside, aligned_);
      each([&](int j, int e) { f.value[j][e] *= below.value[j][e] <= 0 ? slope_ : 1.0f; });
    }
    if (bias_ != nullptr) {
      const RowFragment bias = load_fragment(bias_ + column, columns, true, false);
      each([&](int j, int e) { f.value[j][e] += bias.value[j][e]; });
    }
    if (before_ != nullptr) store_fragment(at(before_, product_.before), f, columns, inside, aligned_);
    if (below_ == nullptr) {
      const bool relu = activation_ == Activation::kRelu;
      each([&](int j, int e) { f.value[j][e] = relu ? activated<Kind::kRelu>(f.value[j][e]) : activated<Kind::kLeaky>(f.value[j][e]); });
    }
    store_fragment(at(y_, product_.y), f, columns, inside, aligned_);
  }

  const GemmProduct& product_;
  const GemmRowTile& tile_;
  Y *y_, *before_;
  const Y* below_;
  const float* bias_;
  Activation activation_;
  float slope_;
  bool aligned_;
};

}  // namespace cudamoe::kernels
