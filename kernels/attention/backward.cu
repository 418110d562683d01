// The gradient of scaled dot-product attention on queries, keys and values.
//
// With p[j] = exp(scale <q, k[j]> - log_sum), w the key weights and D = <dy, y>:
//   dv[j] += p[j] w[j] dy,   ds[j] = scale p[j] (w[j] <dy, v[j]> - D),   dq = sum_j ds[j] k[j],   dk[j] += ds[j] q
//
// Floor: q, k, v, y, dy read once, dq, dk, dv written once; 10 flops for each pair of a row (query and head), a key and a column.
// Tiling: a block of 256 threads per key head and sequence (or, of shared keys, block of sequences). Keys in blocks of 32, for each of them
// all rows, 16 (at widths above 128: 8) at a time: first a warp has a row or two and a lane a key, for ds and dq; then a warp has four keys
// and a lane columns, for dk and dv, which stay in registers from rows to rows. Shared memory: keys and values with rows of width + 1, q
// and dy of the rows, ds and p w: (64 (W + 1) + 2 R W + 2 R 33) * 4 bytes for the width W rounded up to 32, 64, 128 or 256 and R rows; 85
// KB at most. Order of sums: scores and D along columns; dq along keys; dk and dv along rows. Nothing depends on the order of threads.
#include "attention/rows.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp, kWarpKeys = kAttentionKeys / kWarps;

struct BackwardTasks {
  int64_t sets, set_sequences;  // sets of keys a key head, sequences of one
};

template <int kColumns>
struct BackwardTile {
  static constexpr int kPadded = kColumns * kWarp, kStride = kPadded + 1;
  static constexpr int kWarpRows = kColumns == 8 ? 1 : 2, kRows = kWarps * kWarpRows, kScoreStride = kAttentionKeys + 1;
  static constexpr int64_t kFloats = 2 * kAttentionKeys * kStride + 2 * kRows * kPadded + 2 * kRows * kScoreStride;
};

