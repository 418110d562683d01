// The kernels of the embedding family, as the host launches them.
//
// Forward: embedding_check_offsets, embedding_gather, embedding_report for each list of features that fits a kernel's parameters.
// Backward: the host lays the plan (features and tables) out in the work space with embedding_upload; then embedding_check_offsets,
// embedding_keys, for each digit embedding_histogram, embedding_scan and embedding_scatter, embedding_update (or embedding_rank_tiles,
// embedding_rank_tables and embedding_gradient), embedding_report.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/report.cuh"

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

// ---- forward ----

struct GatherFeature {
  EmbeddingBags bags;
  const void* weights;
  int64_t row_stride;
  int64_t column;
  int32_t dim;
  int32_t lanes;  // of a bag, a power of two
  int32_t bf16;
  int32_t whole_rows, whole_output;  // rows, output rows can be read, written by whole vectors
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
// The output is bf16 or f32.
cudaError_t embedding_gather(const GatherTable& table, const EmbeddingBatch& batch, void* output, int64_t output_row_stride, bool bf16,
                             cudaStream_t stream);

// The function that reports name.
enum class EmbeddingFunction : int32_t { kForward, kUpdate, kGradient };

// Takes down the details of what was found in these features; with `last` notes it in the report and clears the findings.
cudaError_t embedding_report(const GatherTable& table, const EmbeddingBatch& batch, EmbeddingFunction function, bool last,
                             DeviceReport* report, cudaStream_t stream);

// ---- backward: keys ----

// The features of a plan stand in the order of their tables. The lookups of each follow those of the one before it.
struct KeyFeature {
  EmbeddingBags bags;
  int64_t column;
  uint32_t first_lookup;  // in the group
  uint32_t first_slot;    // feature of the table << bag_bits
  uint32_t first_row;     // of its table
};

// Tables whose rows, counted from one to the next, are fewer than 2^32: they are sorted together.
struct EmbeddingGroup {
  const KeyFeature* features;  // device memory, as all of the plan
  int32_t feature_count;
  uint32_t lookups;   // of all its features, and so keys
  uint32_t sentinel;  // rows of all its tables: the row of a key that is left out
};

// `bytes` bytes, a multiple of 4, to device memory, as kernel parameters.
cudaError_t embedding_upload(void* destination, const void* source, int64_t bytes, cudaStream_t stream);
cudaError_t embedding_check_offsets(const KeyFeature* features, int32_t count, const EmbeddingBatch& batch, cudaStream_t stream);
cudaError_t embedding_report(const KeyFeature* features, int32_t count, const EmbeddingBatch& batch, EmbeddingFunction function,
                             DeviceReport* report, cudaStream_t stream);

// ---- backward: sort ----

inline constexpr int kMaxDigitBits = 8;

// Keys of a block. Few keys are spread over more blocks.
inline int64_t embedding_sort_tile(int64_t keys) { return keys < (int64_t{1} << 18) ? 4 * kEmbeddingThreads : 16 * kEmbeddingThreads; }

struct SortPass {
  int64_t keys;
  int32_t shift, digit_bits;
  uint32_t* counts;  // [tiles, 1 << digit_bits]
  uint32_t* totals;  // [1 << digit_bits]
};

// keys[i] = row << 32 | slot of look-up i, and the counts of their first digit.
cudaError_t embedding_keys(const EmbeddingGroup& group, const EmbeddingBatch& batch, uint64_t* keys, const SortPass& pass,
                           cudaStream_t stream);
// The counts of a digit.
cudaError_t embedding_histogram(const SortPass& pass, const uint64_t* keys, cudaStream_t stream);
// Counts become the number of keys of the digit in the tiles before, totals those of all tiles.
cudaError_t embedding_scan(const SortPass& pass, cudaStream_t stream);
// Keys to their places by one digit, stable.
cudaError_t embedding_scatter(const SortPass& pass, const uint64_t* from, uint64_t* to, cudaStream_t stream);

// ---- backward: merge ----

struct MergeTable {
  void* weights;
  float* state1;
  float* state2;
  int64_t row_stride;
  uint32_t first_row;  // in the group
  uint32_t rows;
  int32_t first_feature;  // in the group
  int32_t dim;
  int32_t bf16;
  int32_t index;         // in the caller's list
  int32_t lanes;         // of a row, a power of two
  int64_t first_lookup;  // of the operation: where the table's part of a merged gradient begins
};

inline constexpr int kMaxMergeTile = 1024;

// Keys of a block. Few keys are spread over more blocks.
inline int embedding_merge_tile(int64_t keys) {
  int tile = 64;
  while (tile < kMaxMergeTile && keys > 1024 * int64_t{tile}) tile *= 2;
  return tile;
}

struct MergePlan {
  const MergeTable* tables;
  const KeyFeature* features;
  int32_t table_count;
  int32_t bag_bits;
  const uint64_t* keys;  // sorted
  int64_t key_count;
  uint32_t sentinel;
  int32_t tile;
  const float* gradient;
  int64_t gradient_row_stride;
  float* partials;         // [tiles, 2, partial_stride]: the sums of rows that go on from the tile before, or into the next
  int64_t partial_stride;  // at least the largest dim, a multiple of 4
};

enum class EmbeddingRule : int32_t { kSgd, kAdaGrad, kRowWiseAdaGrad, kRowWiseAdam };

struct UpdateNumbers {
  float learning_rate, epsilon, beta1, beta2;
  float decay;  // 1 - learning_rate * weight_decay
  float gradient_scale;
  float correction1, correction2;  // 1 / (1 - beta^step)
  uint32_t key0, key1, step;       // of the random bits that round bf16 weights
  const double* norm;              // or null: where it is not finite nothing changes
};

// Merges the gradients of each row and updates it.
cudaError_t embedding_update(const MergePlan& plan, EmbeddingRule rule, const UpdateNumbers& numbers, cudaStream_t stream);

struct GradientOutput {
  int32_t* unique_rows;
  float* values;
  int64_t values_row_stride;
  int64_t* counts;
  uint32_t* tile_ranks;   // [tiles + 1] rows that begin before the tile
  uint32_t* table_ranks;  // [tables] rows before the table
};

// tile_ranks, then table_ranks and counts, then unique_rows and values.
cudaError_t embedding_rank_tiles(const MergePlan& plan, const GradientOutput& output, cudaStream_t stream);
cudaError_t embedding_rank_tables(const MergePlan& plan, const GradientOutput& output, cudaStream_t stream);
cudaError_t embedding_gradient(const MergePlan& plan, const GradientOutput& output, cudaStream_t stream);

}  // namespace cudamoe::kernels
