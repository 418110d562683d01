#include "core/embedding/caches.h"

#include <algorithm>
#include <vector>

namespace cudamoe {
namespace {

long long ll(int64_t value) { return static_cast<long long>(value); }

struct Span {
  uintptr_t begin, end;
  int32_t table;
  bool cache;
};

Span span_of(const void* pointer, int64_t bytes, int32_t table, bool cache) {
  const auto begin = reinterpret_cast<uintptr_t>(pointer);
  return {begin, begin + static_cast<uintptr_t>(bytes), table, cache};
}

// Caches among themselves, and from the weights of every table.
void check_apart(Check& check, const EmbeddingCaches& caches) {
  std::vector<Span> spans;
  spans.reserve(2 * static_cast<size_t>(caches.table_count));
  for (int32_t t = 0; t < caches.table_count; ++t) {
    const cudamoe_embedding_table& table = caches.tables[t];
    const int64_t bytes = span_bytes(table.rows, table.dim, table.row_stride, dtype_bytes(table.dtype));
    if (table.weights != nullptr) spans.push_back(span_of(table.weights, bytes, t, false));
    if (caches.caches[t].rows > 0) spans.push_back(span_of(caches.caches[t].memory, caches.caches[t].bytes, t, true));
  }
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.begin < b.begin; });
  // Weights may lie within each other, in the rows of one wide matrix; so the furthest end of each kind is kept.
  const Span *last_cache = nullptr, *last_weights = nullptr;
  for (const Span& span : spans) {
    for (const Span* before : {last_cache, last_weights}) {
      if (before == nullptr || before->end <= span.begin || (!before->cache && !span.cache)) continue;
      const Span& cache = span.cache ? span : *before;
      const Span& other = span.cache ? *before : span;
      check.broken("caches[%d].memory overlaps %s[%d].%s; they must be apart", cache.table, other.cache ? "caches" : "tables", other.table,
                   other.cache ? "memory" : "weights");
    }
    const Span*& last = span.cache ? last_cache : last_weights;
    if (last == nullptr || span.end > last->end) last = &span;
  }
}

}  // namespace

void check_cache_shapes(Check& check, const EmbeddingCaches& caches) {
  check.optional("caches", caches.caches, alignof(cudamoe_embedding_cache));
  if (caches.caches == nullptr) return;
  for (int32_t t = 0; check.ok() && t < caches.table_count; ++t) {
    const cudamoe_embedding_cache& cache = caches.caches[t];
    if (cache.reserved != 0) check.broken("caches[%d].reserved is %d; it must be 0", t, cache.reserved);
    if (cache.rows == 0) continue;
    constexpr int64_t kWays = CUDAMOE_EMBEDDING_CACHE_WAYS, kEnd = int64_t{1} << 31;
    if (cache.rows < 0 || cache.rows % kWays != 0)
      check.broken("caches[%d].rows is %lld; it must be 0 or a multiple of %d", t, ll(cache.rows), CUDAMOE_EMBEDDING_CACHE_WAYS);
    else if (cache.rows / kWays >= kEnd - caches.tables[t].rows)
      check.broken("caches[%d].rows is %lld; an eighth of it and the %lld rows of tables[%d] must be less than 2^31 together", t,
                   ll(cache.rows), ll(caches.tables[t].rows), t);
    const int32_t optimizer = cache.optimizer;
    if (optimizer != CUDAMOE_OPTIMIZER_SGD && optimizer != CUDAMOE_OPTIMIZER_ADAGRAD && optimizer != CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD &&
        optimizer != CUDAMOE_OPTIMIZER_ROWWISE_ADAM)
      check.broken("caches[%d].optimizer is %d; an embedding takes 0 (SGD), 1 (AdaGrad), 2 (row-wise AdaGrad) or 4 (row-wise Adam)", t,
                   optimizer);
  }
}

void check_caches(Check& check, const EmbeddingCaches& caches, const cudamoe_stream* stream) {
  if (check.ok()) check_cache_shapes(check, caches);
  if (caches.caches == nullptr) return;
  for (int32_t t = 0; check.ok() && t < caches.table_count; ++t) {
    const cudamoe_embedding_cache& cache = caches.caches[t];
    if (cache.rows == 0) continue;
    check_indexed_pointer(check, "caches", t, "memory", cache.memory, 64);
    const cudamoe_embedding_cache_flush_args one{sizeof one, 1, caches.tables + t, caches.caches + t};
    const int64_t needed = needed_bytes(stream, &Backend::embedding_cache_bytes, one);
    if (cache.bytes < needed)
      check.broken("caches[%d].bytes is %lld; cudamoe_embedding_cache_bytes says %lld", t, ll(cache.bytes), ll(needed));
  }
  if (check.ok()) check_apart(check, caches);
}

void check_cached_states(Check& check, const EmbeddingCaches& caches) {
  for (int32_t t = 0; check.ok() && caches.caches != nullptr && t < caches.table_count; ++t) {
    const cudamoe_embedding_cache& cache = caches.caches[t];
    if (cache.rows == 0) continue;
    if (cache.optimizer != CUDAMOE_OPTIMIZER_SGD) check_indexed_pointer(check, "tables", t, "state1", caches.tables[t].state1, 4);
    if (cache.optimizer == CUDAMOE_OPTIMIZER_ROWWISE_ADAM) check_indexed_pointer(check, "tables", t, "state2", caches.tables[t].state2, 4);
  }
}

void check_apart_from_caches(Check& check, const EmbeddingCaches& caches, const char* field, const void* pointer, int64_t bytes) {
  for (int32_t t = 0; check.ok() && caches.caches != nullptr && t < caches.table_count; ++t) {
    const cudamoe_embedding_cache& cache = caches.caches[t];
    if (cache.rows == 0 || pointer == nullptr || bytes <= 0) continue;
    const Span a = span_of(cache.memory, cache.bytes, t, true), b = span_of(pointer, bytes, t, false);
    if (a.begin < b.end && b.begin < a.end) check.broken("%s overlaps caches[%d].memory; they must be apart", field, t);
  }
}

}  // namespace cudamoe
