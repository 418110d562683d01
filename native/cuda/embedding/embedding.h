// The entries of the embedding family, and what both directions make of the caller's features.
#pragma once

#include "core/backend.h"
#include "cuda/device.h"
#include "embedding/embedding.h"

namespace cudamoe::cuda {

cudamoe_status embedding_forward(void* stream, const cudamoe_embedding_forward_args& args);
cudamoe_status embedding_update(void* stream, const cudamoe_embedding_update_args& args);
int64_t embedding_update_workspace(void* stream, const cudamoe_embedding_update_args& args);
cudamoe_status embedding_gradient(void* stream, const cudamoe_embedding_gradient_args& args);
int64_t embedding_gradient_workspace(void* stream, const cudamoe_embedding_gradient_args& args);
int64_t embedding_cache_bytes(void* stream, const cudamoe_embedding_cache_flush_args& args);
cudamoe_status embedding_cache_prepare(void* stream, const cudamoe_embedding_cache_prepare_args& args);
int64_t embedding_cache_prepare_workspace(void* stream, const cudamoe_embedding_cache_prepare_args& args);
cudamoe_status embedding_cache_flush(void* stream, const cudamoe_embedding_cache_flush_args& args);

inline kernels::EmbeddingBags embedding_bags(const cudamoe_embedding_feature& feature, const cudamoe_embedding_table& table,
                                             int32_t index) {
  return {feature.ids, feature.offsets, static_cast<int32_t>(feature.lookups),          feature.bag_size, static_cast<int32_t>(table.rows),
          index,       feature.table,   feature.pooling == CUDAMOE_POOLING_MEAN ? 1 : 0};
}

// Lanes that take a row of `elements`, `each` at a time: a power of two, a warp at most.
inline int32_t embedding_lanes(int64_t elements, int64_t each) {
  int32_t lanes = 1;
  while (lanes < 32 && lanes * each < elements) lanes *= 2;
  return lanes;
}

}  // namespace cudamoe::cuda
