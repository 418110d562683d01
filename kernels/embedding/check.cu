// Whether the offsets of each feature ascend from 0 to at most its look-ups, and what the host is told of bad ids and offsets.
//
// Floor: one read of the offsets. Tiling: a block of 256 threads per 1024 offsets of a feature; the report is one warp's work. No shared
// memory, no sums: the first bad offset of a feature is a maximum of complements.
#include "embedding/bags.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kPart = 4 * kEmbeddingThreads;
constexpr int kMostBlocks = 1 << 20;

CUDAMOE_HOST_DEVICE int64_t parts_of(int64_t batch) { return (batch + 1 + kPart - 1) / kPart; }

CUDAMOE_DEVICE void check_part(const EmbeddingBags& bags, int64_t batch, int64_t part, uint32_t* bad_offset) {
  if (bags.offsets == nullptr) return;
  for (int64_t b = part * kPart + thread_x(); b <= batch && b < (part + 1) * kPart; b += kEmbeddingThreads) {
    const int32_t offset = load_constant(bags.offsets + b);
    const bool good = b == 0 ? offset == 0 : offset >= load_constant(bags.offsets + b - 1) && offset <= bags.lookups;
    if (!good) atomic_max(bad_offset, ~static_cast<uint32_t>(b));
  }
}

CUDAMOE_KERNEL(kEmbeddingThreads, 4)
check_table_kernel(const CUDAMOE_GRID_CONSTANT GatherTable table, const CUDAMOE_GRID_CONSTANT EmbeddingBatch batch) {
  const int64_t parts = parts_of(batch.batch);
  for (int64_t i = block_x(); i < table.features * parts; i += grid_size_x())
    check_part(table.feature[i / parts].bags, batch.batch, i % parts, batch.bad_offset + i / parts);
}

CUDAMOE_KERNEL(kEmbeddingThreads, 4)
check_list_kernel(const CUDAMOE_GRID_CONSTANT EmbeddingPlan plan, const CUDAMOE_GRID_CONSTANT EmbeddingBatch batch) {
  const int64_t parts = parts_of(batch.batch);
  for (int64_t i = block_x(); i < plan.feature_count * parts; i += grid_size_x())
    check_part(plan.features[i / parts].bags, batch.batch, i % parts, batch.bad_offset + i / parts);
}

CUDAMOE_DEVICE void take_offsets(EmbeddingFindings& findings, const EmbeddingBags& bags, uint32_t bad_offset, EmbeddingFunction function) {
  const int64_t bag = static_cast<uint32_t>(~bad_offset);
  findings.offsets = {
      ReportCode::kEmbeddingOffsets, 1, {static_cast<int64_t>(function), bags.index, bag, bags.offsets[bag], bags.lookups}, {}};
}

CUDAMOE_DEVICE void take_id(EmbeddingFindings& findings, const EmbeddingBags& bags, EmbeddingFunction function) {
  const int64_t position = static_cast<uint32_t>(~findings.first_id);
  findings.ids = {
      ReportCode::kEmbeddingId, 1, {static_cast<int64_t>(function), bags.index, position, bags.ids[position], bags.table, bags.rows}, {}};
}

// One warp; the feature with the lowest index speaks for all.
template <class BagsOf>
CUDAMOE_DEVICE void take_findings(const EmbeddingBatch& batch, int count, EmbeddingFunction function, BagsOf&& bags_of) {
  EmbeddingFindings& findings = *batch.findings;
  const bool any_id = findings.bad_ids != 0;
  const auto id_feature = static_cast<int32_t>(~findings.first_id >> 32);
  int found = -1;
  uint32_t lowest = ~0u;
  for (int f = lane_id(); f < count; f += kWarp) {
    const EmbeddingBags& bags = bags_of(f);
    if (any_id && bags.index == id_feature) take_id(findings, bags, function);
    if (batch.bad_offset[f] != 0 && static_cast<uint32_t>(bags.index) < lowest) {
      lowest = static_cast<uint32_t>(bags.index);
      found = f;
    }
  }
  const bool first = lowest == reduce_min(kFullWarp, lowest) && found >= 0;
  if (first && findings.offsets.code == ReportCode::kNone) take_offsets(findings, bags_of(found), batch.bad_offset[found], function);
  for (int f = lane_id(); f < count; f += kWarp) batch.bad_offset[f] = 0;
  sync_warp();
}

CUDAMOE_DEVICE void note_findings(EmbeddingFindings& findings, DeviceReport* report) {
  if (lane_id() != 0) return;
  if (findings.offsets.code != ReportCode::kNone) note_report(report, findings.offsets);
  if (findings.bad_ids != 0) {
    findings.ids.index[6] = static_cast<int64_t>(findings.bad_ids);
    note_report(report, findings.ids);
  }
  findings = {};
}

CUDAMOE_KERNEL(kWarp, 1)
report_table_kernel(const CUDAMOE_GRID_CONSTANT GatherTable table, const CUDAMOE_GRID_CONSTANT EmbeddingBatch batch,
                    EmbeddingFunction function, int32_t last, DeviceReport* report) {
  take_findings(batch, table.features, function, [&](int f) -> const EmbeddingBags& { return table.feature[f].bags; });
  if (last != 0) note_findings(*batch.findings, report);
}

CUDAMOE_KERNEL(kWarp, 1)
report_list_kernel(const CUDAMOE_GRID_CONSTANT EmbeddingPlan plan, const CUDAMOE_GRID_CONSTANT EmbeddingBatch batch,
                   EmbeddingFunction function, DeviceReport* report) {
  take_findings(batch, plan.feature_count, function, [&](int f) -> const EmbeddingBags& { return plan.features[f].bags; });
  note_findings(*batch.findings, report);
}

LaunchShape check_shape(int64_t features, int64_t batch, cudaStream_t stream) {
  const int64_t blocks = features * parts_of(batch);
  return {.name = "embedding_check_offsets",
          .grid = {static_cast<int>(blocks < kMostBlocks ? blocks : kMostBlocks)},
          .block = {kEmbeddingThreads},
          .stream = stream};
}

}  // namespace

cudaError_t embedding_check_offsets(const GatherTable& table, const EmbeddingBatch& batch, cudaStream_t stream) {
  return launch(check_shape(table.features, batch.batch, stream), check_table_kernel, table, batch);
}

cudaError_t embedding_check_offsets(const EmbeddingPlan& plan, const EmbeddingBatch& batch, cudaStream_t stream) {
  return launch(check_shape(plan.feature_count, batch.batch, stream), check_list_kernel, plan, batch);
}

cudaError_t embedding_report(const GatherTable& table, const EmbeddingBatch& batch, EmbeddingFunction function, bool last,
                             DeviceReport* report, cudaStream_t stream) {
  return launch({.name = "embedding_report", .grid = {1}, .block = {kWarp}, .stream = stream}, report_table_kernel, table, batch, function,
                last ? 1 : 0, report);
}

cudaError_t embedding_report(const EmbeddingPlan& plan, const EmbeddingBatch& batch, EmbeddingFunction function, DeviceReport* report,
                             cudaStream_t stream) {
  return launch({.name = "embedding_report", .grid = {1}, .block = {kWarp}, .stream = stream}, report_list_kernel, plan, batch, function,
                report);
}

}  // namespace cudamoe::kernels
