#include "core/embedding/checks.h"

#include <algorithm>
#include <bit>
#include <vector>

namespace cudamoe {
namespace {

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();

// Of all features together: look-ups are counted in 32 bits.
constexpr int64_t kMaxLookups = std::numeric_limits<uint32_t>::max();

long long ll(int64_t value) { return static_cast<long long>(value); }

void check_table(Check& check, const cudamoe_embedding_table& table, int32_t t) {
  check.require(table.rows >= 1 && table.rows <= kMaxInt32, "tables[%d].rows is %lld; it must be at least 1 and at most %lld", t,
                ll(table.rows), ll(kMaxInt32));
  check.require(table.dim >= 1 && table.dim <= kMaxEmbeddingDim, "tables[%d].dim is %d; it must be at least 1 and at most %d", t, table.dim,
                kMaxEmbeddingDim);
  check.require(table.dtype == CUDAMOE_F32 || table.dtype == CUDAMOE_BF16, "tables[%d].dtype is %d; it must be 0 (f32) or 1 (bf16)", t,
                table.dtype);
  check.require(table.row_stride >= table.dim && table.row_stride <= kMaxCount,
                "tables[%d].row_stride is %lld; it must be at least dim, %d, and at most %lld", t, ll(table.row_stride), table.dim,
                ll(kMaxCount));
  check.require(!check.ok() || checked_product(table.rows, table.row_stride) != kOverflow,
                "tables[%d].row_stride is %lld; %lld rows of it exceed the address space", t, ll(table.row_stride), ll(table.rows));
}

// Two features may not write the same output column.
void check_columns(Check& check, const EmbeddingShape& shape) {
  if (!check.ok()) return;
  std::vector<int32_t> order(static_cast<size_t>(shape.feature_count));
  for (int32_t f = 0; f < shape.feature_count; ++f) order[static_cast<size_t>(f)] = f;
  const auto column = [&](int32_t f) { return shape.features[f].column; };
  if (!std::is_sorted(order.begin(), order.end(), [&](int32_t a, int32_t b) { return column(a) < column(b); })) {
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return column(a) < column(b); });
  }
  for (size_t i = 1; i < order.size(); ++i) {
    const int32_t a = order[i - 1], b = order[i];
    const int64_t end = column(a) + shape.tables[shape.features[a].table].dim;
    check.require(end <= column(b), "features[%d].column is %lld; it lies within the columns %lld .. %lld of features[%d]", b,
                  ll(column(b)), ll(column(a)), ll(end - 1), a);
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
    check.require(bits <= 32,
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

void check_embedding_shape(Check& check, const EmbeddingShape& shape) {
  check.range("table_count", shape.table_count, 1, kMaxEmbeddingItems).range("feature_count", shape.feature_count, 1, kMaxEmbeddingItems);
  check.range("batch", shape.batch, 0, kMaxInt32).range("bounds", shape.bounds, CUDAMOE_BOUNDS_REPORT, CUDAMOE_BOUNDS_CLAMP);
  check.require(shape.tables != nullptr, "tables is null; it must point to %d tables on the host", shape.table_count);
  check.require(shape.features != nullptr, "features is null; it must point to %d features on the host", shape.feature_count);
  check.optional("tables", shape.tables, alignof(cudamoe_embedding_table));
  check.optional("features", shape.features, alignof(cudamoe_embedding_feature));
  for (int32_t t = 0; check.ok() && t < shape.table_count; ++t) check_table(check, shape.tables[t], t);
  for (int32_t f = 0; check.ok() && f < shape.feature_count; ++f) {
    const cudamoe_embedding_feature& feature = shape.features[f];
    check.require(feature.table >= 0 && feature.table < shape.table_count, "features[%d].table is %d; it must be at least 0 and at most %d",
                  f, feature.table, shape.table_count - 1);
    check.require(feature.pooling == CUDAMOE_POOLING_SUM || feature.pooling == CUDAMOE_POOLING_MEAN,
                  "features[%d].pooling is %d; it must be 0 (sum) or 1 (mean)", f, feature.pooling);
    check.require(feature.reserved == 0, "features[%d].reserved is %d; it must be 0", f, feature.reserved);
    check.require(feature.column >= 0 && feature.column <= kMaxCount, "features[%d].column is %lld; it must be at least 0 and at most %lld",
                  f, ll(feature.column), ll(kMaxCount));
    check.require(feature.lookups >= 0 && feature.lookups <= kMaxInt32,
                  "features[%d].lookups is %lld; it must be at least 0 and at most %lld", f, ll(feature.lookups), ll(kMaxInt32));
  }
  int64_t lookups = 0;
  for (int32_t f = 0; check.ok() && f < shape.feature_count; ++f) lookups += shape.features[f].lookups;
  check.require(lookups <= kMaxLookups, "the features have %lld look-ups together; they may have at most %lld", ll(lookups),
                ll(kMaxLookups));
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
      check.require(feature.bag_size >= 1, "features[%d].bag_size is %d; it must be at least 1 when offsets is null", f, feature.bag_size);
      check.require(feature.lookups == shape.batch * feature.bag_size,
                    "features[%d].lookups is %lld; without offsets it must be batch * bag_size, %lld", f, ll(feature.lookups),
                    ll(shape.batch * feature.bag_size));
    } else {
      check_indexed_pointer(check, "features", f, "offsets", feature.offsets, 4);
    }
    if (feature.lookups > 0) check_indexed_pointer(check, "features", f, "ids", feature.ids, 4);
  }
}

void check_embedding_apart(Check& check, const EmbeddingShape& shape, const char* field, const void* pointer, int64_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(pointer), end = begin + static_cast<uintptr_t>(bytes);
  const auto apart = [&](const void* other, int64_t other_bytes) {
    const auto other_begin = reinterpret_cast<uintptr_t>(other);
    return bytes <= 0 || other_bytes <= 0 || other == nullptr || other_begin >= end ||
           other_begin + static_cast<uintptr_t>(other_bytes) <= begin;
  };
  for (int32_t t = 0; t < shape.table_count; ++t) {
    const cudamoe_embedding_table& table = shape.tables[t];
    check.require(apart(table.weights, span_bytes(table.rows, table.dim, table.row_stride, dtype_bytes(table.dtype))),
                  "%s overlaps tables[%d].weights; they must be apart", field, t);
  }
  for (int32_t f = 0; f < shape.feature_count; ++f) {
    const cudamoe_embedding_feature& feature = shape.features[f];
    check.require(apart(feature.ids, 4 * feature.lookups), "%s overlaps features[%d].ids; they must be apart", field, f);
    check.require(apart(feature.offsets, 4 * (shape.batch + 1)), "%s overlaps features[%d].offsets; they must be apart", field, f);
  }
}

void check_indexed_pointer(Check& check, const char* list, int32_t index, const char* field, const void* pointer, size_t alignment) {
  check.require(pointer != nullptr, "%s[%d].%s is null; it must point to device memory", list, index, field);
  check.require(reinterpret_cast<uintptr_t>(pointer) % alignment == 0, "%s[%d].%s is %p; it must be aligned to %zu bytes", list, index,
                field, pointer, alignment);
}

}  // namespace cudamoe
