// Pooled look-ups in many tables:
//   output[b, column_f + j] = (1 or 1 / |bag|) * sum over the ids of bag b of feature f of table_f[id, j]
//
// Floor: the bytes of the rows looked up, read at random, ids and output once. A row is one to a few cache lines, so the speed is that
// of the memory's random access with enough lines in flight: each look-up asks for the row kFarBytes ahead, across bags, to be brought to
// the second-level cache, and for one an eighth as far to be brought to the first. The second step is needed because a core has far more
// requests open between its second-level cache and the memory than between its first-level cache and the second.
// Tiling: (feature, block of bags with about kTileLookups look-ups), fixed by the shapes. A tile keeps the sum of a bag in
// registers; an output line is written once.
// Order of sums: look-ups of a bag in ascending order, one accumulator per output element.
#include <algorithm>
#include <type_traits>
#include <vector>

#include "cpu/embedding/bad_data.h"
#include "cpu/embedding/embedding.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/embedding/forward.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/embedding/rows-inl.h"

#ifndef CUDAMOE_CPU_EMBEDDING_FORWARD_TASK
#define CUDAMOE_CPU_EMBEDDING_FORWARD_TASK
namespace cudamoe::cpu {
namespace {

constexpr int64_t kTileLookups = 2048;
constexpr int64_t kFarBytes = 6144;
// An output larger than this does not stay in the cache until it is used: whole lines of it are then written past the caches, which
// saves reading them first. Measured: forward and a sequential read of the output together are a quarter faster.
constexpr int64_t kStreamFrom = int64_t{4} << 20;

// Bags bag_begin .. bag_end of one feature.
struct PoolTask {
  const cudamoe_embedding_table* table;
  const cudamoe_embedding_feature* feature;
  int32_t feature_index;
  int32_t output_dtype;
  int64_t bag_begin, bag_end;
  void* output;  // element (0, column)
  int64_t output_row_stride;
  bool stream;  // write past the caches where whole lines are written
  bool clamp;
  BadIds* bad;
};

}  // namespace
}  // namespace cudamoe::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu::HWY_NAMESPACE {
namespace {

// Where the rows of a task lie, and asking for them ahead of their use.
template <class W>
struct Rows {
  explicit Rows(const PoolTask& task)
      : weights(static_cast<const W*>(task.table->weights)),
        ids(task.feature->ids),
        rows(static_cast<uint32_t>(task.table->rows)),
        stride(task.table->row_stride),
        bytes(static_cast<int64_t>(sizeof(W)) * task.table->dim),
        straddles(!LinesHoldRows(reinterpret_cast<uintptr_t>(weights), static_cast<uintptr_t>(bytes),
                                 static_cast<uintptr_t>(stride) * sizeof(W))),
        far(std::clamp<int64_t>(kFarBytes / bytes, 8, 96)),
        near(std::max<int64_t>(far / 8, 2)) {}

  // Before the look-ups begin .. end.
  template <int kBytes>
  HWY_INLINE void Begin(int64_t begin, int64_t end) const {
    for (int64_t i = begin; i < std::min(begin + far, end); ++i) Ask<kBytes, 2>(i);
  }
  // When look-up i of those before `end` is passed. Towards the end the last row is asked for again and again, which costs little.
  template <int kBytes>
  HWY_INLINE void Pass(int64_t i, int64_t end) const {
    Ask<kBytes, 2>(std::min(i + far, end - 1));
    Ask<kBytes, 3>(std::min(i + near, end - 1));
  }
  template <int kBytes, int kLocality>
  HWY_INLINE void Ask(int64_t position) const {
    PrefetchBytes<kBytes, kLocality>(
        reinterpret_cast<uintptr_t>(weights) + static_cast<uintptr_t>(static_cast<int64_t>(ids[position]) * stride) * sizeof(W), bytes,
        straddles);
  }
  // The row of a look-up, or null when the look-up is to be left out.
  HWY_INLINE const W* Row(const PoolTask& task, int64_t position) const {
    int64_t id = ids[position];
    if (HWY_UNLIKELY(static_cast<uint32_t>(id) >= rows)) {
      if (!task.clamp) {
        task.bad->note(task.feature_index, position);
        return nullptr;
      }
      id = 0;
    }
    return weights + id * stride;
  }

