// Scaled dot-product attention over many short sequences.
//
//   s[j] = scale <q, k[j]>,  p = softmax(s) over the seen keys,  y = sum_j p[j] w[j] v[j],  log_sum = ln sum_j exp(s[j])
//
// Floor: q, k, v read once, y written once; 4 flops for each pair of a row (query and head), a key and a column.
// Tiling: a block of 128 threads per 16 rows of a set of keys; a warp has 4 rows. Keys in blocks of 32: for scores a lane has a key, for y
// it has columns c, c + 32, ... The softmax is the online one: sums of earlier blocks are scaled when the largest score grows. Shared
// memory: keys and values of a block with rows of width + 1, and the queries: (64 (W + 1) + 16 W) * 4 bytes for the width W rounded up to
// 32, 64, 128 or 256; 82 KB at most.
// Order of sums: scores along columns; exponentials by the warp's butterfly, then the blocks of keys; y along keys.
#include "attention/rows.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp, kRows = 4, kBlockRows = kWarps * kRows;

struct ForwardTasks {
  int64_t sets, row_blocks, rows;  // sets of keys a key head, blocks of rows a set, rows a set
};

template <int kColumns>
CUDAMOE_KERNEL(kThreads, kColumns == 8 ? 2 : 3)
attention_forward_kernel(const CUDAMOE_GRID_CONSTANT AttentionForward a, const CUDAMOE_GRID_CONSTANT ForwardTasks tasks) {
  constexpr int kPadded = kColumns * kWarp, kStride = kPadded + 1;
  const AttentionShape& shape = a.shape;
  const Shared<float> keys = dynamic_shared<float>();
  const Shared<float> values = keys + kAttentionKeys * kStride;
  const Shared<float> queries = values + kAttentionKeys * kStride;
  const int warp = warp_id(), lane = lane_id();
  const int64_t count = tasks.sets * tasks.row_blocks * shape.key_heads;
  for (int64_t task = block_x(); task < count; task += grid_size_x()) {
    const auto key_head = static_cast<int32_t>(task % shape.key_heads);
    const int64_t set = task / shape.key_heads / tasks.row_blocks, block = task / shape.key_heads % tasks.row_blocks;
    const int64_t first_key_row = shape.shared != 0 ? 0 : set * shape.keys, first_column = int64_t{key_head} * shape.width;
    AttentionRow rows[kRows];
    float largest[kRows], total[kRows], y[kRows][kColumns];
    CUDAMOE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      rows[r] = attention_row(shape, shape.shared != 0 ? 0 : set, key_head, block * kBlockRows + warp * kRows + r, tasks.rows);
      largest[r] = -infinity();
      total[r] = 0;
      const float* q = shape.q + rows[r].at(shape, shape.q_row_stride);
      CUDAMOE_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        y[r][c] = 0;
        const int column = c * kWarp + lane;
        queries[(warp * kRows + r) * kPadded + column] = rows[r].present != 0 && column < shape.width ? q[column] : 0.0f;
      }
    }
    for (int64_t key = 0; key < shape.keys; key += kAttentionKeys) {
      sync_block();
      const int64_t n = shape.keys - key, row = first_key_row + key;
      load_key_rows<kThreads, kPadded, kStride>(shape.k + row * shape.k_row_stride + first_column, shape.k_row_stride, n, shape.width,
                                                keys);
      load_key_rows<kThreads, kPadded, kStride>(shape.v + row * shape.v_row_stride + first_column, shape.v_row_stride, n, shape.width,
                                                values);
      sync_block();
      float score[kRows] = {};
      for (int i = 0; i < shape.width; ++i) {
        const float k = keys[lane * kStride + i];
        CUDAMOE_UNROLL
        for (int r = 0; r < kRows; ++r) score[r] = fma(static_cast<float>(queries[(warp * kRows + r) * kPadded + i]), k, score[r]);
      }
      CUDAMOE_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const int seen = seen_in_block(rows[r].seen, key);
        if (seen == 0) continue;  // the same for the whole warp
        const float s = score[r] * shape.scale;
        const float before = largest[r], now = max(before, warp_max(lane < seen ? s : -infinity()));
        if (total[r] != 0) {
          const float factor = exp(before - now);
          total[r] *= factor;
          CUDAMOE_UNROLL
          for (int c = 0; c < kColumns; ++c) y[r][c] *= factor;
        }
        largest[r] = now;
        const float p = lane < seen ? exp(s - now) : 0.0f;
        total[r] += warp_sum(p);
        const float weighted = lane < seen && shape.key_weights != nullptr
                                   ? p * shape.key_weights[rows[r].sequence * shape.key_weights_row_stride + key + lane]
                                   : p;
        for (int j = 0; j < seen; ++j) {
          const float factor = shuffle(kFullWarp, weighted, j);
          CUDAMOE_UNROLL
          for (int c = 0; c < kColumns; ++c) y[r][c] = fma(factor, static_cast<float>(values[j * kStride + c * kWarp + lane]), y[r][c]);
        }
      }
    }
    CUDAMOE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      if (rows[r].present == 0) continue;
      const bool none = rows[r].seen == 0;
      const float inverse = none ? 0.0f : 1.0f / total[r];
      float* out = a.y + rows[r].at(shape, a.y_row_stride);
      CUDAMOE_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        if (c * kWarp + lane < shape.width) out[c * kWarp + lane] = y[r][c] * inverse;
      }
      if (a.log_sum == nullptr || lane != 0) continue;
      a.log_sum[(rows[r].sequence * shape.queries + rows[r].query) * shape.heads + rows[r].head] =
          none ? -infinity() : largest[r] + log(total[r]);
    }
    sync_block();  // before the next task's queries
  }
  if (thread_x() == 0 && shape.key_counts != nullptr) report_key_counts(shape, false, static_cast<uint32_t>(grid_size_x()));
}

template <int kColumns>
cudaError_t launch_forward(const AttentionForward& a, const ForwardTasks& tasks, cudaStream_t stream) {
  constexpr int64_t kPadded = kColumns * kWarp;
  const int64_t count = tasks.sets * tasks.row_blocks * a.shape.key_heads;
  const LaunchShape shape{.name = "attention_forward",
                          .grid = {static_cast<int>(count < kMostAttentionBlocks ? count : kMostAttentionBlocks)},
                          .block = {kThreads},
                          .dynamic_shared_bytes = (2 * kAttentionKeys * (kPadded + 1) + kBlockRows * kPadded) * int64_t{sizeof(float)},
                          .stream = stream};
  return launch(shape, attention_forward_kernel<kColumns>, a, tasks);
}

}  // namespace

cudaError_t attention_forward(const AttentionForward& a, cudaStream_t stream) {
  const AttentionShape& shape = a.shape;
  const int64_t of_sequence = shape.queries * (shape.heads / shape.key_heads);
  const int64_t rows = shape.shared != 0 ? shape.sequences * of_sequence : of_sequence;
  const ForwardTasks tasks{shape.shared != 0 ? 1 : shape.sequences, ceil_divide(rows, int64_t{kBlockRows}), rows};
  if (tasks.sets == 0 || rows == 0) return cudaSuccess;
  if (shape.width <= 32) return launch_forward<1>(a, tasks, stream);
  if (shape.width <= 64) return launch_forward<2>(a, tasks, stream);
  if (shape.width <= 128) return launch_forward<4>(a, tasks, stream);
  return launch_forward<8>(a, tasks, stream);
}

}  // namespace cudamoe::kernels
