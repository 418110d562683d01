// The entries of the embedding family.
#pragma once

#include "core/check.h"
#include "cpu/device.h"

namespace cudamoe::cpu {

cudamoe_status embedding_forward(void* stream, const cudamoe_embedding_forward_args& args);
cudamoe_status embedding_update(void* stream, const cudamoe_embedding_update_args& args);
int64_t embedding_update_workspace(void* stream, const cudamoe_embedding_update_args& args);
cudamoe_status embedding_gradient(void* stream, const cudamoe_embedding_gradient_args& args);
int64_t embedding_gradient_workspace(void* stream, const cudamoe_embedding_gradient_args& args);

// Nothing is nearer to a processor than the table itself, so a cache has its counters, which stay 0, and no rows.
inline int64_t embedding_cache_bytes(void*, const cudamoe_embedding_cache_flush_args&) { return sizeof(cudamoe_embedding_cache_counters); }
inline cudamoe_status embedding_cache_prepare(void*, const cudamoe_embedding_cache_prepare_args&) { return CUDAMOE_OK; }
inline int64_t embedding_cache_prepare_workspace(void*, const cudamoe_embedding_cache_prepare_args&) { return 0; }
inline cudamoe_status embedding_cache_flush(void*, const cudamoe_embedding_cache_flush_args&) { return CUDAMOE_OK; }

}  // namespace cudamoe::cpu
