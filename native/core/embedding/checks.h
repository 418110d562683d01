// The rules that the three embedding operations share: tables, features, bags and columns.
#pragma once

#include "core/check.h"

namespace cudamoe {

// The part of the arguments that all three have.
struct EmbeddingShape {
  int32_t table_count, feature_count;
  int64_t batch;
  const cudamoe_embedding_table* tables;
  const cudamoe_embedding_feature* features;
  int32_t bounds;
};

template <class Args>
EmbeddingShape embedding_shape(const Args& args) {
  return {args.table_count, args.feature_count, args.batch, args.tables, args.features, args.bounds};
}

// An element row is kept on a thread's stack while it is merged.
inline constexpr int32_t kMaxEmbeddingDim = 8192;
inline constexpr int64_t kMaxEmbeddingItems = 1 << 20;

// Columns that the output and its gradient need: the largest column + dim. The shape must have been checked.
int64_t embedding_width(const EmbeddingShape& shape);

// Rows, dimensions and strides.
void check_embedding_tables(Check& check, int32_t table_count, const cudamoe_embedding_table* tables);

// Counts, dimensions and columns: all that does not read a device pointer, so what a size query can check.
void check_embedding_shape(Check& check, const EmbeddingShape& shape);

// Pointers and the number of look-ups of each feature. The shape must have been checked.
void check_embedding_lookups(Check& check, const EmbeddingShape& shape, bool weights_needed);

// What an operation writes may not overlap tables, ids or offsets.
void check_embedding_apart(Check& check, const EmbeddingShape& shape, const char* field, const void* pointer, int64_t bytes);

// list[index].field must not be null and must be aligned.
void check_indexed_pointer(Check& check, const char* list, int32_t index, const char* field, const void* pointer, size_t alignment);

}  // namespace cudamoe
