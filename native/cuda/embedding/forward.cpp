// Pooled look-ups: the features in lists that fit a kernel's parameters, a launch for each; more only where offsets are to be checked or
// bad ids to be reported.
#include <algorithm>
#include <limits>

#include "cuda/embedding/cache_layout.h"

namespace cudamoe::cuda {
namespace {

using kernels::GatherFeature;
using kernels::GatherTable;
using kernels::kGatherFeatures;

// The findings of a forward lie in the stream's scratch memory.
struct ForwardFindings {
  kernels::EmbeddingFindings findings;
  uint32_t bad_offset[kGatherFeatures];
};
static_assert(sizeof(ForwardFindings) <= Stream::kScratchBytes);

GatherFeature gather_feature(const cudamoe_embedding_forward_args& args, int32_t index) {
  const cudamoe_embedding_feature& feature = args.features[index];
  const cudamoe_embedding_table& table = args.tables[feature.table];
  const bool bf16 = table.dtype == CUDAMOE_BF16;
  const int64_t element = bf16 ? 2 : 4, piece = 16 / element;
  const int64_t output_element = args.output_dtype == CUDAMOE_BF16 ? 2 : 4, store = std::min(piece, 16 / output_element);
  const auto aligned = [](const void* pointer, int64_t bytes) {
    return reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(bytes) == 0;
  };
  const bool whole_rows = aligned(table.weights, 16) && table.row_stride % piece == 0;
  const bool whole_output =
      aligned(args.output, store * output_element) && args.output_row_stride % store == 0 && feature.column % store == 0;
  const kernels::RowCache cache = row_cache(table, args.caches == nullptr ? nullptr : args.caches + feature.table);
  const bool plain = whole_rows && whole_output && table.dim % piece == 0 && feature.pooling == CUDAMOE_POOLING_SUM && cache.sets == 0;
  const auto flag = [](bool set) { return static_cast<uint8_t>(set ? 1 : 0); };
  return {embedding_bags(feature, table, index),
          table.weights,
          table.row_stride,
          feature.column,
          cache.tags,
          cache.weights,
          cache.sets,
          table.dim,
          embedding_lanes(table.dim, piece),
          flag(bf16),
          flag(whole_rows),
          flag(whole_output),
          flag(plain)};
}

int64_t blocks_of(const GatherFeature& feature, int64_t batch, int32_t bags_per_group) {
  const int64_t bags = int64_t{kernels::kEmbeddingThreads / feature.lanes} * bags_per_group;
  return (batch + bags - 1) / bags;
}

// More than one bag a group only where the device is full without.
int32_t bags_per_group(const cudamoe_embedding_forward_args& args, const Device& device) {
  int64_t blocks = 0;
  for (int32_t f = 0; f < args.feature_count; ++f) blocks += blocks_of(gather_feature(args, f), args.batch, 1);
  constexpr int64_t kWaves = 16, kBlocksEach = 4;
  int32_t bags = 1;
  while (bags < 8 && blocks / bags > kWaves * kBlocksEach * device.multiprocessors()) bags *= 2;
  return bags;
}

}  // namespace

cudamoe_status embedding_forward(void* handle, const cudamoe_embedding_forward_args& args) {
  const Stream& stream = stream_of(handle);
  if (args.batch == 0) return CUDAMOE_OK;
  auto* findings = static_cast<ForwardFindings*>(stream.scratch());
  const kernels::EmbeddingBatch batch{args.batch, args.bounds == CUDAMOE_BOUNDS_CLAMP ? 1 : 0, &findings->findings, findings->bad_offset};
  GatherTable table{};
  table.bags_per_group = bags_per_group(args, stream.device());
  constexpr int64_t kMostBlocks = std::numeric_limits<int32_t>::max();
  cudaError_t error = cudaSuccess;
  for (int32_t f = 0; f < args.feature_count && error == cudaSuccess;) {
    table.features = 0;
    bool offsets = false, cached = false;
    int64_t blocks = 0;
    while (f < args.feature_count && table.features < kGatherFeatures) {
      const GatherFeature feature = gather_feature(args, f);
      const int64_t more = blocks_of(feature, args.batch, table.bags_per_group);
      if (blocks + more > kMostBlocks) break;  // a feature alone has at most 2^31 - 1
      table.feature[table.features] = feature;
      table.first_block[table.features++] = static_cast<int32_t>(blocks);
      blocks += more;
      offsets = offsets || feature.bags.offsets != nullptr;
      cached = cached || feature.sets > 0;
      ++f;
    }
    table.first_block[table.features] = static_cast<int32_t>(blocks);
    if (offsets) error = kernels::embedding_check_offsets(table, batch, stream.get());
    if (error == cudaSuccess)
      error = kernels::embedding_gather(table, batch, args.output, args.output_row_stride, args.output_dtype == CUDAMOE_BF16, cached,
                                        stream.get());
    const bool last = f == args.feature_count;
    if (error == cudaSuccess && (offsets || last || batch.clamp == 0))
      error = kernels::embedding_report(table, batch, kernels::EmbeddingFunction::kForward, last, stream.device_report(), stream.get());
  }
  return stream.check(error, "cudamoe_embedding_forward");
}

}  // namespace cudamoe::cuda
