// The kernels of the attention family, as the host launches them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/report.cuh"

namespace cudamoe::kernels {

// Keys at once: one a lane.
inline constexpr int kAttentionKeys = 32;

// A row is a query and a head. The rows of a set share their keys: those of one sequence and key head, or, of shared keys, those of
// several sequences.
struct AttentionShape {
  int64_t sequences, queries, keys;
  int32_t heads, key_heads, width;
  int32_t causal, shared;
  float scale;
  const float* q;
  const float* k;
  const float* v;
  int64_t q_row_stride, k_row_stride, v_row_stride;
  const int32_t* key_counts;  // [sequences] or null
  const float* key_weights;   // [sequences, keys] or null
  int64_t key_weights_row_stride;
  OffenderCell* offender;
  DeviceReport* report;
};

struct AttentionForward {
  AttentionShape shape;
  float* y;
  int64_t y_row_stride;
  float* log_sum;  // [sequences, queries, heads] or null
};
cudaError_t attention_forward(const AttentionForward& attention, cudaStream_t stream);

struct AttentionBackward {
  AttentionShape shape;
  const float* y;
  const float* dy;
  int64_t y_row_stride, dy_row_stride;
  const float* log_sum;
  float* dq;
  int64_t dq_row_stride;
  // Of shared keys: sums of blocks of sequences, [blocks][keys][key_heads * width] each.
  float* dk;
  float* dv;
  int64_t dk_row_stride, dv_row_stride;
};
cudaError_t attention_backward(const AttentionBackward& attention, cudaStream_t stream);

// Sequences whose sums of dk and dv one block makes, and the number of such blocks.
CUDAMOE_HOST_DEVICE int64_t attention_block_sequences(int64_t sequences) { return sequences <= 128 * 16 ? 16 : (sequences + 127) / 128; }
CUDAMOE_HOST_DEVICE int64_t attention_sequence_blocks(int64_t sequences) {
  return (sequences + attention_block_sequences(sequences) - 1) / attention_block_sequences(sequences);
}
// sums[key][column] = the sum of partials[block][key][column].
cudaError_t attention_sum_blocks(const float* partials, int64_t blocks, int64_t keys, int64_t columns, float* sums, int64_t sums_row_stride,
                                 cudaStream_t stream);

struct RotaryTurns {
  int64_t positions, first_position;
  int32_t pairs, inverse;
  float base;
  float* turns;  // [positions][pairs][{cosine, sine}]
};
cudaError_t rotary_turns(const RotaryTurns& rotary, cudaStream_t stream);

struct RotaryRows {
  int64_t rows, positions;
  int32_t heads, head_width, pairs, interleaved;
  const float* turns;
  float* x;
  int64_t x_row_stride;
};
cudaError_t rotary_rows(const RotaryRows& rotary, cudaStream_t stream);

struct SequenceMaximum {
  int64_t sequences, positions, width;
  const float* x;
  int64_t x_row_stride;
  const int32_t* counts;  // [sequences] or null
  float* y;
  int64_t y_row_stride;
  int32_t* places;  // [sequences, width] or null
  OffenderCell* offender;
  DeviceReport* report;
};
cudaError_t sequence_maximum(const SequenceMaximum& maximum, cudaStream_t stream);

struct SequenceMaximumGradient {
  int64_t sequences, positions, width;
  const int32_t* places;
  const float* dy;
  int64_t dy_row_stride;
  float* dx;
  int64_t dx_row_stride;
};
cudaError_t sequence_maximum_gradient(const SequenceMaximumGradient& gradient, cudaStream_t stream);

}  // namespace cudamoe::kernels
