// The functions of the ABI that keep hot rows of embedding tables in device memory.
#include "core/abi.h"
#include "core/embedding/caches.h"

using namespace cudamoe;

namespace {

void check_tables(Check& check, const cudamoe_embedding_cache_flush_args& args) {
  check.range("table_count", args.table_count, 1, kMaxEmbeddingItems);
  if (!check.ok()) return;
  check.pointer("tables", args.tables, alignof(cudamoe_embedding_table)).pointer("caches", args.caches, alignof(cudamoe_embedding_cache));
  check_embedding_tables(check, args.table_count, args.tables);
  if (check.ok()) check_cache_shapes(check, embedding_caches(args));
}

void check_prepare_shape(Check& check, const cudamoe_embedding_cache_prepare_args& args) {
  check_embedding_shape(check, embedding_shape(args));
  if (check.ok()) check.pointer("caches", args.caches, alignof(cudamoe_embedding_cache));
  if (check.ok()) check_cache_shapes(check, embedding_caches(args));
}

// Weights and states of the tables that have a cache.
void check_cached_tables(Check& check, const EmbeddingCaches& caches, const cudamoe_stream* stream) {
  for (int32_t t = 0; check.ok() && t < caches.table_count; ++t) {
    const cudamoe_embedding_table& table = caches.tables[t];
    if (caches.caches[t].rows > 0)
      check_indexed_pointer(check, "tables", t, "weights", table.weights, static_cast<size_t>(dtype_bytes(table.dtype)));
  }
  check_cached_states(check, caches);
  if (check.ok()) check_caches(check, caches, stream);
}

}  // namespace

extern "C" {

cudamoe_status cudamoe_embedding_cache_bytes(cudamoe_stream* stream, const cudamoe_embedding_cache_flush_args* args, int64_t* bytes) {
  return run_query("cudamoe_embedding_cache_bytes", stream, args, bytes, &Backend::embedding_cache_bytes,
                   [](Check& check, const cudamoe_embedding_cache_flush_args& a) {
                     check_tables(check, a);
                     check.require(a.table_count == 1, "table_count is %d; it must be 1: each cache has memory of its own", a.table_count);
                     if (!check.ok()) return;
                     check.require(a.caches[0].rows > 0, "caches[0].rows is 0; it must be a multiple of %d greater than 0",
                                   CUDAMOE_EMBEDDING_CACHE_WAYS);
                   });
}

cudamoe_status cudamoe_embedding_cache_flush(cudamoe_stream* stream, const cudamoe_embedding_cache_flush_args* args) {
  return run_operation("cudamoe_embedding_cache_flush", stream, args, &Backend::embedding_cache_flush,
                       [](Check& check, const cudamoe_embedding_cache_flush_args& a, cudamoe_stream* s) {
                         check_tables(check, a);
                         if (check.ok()) check_cached_tables(check, embedding_caches(a), s);
                       });
}

cudamoe_status cudamoe_embedding_cache_prepare_workspace(cudamoe_stream* stream, const cudamoe_embedding_cache_prepare_args* args,
                                                         int64_t* bytes) {
  return run_query("cudamoe_embedding_cache_prepare_workspace", stream, args, bytes, &Backend::embedding_cache_prepare_workspace,
                   check_prepare_shape);
}

cudamoe_status cudamoe_embedding_cache_prepare(cudamoe_stream* stream, const cudamoe_embedding_cache_prepare_args* args) {
  return run_operation("cudamoe_embedding_cache_prepare", stream, args, &Backend::embedding_cache_prepare,
                       [](Check& check, const cudamoe_embedding_cache_prepare_args& a, cudamoe_stream* s) {
                         check_prepare_shape(check, a);
                         if (check.ok()) check_embedding_lookups(check, embedding_shape(a), false);
                         const EmbeddingCaches caches = embedding_caches(a);
                         if (check.ok()) check_cached_tables(check, caches, s);
                         if (!check.ok()) return;
                         check.workspace(a.workspace, a.workspace_bytes, needed_bytes(s, &Backend::embedding_cache_prepare_workspace, a));
                         check_embedding_apart(check, embedding_shape(a), "workspace", a.workspace, a.workspace_bytes);
                         check_apart_from_caches(check, caches, "workspace", a.workspace, a.workspace_bytes);
                       });
}

}  // extern "C"