  const W* weights;
  const int32_t* ids;
  uint32_t rows;
  int64_t stride, bytes;
  bool straddles;
  int64_t far, near;

 private:
  // Rows that fill lines from their beginning, or of which each line holds a whole number.
  static bool LinesHoldRows(uintptr_t base, uintptr_t row_bytes, uintptr_t stride_bytes) {
    const uintptr_t unit = row_bytes < 64 && 64 % row_bytes == 0 ? row_bytes : 64;
    return base % unit == 0 && stride_bytes % unit == 0;
  }
};

HWY_INLINE int64_t BagStart(const cudamoe_embedding_feature& feature, int64_t bag) {
  return feature.offsets != nullptr ? feature.offsets[bag] : bag * feature.bag_size;
}

template <bool kStream, class D, class O>
HWY_INLINE void StoreOutput(hn::Vec<D> v, D d, O* HWY_RESTRICT to) {
  if constexpr (!kStream) {
    StoreRow(v, d, to);
  } else if constexpr (std::is_same_v<O, float>) {
    hn::Stream(v, d, to);
  } else {
    hn::Stream(RoundToBf16(d, v), Bits16<D>(), reinterpret_cast<uint16_t*>(to));
  }
}

// One look-up a bag: the row itself.
template <int kDim, bool kStream, class W, class O>
void CopyRows(const PoolTask& task) {
  const hn::CappedTag<float, kDim> d;
  constexpr int kWidth = static_cast<int>(hn::MaxLanes(decltype(d)())), kVectors = kDim / kWidth;
  const Rows<W> rows(task);
  O* output = static_cast<O*>(task.output) + task.bag_begin * task.output_row_stride;
  constexpr int kBytes = kDim * int{sizeof(W)};
  rows.template Begin<kBytes>(task.bag_begin, task.bag_end);
  for (int64_t b = task.bag_begin; b < task.bag_end; ++b, output += task.output_row_stride) {
    rows.template Pass<kBytes>(b, task.bag_end);
    const W* row = rows.Row(task, b);
#pragma GCC unroll 32
    for (int v = 0; v < kVectors; ++v)
      StoreOutput<kStream>(row != nullptr ? LoadRow(d, row + v * kWidth) : hn::Zero(d), d, output + v * kWidth);
  }
}

// Bags of any size, a dimension known to the compiler: the sum stays in registers.
template <int kDim, bool kStream, class W, class O>
void PoolRows(const PoolTask& task) {
  const hn::CappedTag<float, kDim> d;
  constexpr int kWidth = static_cast<int>(hn::MaxLanes(decltype(d)())), kVectors = kDim / kWidth;
  const Rows<W> rows(task);
  const cudamoe_embedding_feature& feature = *task.feature;
  const bool mean = feature.pooling == CUDAMOE_POOLING_MEAN;
  O* output = static_cast<O*>(task.output) + task.bag_begin * task.output_row_stride;
  int64_t i = BagStart(feature, task.bag_begin);
  const int64_t stop = BagStart(feature, task.bag_end);
  constexpr int kBytes = kDim * int{sizeof(W)};
  rows.template Begin<kBytes>(i, stop);
  for (int64_t b = task.bag_begin; b < task.bag_end; ++b, output += task.output_row_stride) {
    const int64_t begin = i, end = BagStart(feature, b + 1);
    hn::Vec<decltype(d)> sum[kVectors];
#pragma GCC unroll 32
    for (int v = 0; v < kVectors; ++v) sum[v] = hn::Zero(d);
    for (; i < end; ++i) {
      rows.template Pass<kBytes>(i, stop);
      const W* row = rows.Row(task, i);
      if (HWY_UNLIKELY(row == nullptr)) continue;
#pragma GCC unroll 32
      for (int v = 0; v < kVectors; ++v) sum[v] = hn::Add(sum[v], LoadRow(d, row + v * kWidth));
    }
    if (mean && end - begin > 1) {
      const auto count = hn::Set(d, static_cast<float>(end - begin));
#pragma GCC unroll 32
      for (int v = 0; v < kVectors; ++v) sum[v] = hn::Div(sum[v], count);
    }
#pragma GCC unroll 32
    for (int v = 0; v < kVectors; ++v) StoreOutput<kStream>(sum[v], d, output + v * kWidth);
  }
}

// Any dimension: a bag is summed in slices of up to four vectors, the last one cut; the rows come from the first-level cache after
// the first slice.
template <class W, class O>
void PoolAnyRows(const PoolTask& task) {
  const F32 d;
  const int64_t lanes = kLanes;
  const Rows<W> rows(task);
  const cudamoe_embedding_feature& feature = *task.feature;
  const bool mean = feature.pooling == CUDAMOE_POOLING_MEAN;
  const int64_t dim = task.table->dim;
  O* output = static_cast<O*>(task.output) + task.bag_begin * task.output_row_stride;
  int64_t i = BagStart(feature, task.bag_begin);
  const int64_t stop = BagStart(feature, task.bag_end);
  rows.template Begin<0>(i, stop);
  for (int64_t b = task.bag_begin; b < task.bag_end; ++b, output += task.output_row_stride) {
    const int64_t begin = i, end = BagStart(feature, b + 1);
    const auto count = hn::Set(d, mean && end - begin > 1 ? static_cast<float>(end - begin) : 1.0f);
    for (int64_t j = 0; j < dim; j += 4 * lanes) {
      const int64_t width = std::min(4 * lanes, dim - j), full = width / lanes;
      const int64_t tail = width % lanes;
      auto sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0, sum_tail = sum0;
      for (int64_t k = begin; k < end; ++k) {
        if (j == 0) rows.template Pass<0>(k, stop);
        int64_t id = rows.ids[k];
        if (HWY_UNLIKELY(static_cast<uint32_t>(id) >= rows.rows)) {
          if (!task.clamp) {
            if (j == 0) task.bad->note(task.feature_index, k);
            continue;
          }
          id = 0;
        }
        const W* row = rows.weights + id * rows.stride + j;
        if (full > 0) sum0 = hn::Add(sum0, LoadRow(d, row));
        if (full > 1) sum1 = hn::Add(sum1, LoadRow(d, row + lanes));
        if (full > 2) sum2 = hn::Add(sum2, LoadRow(d, row + 2 * lanes));
        if (full > 3) sum3 = hn::Add(sum3, LoadRow(d, row + 3 * lanes));
        if (tail > 0) sum_tail = hn::Add(sum_tail, load_first(d, row + full * lanes, tail));
      }
      O* to = output + j;
      if (full > 0) StoreRow(hn::Div(sum0, count), d, to);
      if (full > 1) StoreRow(hn::Div(sum1, count), d, to + lanes);
      if (full > 2) StoreRow(hn::Div(sum2, count), d, to + 2 * lanes);
      if (full > 3) StoreRow(hn::Div(sum3, count), d, to + 3 * lanes);
      if (tail > 0) store_first(d, hn::Div(sum_tail, count), to + full * lanes, tail);
    }
    i = end;
  }
}

template <int kDim, bool kStream, class W, class O>
void PoolFixed(const PoolTask& task) {
  if (task.feature->offsets == nullptr && task.feature->bag_size == 1) {
    CopyRows<kDim, kStream, W, O>(task);
  } else {
    PoolRows<kDim, kStream, W, O>(task);
  }
}

template <int kDim, class W, class O>
void PoolDim(const PoolTask& task) {
  constexpr int64_t kLine = 64, kBytes = kDim * int64_t{sizeof(O)};
  if constexpr (kBytes % kLine == 0) {
    const bool whole_lines =
        reinterpret_cast<uintptr_t>(task.output) % kLine == 0 && task.output_row_stride * int64_t{sizeof(O)} % kLine == 0;
    if (task.stream && whole_lines) {
      PoolFixed<kDim, true, W, O>(task);
      hwy::FlushStream();
      return;
    }
  }
  PoolFixed<kDim, false, W, O>(task);
}

template <class W, class O>
void PoolTyped(const PoolTask& task) {
  switch (task.table->dim) {
    case 4:
      return PoolDim<4, W, O>(task);
    case 8:
      return PoolDim<8, W, O>(task);
    case 16:
      return PoolDim<16, W, O>(task);
    case 32:
      return PoolDim<32, W, O>(task);
    case 64:
      return PoolDim<64, W, O>(task);
    case 128:
      return PoolDim<128, W, O>(task);
    default:
      return PoolAnyRows<W, O>(task);
  }
}

void Pool(const PoolTask& task) {
  const bool bf16_weights = task.table->dtype == CUDAMOE_BF16, bf16_output = task.output_dtype == CUDAMOE_BF16;
  if (!bf16_weights && !bf16_output) return PoolTyped<float, float>(task);
  if (!bf16_weights && bf16_output) return PoolTyped<float, Bf16>(task);
  if (bf16_weights && !bf16_output) return PoolTyped<Bf16, float>(task);
  PoolTyped<Bf16, Bf16>(task);
}

}  // namespace
}  // namespace cudamoe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cudamoe::cpu {
namespace {

HWY_EXPORT(Pool);

// An output block of zeros, for a feature whose offsets are bad.
void clear_bags(const PoolTask& task) {
  const int64_t bytes = task.table->dim * dtype_bytes(task.output_dtype), stride = task.output_row_stride * dtype_bytes(task.output_dtype);
  for (int64_t b = task.bag_begin; b < task.bag_end; ++b)
    std::memset(static_cast<char*>(task.output) + b * stride, 0, static_cast<size_t>(bytes));
}

// Asks for the rows that a feature's first bags need. A batch of one sample has one look-up a feature: without this each would wait for
// the memory in its turn.
void prefetch_first_rows(const cudamoe_embedding_table& table, const cudamoe_embedding_feature& feature) {
  constexpr int64_t kFirst = 4, kLine = 64, kMostBytes = 256;
  const int64_t element = dtype_bytes(table.dtype), bytes = std::min(kMostBytes, table.dim * element);
  for (int64_t i = 0; i < std::min(kFirst, feature.lookups); ++i) {
    const int64_t id = feature.ids[i];
    if (id < 0 || id >= table.rows) continue;
    const char* row = static_cast<const char*>(table.weights) + id * table.row_stride * element;
    for (int64_t at = 0; at < bytes; at += kLine) hwy::Prefetch(row + at);
  }
}

// The tiles of one feature begin at first_tile.
struct FeatureTiles {
  int64_t first_tile, block;
  bool good;
};

}  // namespace

