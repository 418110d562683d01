// Pooled look-ups in many tables, one launch for up to kGatherFeatures features:
//   output[b, column_f + j] = (1 or 1 / |bag|) * sum over the ids of bag b of feature f of table_f[id, j]
//
// Floor: the bytes of the rows looked up (in sectors of 32), ids and output once.
// Tiling: a bag is pooled by a group of 1 to 32 lanes, each with 16-byte pieces of the row; a block of 256 threads takes bags_per_group
// bags a group of one feature. A lane asks for kRowsInFlight rows of a bag before it adds the first; of bags of one id it takes
// kBagsInFlight bags at a time. Where rows or output are not aligned, or the row ends, element by element. No shared memory.
// Order of sums: look-ups of a bag in ascending order, one f32 accumulator for each output element: the bits of the cpu backend.
#include "embedding/bags.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kRowsInFlight = 4;
constexpr int kBagsInFlight = 4;

template <class W>
inline constexpr int kPiece = 16 / static_cast<int>(sizeof(W));

template <class W, class O>
struct Gather {
  const EmbeddingBatch& batch;
  const GatherFeature& feature;
  O* output;
  int64_t output_row_stride;

  static constexpr int kN = kPiece<W>;
  using Piece = Vector<W, kN>;

  CUDAMOE_DEVICE int32_t load_row(int64_t position) const {
    return row_of_id(batch, feature.bags, load_constant(feature.bags.ids + position));
  }
  CUDAMOE_DEVICE void note_if_bad(int32_t row, int64_t position) const {
    if (row == kBadRow) note_bad_id(batch, feature.bags, position);
  }

  // Elements column .. of a row, zeros behind its end and for no row.
  CUDAMOE_DEVICE Piece load_piece(int32_t row, int column) const {
    Piece piece = {};
    if (row < 0) return piece;
    const W* p = static_cast<const W*>(feature.weights) + row * feature.row_stride + column;
    if (feature.whole_rows != 0 && column + kN <= feature.dim) return load_constant<kN>(p);
    CUDAMOE_UNROLL
    for (int j = 0; j < kN; ++j) {
      if (column + j < feature.dim) piece[j] = load_constant<1>(p + j)[0];
    }
    return piece;
  }

  CUDAMOE_DEVICE void store_piece(int64_t bag, int column, const float (&sum)[kN]) const {
    O* p = output + bag * output_row_stride + feature.column + column;
    if (feature.whole_output != 0 && column + kN <= feature.dim) {
      constexpr int kM = kN < kPiece<O> ? kN : kPiece<O>;
      CUDAMOE_UNROLL
      for (int j = 0; j < kN; j += kM) {
        Vector<O, kM> part;
        CUDAMOE_UNROLL
        for (int i = 0; i < kM; ++i) part[i] = from_float<O>(sum[j + i]);
        store(p + j, part);
      }
      return;
    }
    CUDAMOE_UNROLL
    for (int j = 0; j < kN; ++j) {
      if (column + j < feature.dim) p[j] = from_float<O>(sum[j]);
    }
  }

  // Bags of one id: first, first + step, ..., at most `count` of them.
  CUDAMOE_DEVICE void copy_bags(int64_t first, int step, int count, int lane, int lanes) const {
    for (int k = 0; k < count && first + int64_t{k} * step < batch.batch; k += kBagsInFlight) {
      int32_t rows[kBagsInFlight];
      CUDAMOE_UNROLL
      for (int j = 0; j < kBagsInFlight; ++j) {
        const int64_t bag = first + int64_t{k + j} * step;
        rows[j] = k + j < count && bag < batch.batch ? load_row(bag) : kNoRow;
      }
      for (int column = lane * kN; column < feature.dim; column += lanes * kN) {
        Piece piece[kBagsInFlight];
        CUDAMOE_UNROLL
        for (int j = 0; j < kBagsInFlight; ++j) piece[j] = load_piece(rows[j], column);
        CUDAMOE_UNROLL
        for (int j = 0; j < kBagsInFlight; ++j) {
          const int64_t bag = first + int64_t{k + j} * step;
          if (k + j >= count || bag >= batch.batch) continue;
          float sum[kN];
          CUDAMOE_UNROLL
          for (int i = 0; i < kN; ++i) sum[i] = 0.0f + to_float(piece[j][i]);  // -0 becomes 0, as in a sum
          store_piece(bag, column, sum);
        }
      }
      if (lane != 0) continue;
      CUDAMOE_UNROLL
      for (int j = 0; j < kBagsInFlight; ++j) note_if_bad(rows[j], first + int64_t{k + j} * step);
    }
  }

