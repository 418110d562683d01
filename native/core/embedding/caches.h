// The rules of caches of embedding tables.
#pragma once

#include "core/abi.h"
#include "core/embedding/checks.h"

namespace cudamoe {

// Tables and what each has of a cache; caches may be null.
struct EmbeddingCaches {
  int32_t table_count;
  const cudamoe_embedding_table* tables;
  const cudamoe_embedding_cache* caches;
};

template <class Args>
EmbeddingCaches embedding_caches(const Args& args) {
  return {args.table_count, args.tables, args.caches};
}

// Rows and optimisers: what a size query can check. The tables must have been checked.
void check_cache_shapes(Check& check, const EmbeddingCaches& caches);

// And memory: aligned, large enough for the stream's backend, apart from the tables' and from other caches.
void check_caches(Check& check, const EmbeddingCaches& caches, const cudamoe_stream* stream);

// The states that the caches hold as well are those of the tables.
void check_cached_states(Check& check, const EmbeddingCaches& caches);

// What an operation reads or writes may not overlap the memory of a cache.
void check_apart_from_caches(Check& check, const EmbeddingCaches& caches, const char* field, const void* pointer, int64_t bytes);

}  // namespace cudamoe