template <int kColumns>
CUDAMOE_KERNEL(kThreads, kColumns >= 4 ? 1 : 2)
attention_backward_kernel(const CUDAMOE_GRID_CONSTANT AttentionBackward a, const CUDAMOE_GRID_CONSTANT BackwardTasks tasks) {
  using Tile = BackwardTile<kColumns>;
  constexpr int kPadded = Tile::kPadded, kStride = Tile::kStride, kWarpRows = Tile::kWarpRows, kRows = Tile::kRows;
  CUDAMOE_SHARED(int, seen_of_row, [kRows]);
  const AttentionShape& shape = a.shape;
  const Shared<float> keys = dynamic_shared<float>();
  const Shared<float> values = keys + kAttentionKeys * kStride;
  const Shared<float> q = values + kAttentionKeys * kStride;
  const Shared<float> dy = q + kRows * kPadded;
  const Shared<float> ds = dy + kRows * kPadded;
  const Shared<float> pw = ds + kRows * Tile::kScoreStride;
  const int warp = warp_id(), lane = lane_id();
  for (int64_t task = block_x(); task < tasks.sets * shape.key_heads; task += grid_size_x()) {
    const auto key_head = static_cast<int32_t>(task % shape.key_heads);
    const int64_t set = task / shape.key_heads, first_sequence = set * tasks.set_sequences;
    const int64_t sequences_left = shape.sequences - first_sequence;
    const int64_t rows = (sequences_left < tasks.set_sequences ? sequences_left : tasks.set_sequences) * rows_of_sequence(shape);
    const int64_t first_column = int64_t{key_head} * shape.width, first_key_row = shape.shared != 0 ? 0 : set * shape.keys;
    for (int64_t key = 0; key == 0 || key < shape.keys; key += kAttentionKeys) {
      const int64_t n = shape.keys - key, key_row = first_key_row + key;
      sync_block();
      load_key_rows<kThreads, kPadded, kStride>(shape.k + key_row * shape.k_row_stride + first_column, shape.k_row_stride, n, shape.width,
                                                keys);
      load_key_rows<kThreads, kPadded, kStride>(shape.v + key_row * shape.v_row_stride + first_column, shape.v_row_stride, n, shape.width,
                                                values);
      float dk[kWarpKeys][kColumns] = {}, dv[kWarpKeys][kColumns] = {};
      for (int64_t first = 0; first < rows; first += kRows) {
        AttentionRow row[kWarpRows];
        float d[kWarpRows];
        sync_block();
        CUDAMOE_UNROLL
        for (int r = 0; r < kWarpRows; ++r) {
          const int at = warp * kWarpRows + r;
          row[r] = attention_row(shape, first_sequence, key_head, first + at, rows);
          if (lane == 0) seen_of_row[at] = seen_in_block(row[r].seen, key);
          const float* from_q = shape.q + row[r].at(shape, shape.q_row_stride);
          const float* from_dy = a.dy + row[r].at(shape, a.dy_row_stride);
          const float* from_y = a.y + row[r].at(shape, a.y_row_stride);
          d[r] = 0;
          CUDAMOE_UNROLL
          for (int c = 0; c < kColumns; ++c) {
            const int column = c * kWarp + lane;
            const bool inside = row[r].present != 0 && column < shape.width;
            const float upper = inside ? from_dy[column] : 0.0f;
            q[at * kPadded + column] = inside ? from_q[column] : 0.0f;
            dy[at * kPadded + column] = upper;
            if (inside) d[r] = fma(upper, from_y[column], d[r]);
          }
          d[r] = warp_sum(d[r]);
        }
        sync_block();
        float score[kWarpRows] = {}, upper[kWarpRows] = {};
        for (int i = 0; i < shape.width; ++i) {
          const float k = keys[lane * kStride + i], v = values[lane * kStride + i];
          CUDAMOE_UNROLL
          for (int r = 0; r < kWarpRows; ++r) {
            score[r] = fma(static_cast<float>(q[(warp * kWarpRows + r) * kPadded + i]), k, score[r]);
            upper[r] = fma(static_cast<float>(dy[(warp * kWarpRows + r) * kPadded + i]), v, upper[r]);
          }
        }
        CUDAMOE_UNROLL
        for (int r = 0; r < kWarpRows; ++r) {
          const int at = warp * kWarpRows + r, seen = seen_in_block(row[r].seen, key);
          float gradient = 0, weighted = 0;
          if (lane < seen) {
            const float log_sum = a.log_sum[(row[r].sequence * shape.queries + row[r].query) * shape.heads + row[r].head];
            const float w =
                shape.key_weights == nullptr ? 1.0f : shape.key_weights[row[r].sequence * shape.key_weights_row_stride + key + lane];
            const float p = exp(fma(score[r], shape.scale, -log_sum));
            gradient = p * shape.scale * (w * upper[r] - d[r]);
            weighted = p * w;
          }
          ds[at * Tile::kScoreStride + lane] = gradient;
          pw[at * Tile::kScoreStride + lane] = weighted;
          float dq[kColumns] = {};
          for (int j = 0; j < seen; ++j) {
            const float factor = shuffle(kFullWarp, gradient, j);
            CUDAMOE_UNROLL
            for (int c = 0; c < kColumns; ++c) dq[c] = fma(factor, static_cast<float>(keys[j * kStride + c * kWarp + lane]), dq[c]);
          }
          if (row[r].present == 0) continue;
          float* out = a.dq + row[r].at(shape, a.dq_row_stride);
          CUDAMOE_UNROLL
          for (int c = 0; c < kColumns; ++c) {
            const int column = c * kWarp + lane;
            if (column < shape.width) out[column] = key == 0 ? dq[c] : out[column] + dq[c];
          }
        }
        sync_block();
        for (int r = 0; r < kRows; ++r) {
          const int seen = seen_of_row[r];
          CUDAMOE_UNROLL
          for (int j = 0; j < kWarpKeys; ++j) {
            const int own = warp * kWarpKeys + j;
            if (own >= seen) continue;
            const float weighted = pw[r * Tile::kScoreStride + own], gradient = ds[r * Tile::kScoreStride + own];
            CUDAMOE_UNROLL
            for (int c = 0; c < kColumns; ++c) {
              dv[j][c] = fma(weighted, static_cast<float>(dy[r * kPadded + c * kWarp + lane]), dv[j][c]);
              dk[j][c] = fma(gradient, static_cast<float>(q[r * kPadded + c * kWarp + lane]), dk[j][c]);
            }
          }
        }
      }
      const int64_t out_row = set * shape.keys + key;  // of shared keys: in the set's own sums
      CUDAMOE_UNROLL
      for (int j = 0; j < kWarpKeys; ++j) {
        const int own = warp * kWarpKeys + j;
        CUDAMOE_UNROLL
        for (int c = 0; c < kColumns; ++c) {
          const int column = c * kWarp + lane;
          if (own >= n || column >= shape.width) continue;
          a.dk[(out_row + own) * a.dk_row_stride + first_column + column] = dk[j][c];
          a.dv[(out_row + own) * a.dv_row_stride + first_column + column] = dv[j][c];
        }
      }
    }
  }
  if (thread_x() == 0 && shape.key_counts != nullptr) report_key_counts(shape, true, static_cast<uint32_t>(grid_size_x()));
}