  // Bags of any number of ids.
  CUDAMOE_DEVICE void pool_bags(int64_t first, int step, int count, int lane, int lanes, bool empty) const {
    for (int k = 0; k < count; ++k) {
      const int64_t bag = first + int64_t{k} * step;
      if (bag >= batch.batch) return;
      int64_t begin = 0, end = 0;
      if (feature.bags.offsets == nullptr) {
        begin = bag * feature.bags.bag_size;
        end = begin + feature.bags.bag_size;
      } else if (!empty) {
        begin = load_constant(feature.bags.offsets + bag);
        end = load_constant(feature.bags.offsets + bag + 1);
      }
      for (int column = lane * kN; column < feature.dim; column += lanes * kN) {
        float sum[kN] = {};
        for (int64_t i = begin; i < end; i += kRowsInFlight) {
          int32_t rows[kRowsInFlight];
          CUDAMOE_UNROLL
          for (int r = 0; r < kRowsInFlight; ++r) rows[r] = i + r < end ? load_row(i + r) : kNoRow;
          Piece piece[kRowsInFlight];
          CUDAMOE_UNROLL
          for (int r = 0; r < kRowsInFlight; ++r) piece[r] = load_piece(rows[r], column);
          CUDAMOE_UNROLL
          for (int r = 0; r < kRowsInFlight; ++r) {
            CUDAMOE_UNROLL
            for (int j = 0; j < kN; ++j) sum[j] += to_float(piece[r][j]);
          }
          if (column != 0) continue;  // one lane notes
          CUDAMOE_UNROLL
          for (int r = 0; r < kRowsInFlight; ++r) note_if_bad(rows[r], i + r);
        }
        if (feature.bags.mean != 0 && end > begin) {
          const float size = static_cast<float>(end - begin);
          CUDAMOE_UNROLL
          for (int j = 0; j < kN; ++j) sum[j] /= size;
        }
        store_piece(bag, column, sum);
      }
    }
  }

  CUDAMOE_DEVICE void run(int64_t block, int bags_per_group, bool empty) const {
    const int lanes = feature.lanes, groups = kEmbeddingThreads / lanes;
    const int group = thread_x() / lanes, lane = thread_x() % lanes;
    const int64_t first = block * groups * bags_per_group + group;
    if (feature.bags.offsets == nullptr && feature.bags.bag_size == 1) {
      copy_bags(first, groups, bags_per_group, lane, lanes);
    } else {
      pool_bags(first, groups, bags_per_group, lane, lanes, empty);
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

template <class O>
CUDAMOE_KERNEL(kEmbeddingThreads, 3)
gather_kernel(const CUDAMOE_GRID_CONSTANT GatherTable table, const CUDAMOE_GRID_CONSTANT EmbeddingBatch batch, O* output,
              int64_t output_row_stride) {
  const int f = feature_of_block(table, block_x());
  const GatherFeature& feature = table.feature[f];
  const int64_t block = block_x() - table.first_block[f];
  const bool empty = left_out(batch, feature.bags, f);
  if (feature.bf16 != 0) {
    Gather<Bf16, O>{batch, feature, output, output_row_stride}.run(block, table.bags_per_group, empty);
  } else {
    Gather<float, O>{batch, feature, output, output_row_stride}.run(block, table.bags_per_group, empty);
  }
}

}  // namespace

cudaError_t embedding_gather(const GatherTable& table, const EmbeddingBatch& batch, void* output, int64_t output_row_stride, bool bf16,
                             cudaStream_t stream) {
  const LaunchShape shape{
      .name = "embedding_gather", .grid = {table.first_block[table.features]}, .block = {kEmbeddingThreads}, .stream = stream};
  if (bf16) return launch(shape, gather_kernel<Bf16>, table, batch, static_cast<Bf16*>(output), output_row_stride);
  return launch(shape, gather_kernel<float>, table, batch, static_cast<float*>(output), output_row_stride);
}

}  // namespace cudamoe::kernels
