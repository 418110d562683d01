// Pooled look-ups in many tables, one launch for up to kGatherFeatures features:
//   output[b, column_f + j] = (1 or 1 / |bag|) * sum over the ids of bag b of feature f of table_f[id, j]
//
// Floor: the bytes of the rows looked up (in sectors of 32), ids and output once.
// Tiling: a bag is pooled by a group of 1 to 32 lanes, each with 16-byte pieces of the row; a block of 256 threads takes bags_per_group
// bags a group of one feature, those of a group side by side, as their ids are. A lane asks for kRowsInFlight rows before it adds the
// first, of bags of one id those of as many bags. Features that are plain, sums of rows that are read and written by whole pieces, have a
// kernel with more threads resident; in the other, where rows or output are not aligned, or the row ends, elements are taken one by one.
// The output is written past the cache, which then holds more of the tables. No shared memory. Where a table has a cache of hot rows
// (cache.cuh) another kernel looks for each row there first, by one more sector of 32 bytes a look-up.
// Order of sums: look-ups of a bag in ascending order, one f32 accumulator for each output element: the bits of the cpu backend.
#include "embedding/bags.cuh"
#include "embedding/cache.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kRowsInFlight = 4;
// Place p of the cache stands as kCachedRow - p where rows of the table stand as themselves.
constexpr int32_t kCachedRow = kNoRow - 1;

template <class W>
inline constexpr int kPiece = 16 / static_cast<int>(sizeof(W));

template <class W, class O, bool kPlain, bool kCached>
struct Gather {
  const EmbeddingBatch& batch;
  const GatherFeature& feature;
  O* output;
  int64_t output_row_stride;

  static constexpr int kN = kPiece<W>;
  using Piece = Vector<W, kN>;

  // Elements column .. of a row, zeros behind its end and for no row.
  CUDAMOE_DEVICE Piece load_piece(int32_t row, int column) const {
    Piece piece = {};
    if (kCached ? row == kNoRow || row == kBadRow : row < 0) return piece;
    const W* p = static_cast<const W*>(feature.weights) + row * feature.row_stride + column;
    if constexpr (kCached) {
      if (row <= kCachedRow)
        p = static_cast<const W*>(feature.cached_weights) + (kCachedRow - row) * cache_row_stride(feature.dim) + column;
    }
    if constexpr (kPlain) {
      piece = load_constant<kN>(p);
    } else if (feature.whole_rows != 0 && column + kN <= feature.dim) {
      piece = load_constant<kN>(p);
    } else {
      CUDAMOE_UNROLL
      for (int j = 0; j < kN; ++j) {
        if (column + j < feature.dim) piece[j] = load_constant<1>(p + j)[0];
      }
    }
    return piece;
  }

  CUDAMOE_DEVICE void store_piece(uint32_t bag, int column, const float (&sum)[kN]) const {
    O* p = output + int64_t{bag} * output_row_stride + feature.column + column;
    bool whole = true;
    if constexpr (!kPlain) whole = feature.whole_output != 0 && column + kN <= feature.dim;
    if (whole) {
      constexpr int kM = kN < kPiece<O> ? kN : kPiece<O>;
      CUDAMOE_UNROLL
      for (int j = 0; j < kN; j += kM) {
        Vector<O, kM> part;
        CUDAMOE_UNROLL
        for (int i = 0; i < kM; ++i) part[i] = from_float<O>(sum[j + i]);
        store_streaming(p + j, part);
      }
    }
    if constexpr (!kPlain) {
      CUDAMOE_UNROLL
      for (int j = 0; j < kN; ++j) {
        if (!whole && column + j < feature.dim) p[j] = from_float<O>(sum[j]);
      }
    }
  }

  // The rows of look-ups position .., kNoRow from `end` on. Of the lanes of a bag one notes bad ids.
  CUDAMOE_DEVICE void load_rows(uint32_t position, uint32_t end, bool notes, int32_t (&rows)[kRowsInFlight]) const {
    uint32_t bad = 0;
    CUDAMOE_UNROLL
    for (int r = 0; r < kRowsInFlight; ++r) {
      rows[r] = kNoRow;
      if (position + r < end) rows[r] = load_constant(feature.bags.ids + position + r);
    }
    CUDAMOE_UNROLL
    for (int r = 0; r < kRowsInFlight; ++r) {
      if (position + r >= end) continue;
      rows[r] = row_of_id(batch, feature.bags, rows[r]);
      bad |= rows[r] == kBadRow ? 1u << r : 0u;
    }
    if constexpr (kCached) {
      CUDAMOE_UNROLL
      for (int r = 0; r < kRowsInFlight; ++r) {
        if (rows[r] < 0) continue;
        const int32_t place = place_of_row(feature.tags, feature.sets, rows[r]);
        if (place != kNotCached) rows[r] = kCachedRow - place;
      }
    }
    if (!notes) return;
    for (; bad != 0; bad &= bad - 1) note_bad_id(batch, feature.bags, int64_t{position} + count_ones((bad & (0u - bad)) - 1));
  }

  // Bags of one id: first .. last-1.
  CUDAMOE_DEVICE void copy_bags(uint32_t first, uint32_t last, int lane, int lanes) const {
    for (uint32_t bag = first; bag < last; bag += kRowsInFlight) {
      int32_t rows[kRowsInFlight];
      load_rows(bag, last, lane == 0, rows);
      for (int column = lane * kN; column < feature.dim; column += lanes * kN) {
        Piece piece[kRowsInFlight];
        CUDAMOE_UNROLL
        for (int r = 0; r < kRowsInFlight; ++r) piece[r] = load_piece(rows[r], column);
        CUDAMOE_UNROLL
        for (int r = 0; r < kRowsInFlight; ++r) {
          if (bag + r >= last) continue;
          float sum[kN];
          CUDAMOE_UNROLL
          for (int j = 0; j < kN; ++j) sum[j] = 0.0f + to_float(piece[r][j]);  // -0 becomes 0, as in a sum
          store_piece(bag + r, column, sum);
        }
      }
    }
  }

