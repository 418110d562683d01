// The optimisers of embedding rows.
#pragma once

#include <cstdint>

#include "cudamoe.h"

namespace cudamoe::cpu {

// Rows that are merged and then updated together, and the floats that their merged gradients may take.
inline constexpr int kGroupRows = 16;
inline constexpr int64_t kGroupFloats = 8192;

// The numbers of an update that are the same for all rows.
struct UpdateStep {
  int32_t optimizer;
  float learning_rate, epsilon, beta1, beta2;
  float decay;  // 1 - learning_rate * weight_decay
  float gradient_scale;
  float correction1, correction2;  // 1 / (1 - beta^step)
  uint32_t key0, key1;             // of the random bits that round bf16 weights
  uint32_t step;                   // their lower 32 bits
};

// `count` <= kGroupRows rows of one table with their merged gradients, gradient_stride floats apart. The gradients are overwritten.
struct UpdateGroup {
  const cudamoe_embedding_table* table;
  uint32_t table_index;
  int count;
  const int64_t* rows;
  float* gradients;
  int64_t gradient_stride;
};

using UpdateRows = void (*)(const UpdateStep& step, const UpdateGroup& group);

// The function for an optimiser and a table, at the instruction-set level in use.
UpdateRows update_rows_for(int32_t optimizer, const cudamoe_embedding_table& table);

}  // namespace cudamoe::cpu
