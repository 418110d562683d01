// Merged gradient of a row:
//   sum[j] = sum over its look-ups i, ascending in (feature, look-up), of weight_i * gradient[bag_i, column_i + j]
// with weight_i = 1, or 1 / |bag_i| for a mean.
//
// Floor: one read of a gradient row per look-up, at random within the columns of a feature; those columns of a batch fit the second-level
// cache in most cases.
// Order of sums: blocks of kBlock look-ups, each summed in ascending order by fused multiply-adds, then the blocks in ascending order.
// The blocks bound the error of rows that very many look-ups share.
#include "cpu/embedding/merge.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/embedding/merge.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/common/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kBlock = 256;

// Where the gradient of a key lies, and its weight.
template <bool kUniform>
class Source {
 public:
  explicit Source(const MergeTask& task)
      : gradient_(task.gradient),
        stride_(task.gradient_row_stride),
        features_(task.table->features),
        bag_bits_(task.table->bag_bits),
        bag_mask_((uint64_t{1} << task.table->bag_bits) - 1),
        column_(task.table->features[0].column),
        weight_(task.table->features[0].weight) {}

  HWY_INLINE const float* Row(uint64_t key, float* weight) const {
    if constexpr (kUniform) {
      *weight = weight_;
      return gradient_ + static_cast<int64_t>(key & 0xFFFFFFFFu) * stride_ + column_;
    } else {
      const uint64_t slot = key & 0xFFFFFFFFu;
      const FeaturePlan& feature = features_[slot >> bag_bits_];
      const auto bag = static_cast<int64_t>(slot & bag_mask_);
      *weight = feature.mean_of_bags ? 1.0f / static_cast<float>(feature.offsets[bag + 1] - feature.offsets[bag]) : feature.weight;
      return gradient_ + bag * stride_ + feature.column;
    }
  }

 private:
  const float* gradient_;
  int64_t stride_;
  const FeaturePlan* features_;
  int bag_bits_;
  uint64_t bag_mask_;
  int64_t column_;
  float weight_;
};

template <int kDim, bool kUniform>
void MergeFixed(const MergeTask& task, const int64_t* starts, int rows, float* HWY_RESTRICT sums, int64_t sums_stride) {
  const hn::CappedTag<float, kDim> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int kWidth = static_cast<int>(hn::MaxLanes(decltype(d)())), kVectors = kDim / kWidth;
  const Source<kUniform> source(task);
  const uint64_t* keys = task.table->sorted;
  for (int r = 0; r < rows; ++r, sums += sums_stride) {
    V total[kVectors];
    for (int64_t begin = starts[r]; begin < starts[r + 1]; begin += kBlock) {
      const int64_t end = std::min(begin + kBlock, starts[r + 1]);
      V sum[kVectors];
      float weight;
      const float* row = source.Row(keys[begin], &weight);
#pragma GCC unroll 32
      for (int v = 0; v < kVectors; ++v) sum[v] = hn::Mul(hn::Set(d, weight), hn::LoadU(d, row + v * kWidth));
      for (int64_t i = begin + 1; i < end; ++i) {
        row = source.Row(keys[i], &weight);
#pragma GCC unroll 32
        for (int v = 0; v < kVectors; ++v) sum[v] = hn::MulAdd(hn::Set(d, weight), hn::LoadU(d, row + v * kWidth), sum[v]);
      }
#pragma GCC unroll 32
      for (int v = 0; v < kVectors; ++v) total[v] = begin == starts[r] ? sum[v] : hn::Add(total[v], sum[v]);
    }
#pragma GCC unroll 32
    for (int v = 0; v < kVectors; ++v) hn::StoreU(total[v], d, sums + v * kWidth);
  }
}

// Any dimension: vector by vector, the last one cut.
template <bool kUniform>
void MergeAny(const MergeTask& task, const int64_t* starts, int rows, float* HWY_RESTRICT sums, int64_t sums_stride) {
  const F32 d;
  const Source<kUniform> source(task);
  const uint64_t* keys = task.table->sorted;
  const int64_t dim = task.table->table->dim;
  for (int r = 0; r < rows; ++r, sums += sums_stride) {
    for (int64_t j = 0; j < dim; j += kLanes) {
      const int64_t width = std::min<int64_t>(kLanes, dim - j);
      const auto load_row = [&](const float* row) HWY_ATTR { return width == kLanes ? load(d, row + j) : load_first(d, row + j, width); };
      auto total = hn::Zero(d);
      for (int64_t begin = starts[r]; begin < starts[r + 1]; begin += kBlock) {
        const int64_t end = std::min(begin + kBlock, starts[r + 1]);
        float weight;
        const float* row = source.Row(keys[begin], &weight);
        auto sum = hn::Mul(hn::Set(d, weight), load_row(row));
        for (int64_t i = begin + 1; i < end; ++i) {
          row = source.Row(keys[i], &weight);
          sum = hn::MulAdd(hn::Set(d, weight), load_row(row), sum);
        }
        total = begin == starts[r] ? sum : hn::Add(total, sum);
      }
      if (width == kLanes) {
        store(d, total, sums + j);
      } else {
        store_first(d, total, sums + j, width);
      }
    }
  }
}

template <bool kUniform>
MergeRows Choose(int32_t dim) {
  switch (dim) {
    case 4:
      return MergeFixed<4, kUniform>;
    case 8:
      return MergeFixed<8, kUniform>;
    case 16:
      return MergeFixed<16, kUniform>;
    case 32:
      return MergeFixed<32, kUniform>;
    case 64:
      return MergeFixed<64, kUniform>;
    case 128:
      return MergeFixed<128, kUniform>;
    default:
      return MergeAny<kUniform>;
  }
}

MergeRows ChooseMergeRows(int32_t dim, bool uniform) { return uniform ? Choose<true>(dim) : Choose<false>(dim); }

}  // namespace
}  // namespace cudamoe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cudamoe::cpu {
namespace {
HWY_EXPORT(ChooseMergeRows);
}  // namespace

MergeRows merge_rows_for(const TablePlan& table) { return HWY_DYNAMIC_DISPATCH(ChooseMergeRows)(table.table->dim, table.uniform); }

}  // namespace cudamoe::cpu
#endif  // HWY_ONCE