  // Bags of any number of ids.
  CUDAMOE_DEVICE void pool_bags(uint32_t first, uint32_t last, int lane, int lanes, bool empty) const {
    for (uint32_t bag = first; bag < last; ++bag) {
      uint32_t begin = bag * static_cast<uint32_t>(feature.bags.bag_size), end = begin + static_cast<uint32_t>(feature.bags.bag_size);
      if (feature.bags.offsets != nullptr) {
        begin = empty ? 0 : static_cast<uint32_t>(load_constant(feature.bags.offsets + bag));
        end = empty ? 0 : static_cast<uint32_t>(load_constant(feature.bags.offsets + bag + 1));
      }
      for (int column = lane * kN; column < feature.dim; column += lanes * kN) {
        float sum[kN] = {};
        for (uint32_t i = begin; i < end; i += kRowsInFlight) {
          int32_t rows[kRowsInFlight];
          load_rows(i, end, column == 0, rows);
          Piece piece[kRowsInFlight];
          CUDAMOE_UNROLL
          for (int r = 0; r < kRowsInFlight; ++r) piece[r] = load_piece(rows[r], column);
          CUDAMOE_UNROLL
          for (int r = 0; r < kRowsInFlight; ++r) {
            CUDAMOE_UNROLL
            for (int j = 0; j < kN; ++j) sum[j] += to_float(piece[r][j]);
          }
        }
        if (!kPlain && feature.bags.mean != 0 && end > begin) {
          const float size = static_cast<float>(end - begin);
          CUDAMOE_UNROLL
          for (int j = 0; j < kN; ++j) sum[j] /= size;
        }
        store_piece(bag, column, sum);
      }
    }
  }

  CUDAMOE_DEVICE void run(int block, int bags_per_group, bool empty) const {
    const int lanes = feature.lanes, groups = kEmbeddingThreads / lanes;
    const int group = thread_x() / lanes, lane = thread_x() % lanes;
    const int64_t begin = (int64_t{block} * groups + group) * bags_per_group;
    if (begin >= batch.batch) return;
    const auto first = static_cast<uint32_t>(begin);
    const auto last = static_cast<uint32_t>(begin + bags_per_group < batch.batch ? begin + bags_per_group : batch.batch);
    if (feature.bags.offsets == nullptr && feature.bags.bag_size == 1) {
      copy_bags(first, last, lane, lanes);
    } else {
      pool_bags(first, last, lane, lanes, empty);
    }
  }
};

// The last feature that begins at or before the block.
CUDAMOE_DEVICE int feature_of_block(const GatherTable& table, int block) {
  int low = 0, high = table.features - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (table.first_block[middle] <= block) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

template <class O, bool kPlain, bool kCached>
CUDAMOE_DEVICE void gather(const GatherTable& table, const EmbeddingBatch& batch, O* output, int64_t output_row_stride) {
  const int f = feature_of_block(table, block_x());
  const GatherFeature& feature = table.feature[f];
  const int block = block_x() - table.first_block[f];
  const bool empty = left_out(batch, feature.bags, f);
  if (feature.bf16 != 0) {
    Gather<Bf16, O, kPlain, kCached>{batch, feature, output, output_row_stride}.run(block, table.bags_per_group, empty);
  } else {
    Gather<float, O, kPlain, kCached>{batch, feature, output, output_row_stride}.run(block, table.bags_per_group, empty);
  }
}

template <class O, bool kPlain>
CUDAMOE_KERNEL(kEmbeddingThreads, 4)
gather_kernel(const CUDAMOE_GRID_CONSTANT GatherTable table, const CUDAMOE_GRID_CONSTANT EmbeddingBatch batch, O* output,
              int64_t output_row_stride) {
  gather<O, kPlain, false>(table, batch, output, output_row_stride);
}

template <class O>
CUDAMOE_KERNEL(kEmbeddingThreads, 3)
gather_cached_kernel(const CUDAMOE_GRID_CONSTANT GatherTable table, const CUDAMOE_GRID_CONSTANT EmbeddingBatch batch, O* output,
                     int64_t output_row_stride) {
  gather<O, false, true>(table, batch, output, output_row_stride);
}

template <class O>
cudaError_t launch_gather(const GatherTable& table, const EmbeddingBatch& batch, void* output, int64_t output_row_stride, bool cached,
                          cudaStream_t stream) {
  bool plain = true;
  for (int f = 0; f < table.features; ++f) plain = plain && table.feature[f].plain != 0;
  const LaunchShape shape{
      .name = "embedding_gather", .grid = {table.first_block[table.features]}, .block = {kEmbeddingThreads}, .stream = stream};
  const auto kernel = cached ? gather_cached_kernel<O> : plain ? gather_kernel<O, true> : gather_kernel<O, false>;
  return launch(shape, kernel, table, batch, static_cast<O*>(output), output_row_stride);
}

}  // namespace

cudaError_t embedding_gather(const GatherTable& table, const EmbeddingBatch& batch, void* output, int64_t output_row_stride, bool bf16,
                             bool cached, cudaStream_t stream) {
  return bf16 ? launch_gather<Bf16>(table, batch, output, output_row_stride, cached, stream)
              : launch_gather<float>(table, batch, output, output_row_stride, cached, stream);
}

}  // namespace cudamoe::kernels
