#include "cuda/embedding/embedding.h"

namespace cudamoe::cuda {

void register_embedding(Backend& table) {
  table.embedding_forward = embedding_forward;
  table.embedding_update = embedding_update;
  table.embedding_update_workspace = embedding_update_workspace;
  table.embedding_gradient = embedding_gradient;
  table.embedding_gradient_workspace = embedding_gradient_workspace;
  table.embedding_cache_bytes = embedding_cache_bytes;
  table.embedding_cache_prepare = embedding_cache_prepare;
  table.embedding_cache_prepare_workspace = embedding_cache_prepare_workspace;
  table.embedding_cache_flush = embedding_cache_flush;
}

}  // namespace cudamoe::cuda