template <int kColumns>
cudaError_t launch_backward(const AttentionBackward& a, const BackwardTasks& tasks, cudaStream_t stream) {
  const int64_t count = tasks.sets * a.shape.key_heads;
  const LaunchShape shape{.name = "attention_backward",
                          .grid = {static_cast<int>(count < kMostAttentionBlocks ? count : kMostAttentionBlocks)},
                          .block = {kThreads},
                          .dynamic_shared_bytes = BackwardTile<kColumns>::kFloats * int64_t{sizeof(float)},
                          .stream = stream};
  return launch(shape, attention_backward_kernel<kColumns>, a, tasks);
}

constexpr int kSumThreads = 256;

CUDAMOE_KERNEL(kSumThreads, 4)
attention_sum_kernel(const float* partials, int64_t blocks, int64_t keys, int64_t columns, float* sums, int64_t sums_row_stride) {
  const int64_t elements = keys * columns;
  for (int64_t i = int64_t{block_x()} * kSumThreads + thread_x(); i < elements; i += int64_t{grid_size_x()} * kSumThreads) {
    double total = 0;
    for (int64_t b = 0; b < blocks; ++b) total += static_cast<double>(partials[b * elements + i]);
    sums[i / columns * sums_row_stride + i % columns] = static_cast<float>(total);
  }
}

}  // namespace

cudaError_t attention_backward(const AttentionBackward& a, cudaStream_t stream) {
  const AttentionShape& shape = a.shape;
  const bool shared = shape.shared != 0;
  const BackwardTasks tasks{shared ? attention_sequence_blocks(shape.sequences) : shape.sequences,
                            shared ? attention_block_sequences(shape.sequences) : 1};
  if (tasks.sets == 0) return cudaSuccess;
  if (shape.width <= 32) return launch_backward<1>(a, tasks, stream);
  if (shape.width <= 64) return launch_backward<2>(a, tasks, stream);
  if (shape.width <= 128) return launch_backward<4>(a, tasks, stream);
  return launch_backward<8>(a, tasks, stream);
}

cudaError_t attention_sum_blocks(const float* partials, int64_t blocks, int64_t keys, int64_t columns, float* sums, int64_t sums_row_stride,
                                 cudaStream_t stream) {
  const int64_t count = ceil_divide(keys * columns, int64_t{kSumThreads});
  if (count == 0) return cudaSuccess;
  const LaunchShape shape{.name = "attention_sum_blocks",
                          .grid = {static_cast<int>(count < kMostAttentionBlocks ? count : kMostAttentionBlocks)},
                          .block = {kSumThreads},
                          .stream = stream};
  return launch(shape, attention_sum_kernel, partials, blocks, keys, columns, sums, sums_row_stride);
}

}  // namespace cudamoe::kernels