cudamoe_status embedding_forward(void* stream_pointer, const cudamoe_embedding_forward_args& args) {
  Stream& stream = stream_of(stream_pointer);
  if (args.batch == 0) return CUDAMOE_OK;
  std::vector<FeatureTiles> features(static_cast<size_t>(args.feature_count));
  int64_t tiles = 0, lookups = 0;
  for (int32_t f = 0; f < args.feature_count; ++f) {
    const cudamoe_embedding_feature& feature = args.features[f];
    const int64_t bag = std::max<int64_t>(1, feature.lookups / args.batch);
    const int64_t block = std::max<int64_t>(1, kTileLookups / bag);
    const bool good = offsets_are_good(feature, args.batch);
    if (!good) report_bad_offsets(stream, "cudamoe_embedding_forward", f, feature, args.batch);
    features[static_cast<size_t>(f)] = {tiles, block, good};
    prefetch_first_rows(args.tables[feature.table], feature);
    tiles += (args.batch + block - 1) / block;
    lookups += feature.lookups;
  }
  const int64_t output_bytes = dtype_bytes(args.output_dtype);
  const bool past_caches = args.batch * args.output_row_stride * output_bytes >= kStreamFrom;
  BadIds bad;
  stream.device().for_tiles(tiles, 5.0 * static_cast<double>(lookups), [&](int64_t tile) {
    const auto found = std::upper_bound(features.begin(), features.end(), tile,
                                        [](int64_t value, const FeatureTiles& f) { return value < f.first_tile; }) -
                       1;
    const auto f = static_cast<int32_t>(found - features.begin());
    const cudamoe_embedding_feature& feature = args.features[f];
    const int64_t begin = (tile - found->first_tile) * found->block;
    const PoolTask task{&args.tables[feature.table],
                        &feature,
                        f,
                        args.output_dtype,
                        begin,
                        std::min(begin + found->block, args.batch),
                        static_cast<char*>(args.output) + feature.column * output_bytes,
                        args.output_row_stride,
                        past_caches,
                        args.bounds == CUDAMOE_BOUNDS_CLAMP,
                        &bad};
    if (found->good) {
      HWY_DYNAMIC_DISPATCH(Pool)(task);
    } else {
      clear_bags(task);
    }
  });
  bad.report(stream, "cudamoe_embedding_forward", args.tables, args.features);
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
#endif  // HWY_ONCE
