// What the forward and the backward of attention share: where rows and keys are, and what a row sees.
#pragma once

#include "attention/attention.h"
#include "common/first_offender.cuh"
#include "common/kernel.cuh"

namespace cudamoe::kernels {

// A row's place; a row beyond the set sees no key.
struct AttentionRow {
  int64_t sequence, query;
  int32_t head;
  int32_t present;
  int64_t seen;  // keys

  // Of an array [sequences, queries, heads * width].
  CUDAMOE_DEVICE int64_t at(const AttentionShape& shape, int64_t row_stride) const {
    return (sequence * shape.queries + query) * row_stride + int64_t{head} * shape.width;
  }
};

CUDAMOE_DEVICE int64_t rows_of_sequence(const AttentionShape& shape) { return shape.queries * (shape.heads / shape.key_heads); }

// Keys of a sequence. A count out of range is bounded, and noted.
CUDAMOE_DEVICE int64_t key_count(const AttentionShape& shape, int64_t sequence) {
  if (shape.key_counts == nullptr) return shape.keys;
  const int64_t count = shape.key_counts[sequence];
  if (count >= 0 && count <= shape.keys) return count;
  note_offender(shape.offender, sequence);
  return count < 0 ? 0 : shape.keys;
}

// Row `row` of the set that begins with a sequence; `rows` are in the set.
CUDAMOE_DEVICE AttentionRow attention_row(const AttentionShape& shape, int64_t first_sequence, int32_t key_head, int64_t row,
                                          int64_t rows) {
  const int32_t group = shape.heads / shape.key_heads;
  const int64_t of_sequence = rows_of_sequence(shape), in_set = row < rows ? row : 0;
  AttentionRow result = {};
  result.sequence = first_sequence + in_set / of_sequence;
  result.query = in_set % of_sequence / group;
  result.head = key_head * group + static_cast<int32_t>(in_set % of_sequence % group);
  result.present = row < rows ? 1 : 0;
  if (row >= rows) return result;
  int64_t seen = key_count(shape, result.sequence);
  if (shape.causal != 0) {
    const int64_t last = result.query + shape.keys - shape.queries + 1;
    seen = last < seen ? last : seen;
  }
  result.seen = seen > 0 ? seen : 0;
  return result;
}

// Of `seen` keys, those in the block that begins with `key`.
CUDAMOE_DEVICE int seen_in_block(int64_t seen, int64_t key) {
  const int64_t rest = seen - key;
  return rest <= 0 ? 0 : rest < kAttentionKeys ? static_cast<int>(rest) : kAttentionKeys;
}

// Copies `count` rows of a key head, zeros behind them and behind the width, to shared memory with rows of kStride elements.
template <int kThreads, int kPadded, int kStride>
CUDAMOE_DEVICE void load_key_rows(const float* from, int64_t row_stride, int64_t count, int width, Shared<float> to) {
  for (int i = thread_x(); i < kAttentionKeys * kPadded; i += kThreads) {
    const int row = i / kPadded, column = i % kPadded;
    to[row * kStride + column] = row < count && column < width ? from[row * row_stride + column] : 0.0f;
  }
}

// The report of the lowest sequence with a bad count; one thread of every block calls it after the block's last barrier.
CUDAMOE_DEVICE void report_key_counts(const AttentionShape& shape, bool backward, uint32_t blocks) {
  report_offender(shape.offender, shape.report, blocks, [&](int64_t sequence) {
    DeviceReport found = {};
    found.code = ReportCode::kAttentionKeyCount;
    found.index[0] = backward ? 1 : 0;
    found.index[1] = sequence;
    found.index[2] = shape.key_counts[sequence];
    found.index[3] = shape.keys;
    return found;
  });
}

// Grids of at most this many blocks; each takes task after task.
inline constexpr int64_t kMostAttentionBlocks = 1 << 20;

}  // namespace cudamoe::kernels
