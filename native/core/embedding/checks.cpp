#include "core/embedding/checks.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <vector>

namespace cudamoe {
namespace {

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();

// Of all features together: look-ups are counted in 32 bits.
constexpr int64_t kMaxLookups = std::numeric_limits<uint32_t>::max();

long long ll(int64_t value) { return static_cast<long long>(value); }

void check_table(Check& check, const cudamoe_embedding_table& table, int32_t t) {
  if (table.rows < 1 || table.rows > kMaxInt32)
    check.broken("tables[%d].rows is %lld; it must be at least 1 and at most %lld", t, ll(table.rows), ll(kMaxInt32));
  if (table.dim < 1 || table.dim > kMaxEmbeddingDim)
    check.broken("tables[%d].dim is %d; it must be at least 1 and at most %d", t, table.dim, kMaxEmbeddingDim);
  if (table.dtype != CUDAMOE_F32 && table.dtype != CUDAMOE_BF16)
    check.broken("tables[%d].dtype is %d; it must be 0 (f32) or 1 (bf16)", t, table.dtype);
  if (table.row_stride < table.dim || table.row_stride > kMaxCount)
    check.broken("tables[%d].row_stride is %lld; it must be at least dim, %d, and at most %lld", t, ll(table.row_stride), table.dim,
                 ll(kMaxCount));
  if (check.ok() && checked_product(table.rows, table.row_stride) == kOverflow)
    check.broken("tables[%d].row_stride is %lld; %lld rows of it exceed the address space", t, ll(table.row_stride), ll(table.rows));
}

// Two features may not write the same output column.
void check_columns(Check& check, const EmbeddingShape& shape) {
  if (!check.ok()) return;
  const auto column = [&](int32_t f) { return shape.features[f].column; };
  const auto end_of = [&](int32_t f) { return column(f) + shape.tables[shape.features[f].table].dim; };
  // The usual order needs no sorting, and no memory.
  bool ascending = true;
  for (int32_t f = 1; f < shape.feature_count; ++f) ascending = ascending && end_of(f - 1) <= column(f);
  if (ascending) return;
  std::vector<int32_t> order(static_cast<size_t>(shape.feature_count));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return column(a) < column(b); });
  for (size_t i = 1; i < order.size(); ++i) {
    const int32_t a = order[i - 1], b = order[i];
    if (end_of(a) > column(b))
      check.broken("features[%d].column is %lld; it lies within the columns %lld .. %lld of features[%d]", b, ll(column(b)), ll(column(a)),
                   ll(end_of(a) - 1), a);
  }
}

// The update packs (feature of the table, bag) into 32 bits.
void check_slots(Check& check, const EmbeddingShape& shape) {
  if (!check.ok() || shape.batch <= (int64_t{1} << 31) / shape.feature_count / 2) return;
  std::vector<int32_t> sharing(static_cast<size_t>(shape.table_count), 0);
  for (int32_t f = 0; f < shape.feature_count; ++f) ++sharing[static_cast<size_t>(shape.features[f].table)];
  for (int32_t t = 0; t < shape.table_count; ++t) {
    const int32_t features = sharing[static_cast<size_t>(t)];
    const auto bits =
        std::bit_width(static_cast<uint64_t>(shape.batch)) + (features > 1 ? std::bit_width(static_cast<uint64_t>(features - 1)) : 0);
    if (bits > 32)
      check.broken(
          "batch is %lld; %d features share tables[%d], and batch times their number, each rounded up to a power of two, must be "
          "at most 2^32",
          ll(shape.batch), features, t);
  }
}

}  // namespace

int64_t embedding_width(const EmbeddingShape& shape) {
  int64_t width = 0;
  for (int32_t f = 0; f < shape.feature_count; ++f)
    width = std::max(width, shape.features[f].column + shape.tables[shape.features[f].table].dim);
  return width;
}

void check_embedding_tables(Check& check, int32_t table_count, const cudamoe_embedding_table* tables) {
  for (int32_t t = 0; check.ok() && t < table_count; ++t) check_table(check, tables[t], t);
}

