// The kernels of the embedding family, as the host launches them.
//
// Forward: embedding_check_offsets, embedding_gather, embedding_report for each list of features that fits a kernel's parameters.
// Backward: the host lays the plan (features and tables) out in the work space with embedding_upload; then embedding_check_offsets, for
// each digit embedding_count_ids or _keys, embedding_scan and embedding_scatter_ids or _keys, embedding_update (or embedding_rank_rows
// and embedding_gradient), embedding_report.
// Cache: embedding_cache_ids for each list of features, the sort of the backward on what it wrote, embedding_cache_place for each list of
// tables; forward and update find cached rows themselves.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/report.cuh"
#include "common/step_numbers.cuh"
#include "common/target.cuh"

namespace cudamoe::kernels {

inline constexpr int kEmbeddingThreads = 256;

// What an operation found wrong in ids and offsets. All zero: nothing.
struct EmbeddingFindings {
  uint64_t first_id;  // complement of (feature << 32 | position) of the first bad id
  uint64_t bad_ids;
  DeviceReport ids, offsets;  // details of the first of each
};

// The bags of a feature.
struct EmbeddingBags {
  const int32_t* ids;
  const int32_t* offsets;  // null: bag_size ids a bag
  int32_t lookups, bag_size;
  int32_t rows;          // of the table
  int32_t index, table;  // in the caller's lists
  int32_t mean;
};

// What is the same for all features of an operation.
struct EmbeddingBatch {
  int64_t batch;
  int32_t clamp;
  EmbeddingFindings* findings;
  uint32_t* bad_offset;  // of each feature: 0, or the complement of the first bag whose offset is bad: the feature is left out
};

// ---- a cache of hot rows ----

inline constexpr int kCacheWays = 8;

// The elements of a cached row, a multiple of 16 bytes apart.
CUDAMOE_HOST_DEVICE constexpr int64_t cache_row_stride(int64_t dim) { return (dim + 7) / 8 * 8; }

// A cache as updates see it. All zero: there is none.
struct RowCache {
  uint32_t* tags;  // [sets, kCacheWays] the row + 1; 0: empty
  uint8_t* dirty;  // of each place: whether the row has been updated since it came
  void* weights;   // [places, row_stride]
  float* state1;   // as weights, or one a place
  float* state2;   // one a place
  int64_t row_stride;
  int32_t sets;
};

// ---- forward ----

struct GatherFeature {
  EmbeddingBags bags;
  const void* weights;
  int64_t row_stride;
  int64_t column;
  const uint32_t* tags;  // of the table's cache; sets is 0 where there is none
  const void* cached_weights;
  int32_t sets;
  int32_t dim;
  int32_t lanes;  // of a bag, a power of two
  uint8_t bf16;
  uint8_t whole_rows, whole_output;  // rows, output rows can be read, written by whole vectors
  uint8_t plain;                     // both, to the row's end, bags are sums, and there is no cache
};

// Features of one launch. They travel as a kernel parameter, so a launch reads no table from memory and can be captured in a graph.
inline constexpr int kGatherFeatures = 40;

struct GatherTable {
  GatherFeature feature[kGatherFeatures];
  int32_t first_block[kGatherFeatures + 1];  // of each feature, and their number behind the last
  int32_t features;
  int32_t bags_per_group;  // a group: the lanes of a bag
};

// bad_offset[f] for the features of the table that have offsets.
cudaError_t embedding_check_offsets(const GatherTable& table, const EmbeddingBatch& batch, cudaStream_t stream);
// The output is bf16 or f32. `cached`: some table has a cache.
cudaError_t embedding_gather(const GatherTable& table, const EmbeddingBatch& batch, void* output, int64_t output_row_stride, bool bf16,
                             bool cached, cudaStream_t stream);

// The function that reports name.
enum class EmbeddingFunction : int32_t { kForward, kUpdate, kGradient };

// Takes down the details of what was found in these features; with `last` notes it in the report and clears the findings.
cudaError_t embedding_report(const GatherTable& table, const EmbeddingBatch& batch, EmbeddingFunction function, bool last,
                             DeviceReport* report, cudaStream_t stream);

// ---- backward: the plan ----

// The features of a plan stand in the order of their tables. The look-ups of each follow those of the one before it.
struct KeyFeature {
  EmbeddingBags bags;
  int64_t column;
  uint32_t first_lookup;  // in its table
  uint32_t first_slot;    // feature of the table << bag_bits
};

// A table and its look-ups, which are sorted and merged apart from those of other tables, in tiles of their own.
struct PlanTable {
  void* weights;
  float* state1;
  float* state2;
  int64_t row_stride;
  int64_t first_lookup;     // of the operation: where its keys, and its part of a merged gradient, begin
  int64_t lookups;          // and so keys
  int32_t first_sort_tile;  // of the operation
  int32_t first_merge_tile;
  int32_t first_feature, feature_count;
  uint32_t rows;
  int32_t dim;
  int32_t bf16;
  int32_t mean;            // whether a feature's bags are averaged
  int32_t whole_rows;      // rows of weights and of an element-wise state can be read by whole vectors of four
  int32_t whole_gradient;  // and so can those of the gradient
  int32_t lane_bits;       // 2^lane_bits lanes take a row
};

// In device memory but for the struct itself.
struct EmbeddingPlan {
  const PlanTable* tables;
  const KeyFeature* features;
  int32_t table_count, feature_count;
  const RowCache* caches;  // of each table; null: none has one
};

// `bytes` bytes, a multiple of 4, to device memory, as kernel parameters.
cudaError_t embedding_upload(void* destination, const void* source, int64_t bytes, cudaStream_t stream);
cudaError_t embedding_check_offsets(const EmbeddingPlan& plan, const EmbeddingBatch& batch, cudaStream_t stream);
cudaError_t embedding_report(const EmbeddingPlan& plan, const EmbeddingBatch& batch, EmbeddingFunction function, DeviceReport* report,
                             cudaStream_t stream);

// ---- backward: sort ----

inline constexpr int kMaxDigitBits = 9;
inline constexpr int kSortThreads = 512;

// Keys of a block. Few keys are spread over more blocks.
inline int embedding_sort_tile(int64_t keys) {
  const int items = keys < (int64_t{1} << 20) ? 2 : keys < (int64_t{1} << 21) ? 4 : 8;
  return items * kSortThreads;
}

struct SortPass {
  int32_t tiles, tile;  // their number, the keys of one
  int32_t shift, digit_bits;
  uint32_t* counts;  // for each table [1 << digit_bits, its tiles], from first_sort_tile << digit_bits on
  uint32_t* totals;  // [tables, 1 << digit_bits]
};

// The counts of the first digit, from the ids. Notes bad ids.
cudaError_t embedding_count_ids(const EmbeddingPlan& plan, const EmbeddingBatch& batch, const SortPass& pass, cudaStream_t stream);
// The counts of a later digit.
cudaError_t embedding_count_keys(const EmbeddingPlan& plan, const SortPass& pass, const uint64_t* keys, cudaStream_t stream);
// Counts become the number of keys of the digit in the table's tiles before, totals those of all its tiles.
cudaError_t embedding_scan(const EmbeddingPlan& plan, const SortPass& pass, cudaStream_t stream);
// key = row << 32 | slot of each look-up to its place by the first digit, stable.
cudaError_t embedding_scatter_ids(const EmbeddingPlan& plan, const EmbeddingBatch& batch, const SortPass& pass, uint64_t* to,
                                  cudaStream_t stream);
// Keys to their places by a later digit, stable.
cudaError_t embedding_scatter_keys(const EmbeddingPlan& plan, const SortPass& pass, const uint64_t* from, uint64_t* to,
                                   cudaStream_t stream);

// ---- backward: merge ----

inline constexpr int kMaxMergeTile = 512;

// Keys of a block. Few keys are spread over more blocks.
inline int embedding_merge_tile(int64_t keys) {
  int tile = 64;
  while (tile < kMaxMergeTile && keys > 1024 * int64_t{tile}) tile *= 2;
  return tile;
}

struct MergePlan {
  EmbeddingPlan plan;
  int32_t bag_bits;
  int32_t tiles, tile;   // their number, the keys of one
  int32_t lane_bits;     // the most of a table
  bool plain;            // bags are sums, and rows of all tables and of the gradient can be read by whole vectors to their ends
  const uint64_t* keys;  // sorted
  const float* gradient;
  int64_t gradient_row_stride;
  float* partials;         // [tiles, 2, partial_stride]: the sums of rows that go on from the tile before, or into the next
  int64_t partial_stride;  // at least the largest dim, a multiple of 4
};

enum class EmbeddingRule : int32_t { kSgd, kAdaGrad, kRowWiseAdaGrad, kRowWiseAdam };

struct UpdateNumbers {
  float epsilon, beta1, beta2, weight_decay, gradient_scale;
  uint64_t seed;       // of the random bits that round bf16 weights
  const double* norm;  // or null: where it is not finite nothing changes
  CurrentStep current;
};

// Merges the gradients of each row and updates it.
cudaError_t embedding_update(const MergePlan& plan, EmbeddingRule rule, const UpdateNumbers& numbers, cudaStream_t stream);

struct GradientOutput {
  int32_t* unique_rows;
  float* values;
  int64_t values_row_stride;
  int32_t whole_values;  // rows of values can be written by whole vectors of four
  int64_t* counts;
  uint32_t* tile_ranks;  // [tiles + 1] rows that begin before the tile
};

// tile_ranks and counts, also where there are no look-ups; then unique_rows and values.
cudaError_t embedding_rank_rows(const MergePlan& plan, const GradientOutput& output, cudaStream_t stream);
cudaError_t embedding_gradient(const MergePlan& plan, const GradientOutput& output, cudaStream_t stream);

// ---- the cache ----

// cudamoe_embedding_cache_counters.
struct CacheCounters {
  uint64_t batches, hits, misses, bypasses, evictions, bytes_in, bytes_out, reserved;
};

// A feature whose ids become keys of the sort: those of a set side by side.
struct CacheFeature {
  EmbeddingBags bags;
  int32_t* to;  // [lookups]
  int32_t sets, rows_of_set;
  int32_t first_block;
};
inline constexpr int kCacheFeatures = 56;
struct CacheFeatures {
  CacheFeature feature[kCacheFeatures];
  int32_t count;
};

// A table, its cache, and the sorted keys of the batch's look-ups; at least one.
struct CacheTable {
  RowCache cache;
  CacheCounters* counters;
  uint32_t* stamps;  // of each place: the batch that used it last
  void* weights;
  float* state1;
  float* state2;
  int64_t row_stride;
  const uint64_t* keys;
  int64_t lookups;
  int32_t rows_of_set;  // of the table
  int32_t dim;
  int32_t row_bytes;  // with the states
  int32_t first_block;
  uint8_t bf16;
  uint8_t element_state1, row_state1, row_state2;  // the states that there are: as weights, or one a row
  uint8_t whole_weights, whole_state1;             // rows begin at a multiple of 16 bytes
};
inline constexpr int kCacheTables = 24;
struct CacheTables {
  CacheTable table[kCacheTables];
  int32_t count;
};
static_assert(kCacheTables <= 32, "a lane a table");

// Blocks for so many look-ups, so many sets.
int32_t embedding_cache_id_blocks(int64_t lookups);
int32_t embedding_cache_set_blocks(int64_t sets);

cudaError_t embedding_cache_ids(const CacheFeatures& features, const EmbeddingBatch& batch, int32_t blocks, cudaStream_t stream);
cudaError_t embedding_cache_place(const CacheTables& tables, int32_t blocks, cudaStream_t stream);
// Keys are not read.
cudaError_t embedding_cache_flush(const CacheTables& tables, int32_t blocks, cudaStream_t stream);

}  // namespace cudamoe::kernels