void check_embedding_shape(Check& check, const EmbeddingShape& shape) {
  check.range("table_count", shape.table_count, 1, kMaxEmbeddingItems).range("feature_count", shape.feature_count, 1, kMaxEmbeddingItems);
  check.range("batch", shape.batch, 0, kMaxInt32).range("bounds", shape.bounds, CUDAMOE_BOUNDS_REPORT, CUDAMOE_BOUNDS_CLAMP);
  if (shape.tables == nullptr) check.broken("tables is null; it must point to %d tables on the host", shape.table_count);
  if (shape.features == nullptr) check.broken("features is null; it must point to %d features on the host", shape.feature_count);
  check.optional("tables", shape.tables, alignof(cudamoe_embedding_table));
  check.optional("features", shape.features, alignof(cudamoe_embedding_feature));
  check_embedding_tables(check, shape.table_count, shape.tables);
  for (int32_t f = 0; check.ok() && f < shape.feature_count; ++f) {
    const cudamoe_embedding_feature& feature = shape.features[f];
    if (feature.table < 0 || feature.table >= shape.table_count)
      check.broken("features[%d].table is %d; it must be at least 0 and at most %d", f, feature.table, shape.table_count - 1);
    if (feature.pooling != CUDAMOE_POOLING_SUM && feature.pooling != CUDAMOE_POOLING_MEAN)
      check.broken("features[%d].pooling is %d; it must be 0 (sum) or 1 (mean)", f, feature.pooling);
    if (feature.reserved != 0) check.broken("features[%d].reserved is %d; it must be 0", f, feature.reserved);
    if (feature.column < 0 || feature.column > kMaxCount)
      check.broken("features[%d].column is %lld; it must be at least 0 and at most %lld", f, ll(feature.column), ll(kMaxCount));
    if (feature.lookups < 0 || feature.lookups > kMaxInt32)
      check.broken("features[%d].lookups is %lld; it must be at least 0 and at most %lld", f, ll(feature.lookups), ll(kMaxInt32));
  }
  int64_t lookups = 0;
  for (int32_t f = 0; check.ok() && f < shape.feature_count; ++f) lookups += shape.features[f].lookups;
  if (lookups > kMaxLookups)
    check.broken("the features have %lld look-ups together; they may have at most %lld", ll(lookups), ll(kMaxLookups));
  check_columns(check, shape);
  check_slots(check, shape);
}

void check_embedding_lookups(Check& check, const EmbeddingShape& shape, bool weights_needed) {
  for (int32_t t = 0; check.ok() && weights_needed && t < shape.table_count; ++t) {
    check_indexed_pointer(check, "tables", t, "weights", shape.tables[t].weights, static_cast<size_t>(dtype_bytes(shape.tables[t].dtype)));
  }
  for (int32_t f = 0; check.ok() && f < shape.feature_count; ++f) {
    const cudamoe_embedding_feature& feature = shape.features[f];
    if (feature.offsets == nullptr) {
      if (feature.bag_size < 1)
        check.broken("features[%d].bag_size is %d; it must be at least 1 when offsets is null", f, feature.bag_size);
      if (feature.lookups != shape.batch * feature.bag_size)
        check.broken("features[%d].lookups is %lld; without offsets it must be batch * bag_size, %lld", f, ll(feature.lookups),
                     ll(shape.batch * feature.bag_size));
    } else {
      check_indexed_pointer(check, "features", f, "offsets", feature.offsets, 4);
    }
    if (feature.lookups > 0) check_indexed_pointer(check, "features", f, "ids", feature.ids, 4);
  }
}

void check_embedding_apart(Check& check, const EmbeddingShape& shape, const char* field, const void* pointer, int64_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(pointer), end = begin + static_cast<uintptr_t>(bytes);
  const auto overlaps = [&](const void* other, int64_t other_bytes) {
    const auto other_begin = reinterpret_cast<uintptr_t>(other);
    return bytes > 0 && other_bytes > 0 && other != nullptr && other_begin < end &&
           begin < other_begin + static_cast<uintptr_t>(other_bytes);
  };
  for (int32_t t = 0; t < shape.table_count; ++t) {
    const cudamoe_embedding_table& table = shape.tables[t];
    if (overlaps(table.weights, span_bytes(table.rows, table.dim, table.row_stride, dtype_bytes(table.dtype))))
      check.broken("%s overlaps tables[%d].weights; they must be apart", field, t);
  }
  for (int32_t f = 0; f < shape.feature_count; ++f) {
    const cudamoe_embedding_feature& feature = shape.features[f];
    if (overlaps(feature.ids, 4 * feature.lookups)) check.broken("%s overlaps features[%d].ids; they must be apart", field, f);
    if (overlaps(feature.offsets, 4 * (shape.batch + 1))) check.broken("%s overlaps features[%d].offsets; they must be apart", field, f);
  }
}

void check_indexed_pointer(Check& check, const char* list, int32_t index, const char* field, const void* pointer, size_t alignment) {
  if (pointer == nullptr) check.broken("%s[%d].%s is null; it must point to device memory", list, index, field);
  if (reinterpret_cast<uintptr_t>(pointer) % alignment != 0)
    check.broken("%s[%d].%s is 0x%llx; it must be aligned to %zu bytes", list, index, field, address(pointer), alignment);
}

}  // namespace cudamoe
