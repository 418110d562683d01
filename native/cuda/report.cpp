// The messages of what kernels report.
#include "common/report.cuh"

#include "cuda/device.h"
#include "gemm/gemm.h"

namespace cudamoe::cuda {
namespace {

const char* gemm_function(int64_t function) {
  switch (static_cast<kernels::GemmFunction>(function)) {
    case kernels::GemmFunction::kForward:
      return "cudamoe_gemm_forward";
    case kernels::GemmFunction::kDgrad:
      return "cudamoe_gemm_dgrad";
    case kernels::GemmFunction::kExpertForward:
      return "cudamoe_expert_forward";
    default:
      return "cudamoe_gemm_wgrad";
  }
}

// By kernels::EmbeddingFunction.
const char* embedding_function(int64_t function) {
  constexpr const char* kNames[] = {"cudamoe_embedding_forward", "cudamoe_embedding_update", "cudamoe_embedding_gradient"};
  return kNames[function];
}

// By kernels::GraphFunction.
const char* graph_function(int64_t function) {
  constexpr const char* kNames[] = {"cudamoe_graph_aggregate", "cudamoe_graph_edge_gradient", "cudamoe_graph_transpose"};
  return kNames[function];
}

}  // namespace

cudamoe_status fail_from_report(const kernels::DeviceReport& report) {
  const auto index = [&](int i) { return static_cast<long long>(report.index[i]); };
  const long long others = report.operations - 1;
  switch (report.code) {
    case kernels::ReportCode::kLossRow:
      return fail(
          CUDAMOE_ERROR_REPORTED,
          "cudamoe_loss: tasks[%lld] row %lld has label %g and weight %g; a binary label must be from 0 to 1, a class a whole number below "
          "%lld, any other label finite, and a weight finite and at least 0; such rows count as missing (and %lld more operations "
          "reported bad data)",
          index(0), index(1), report.value[0], report.value[1], index(2), others);
    case kernels::ReportCode::kEmbeddingId:
      return fail(
          CUDAMOE_ERROR_REPORTED,
          "%s: features[%lld].ids[%lld] is %lld; tables[%lld] has %lld rows; %lld ids of this call are out of bounds (and %lld more "
          "operations reported bad data)",
          embedding_function(index(0)), index(1), index(2), index(3), index(4), index(5), index(6), others);
    case kernels::ReportCode::kEmbeddingOffsets:
      return fail(CUDAMOE_ERROR_REPORTED,
                  "%s: features[%lld].offsets[%lld] is %lld; offsets must ascend from 0 to at most lookups, %lld; the feature was left out "
                  "(and %lld more operations reported bad data)",
                  embedding_function(index(0)), index(1), index(2), index(3), index(4), others);
    case kernels::ReportCode::kGemmOffsets:
      if (report.index[1] == 0) {
        return fail(CUDAMOE_ERROR_REPORTED, "%s: offsets[0] is %lld; it must be 0 (and %lld more operations reported bad data)",
                    gemm_function(report.index[0]), index(2), others);
      }
      return fail(CUDAMOE_ERROR_REPORTED,
                  "%s: offsets[%lld] is %lld; it must be at least %lld and at most %.0f rows (and %lld more operations reported bad data)",
                  gemm_function(report.index[0]), index(1), index(2), index(3), report.value[0], others);
    case kernels::ReportCode::kGemmGather:
      return fail(CUDAMOE_ERROR_REPORTED, "%s: gather[%lld] is %lld; x has %lld rows (and %lld more operations reported bad data)",
                  gemm_function(report.index[0]), index(1), index(2), index(3), others);
    case kernels::ReportCode::kGateChosen:
      return fail(
          CUDAMOE_ERROR_REPORTED,
          "cudamoe_gate_backward: chosen[%lld] is %lld; it must be at least 0 and below experts (%lld); such choices have no gradient "
          "(and %lld more operations reported bad data)",
          index(0), index(1), index(2), others);
    case kernels::ReportCode::kRoutingChosen:
      return fail(CUDAMOE_ERROR_REPORTED,
                  "cudamoe_routing: chosen[%lld] is %lld; it must be at least 0 and below experts (%lld); such pairs are dropped (and %lld "
                  "more operations reported bad data)",
                  index(0), index(1), index(2), others);
    case kernels::ReportCode::kCombineSlot:
      return fail(CUDAMOE_ERROR_REPORTED,
                  "cudamoe_combine_%s: slot_of_pair[%lld] is %lld; it must be -1 or below expert_rows (%lld); such pairs give nothing (and "
                  "%lld more operations reported bad data)",
                  index(0) != 0 ? "backward" : "forward", index(1), index(2), index(3), others);
    case kernels::ReportCode::kAttentionKeyCount:
      return fail(CUDAMOE_ERROR_REPORTED,
                  "cudamoe_attention_%s: key_counts[%lld] is %lld; it must be 0 to keys, %lld (and %lld more operations reported bad data)",
                  index(0) != 0 ? "backward" : "forward", index(1), index(2), index(3), others);
    case kernels::ReportCode::kMaximumCount:
      return fail(
          CUDAMOE_ERROR_REPORTED,
          "cudamoe_sequence_maximum_forward: counts[%lld] is %lld; it must be 0 to positions, %lld (and %lld more operations reported "
          "bad data)",
          index(0), index(1), index(2), others);
    case kernels::ReportCode::kGraphOffsets:
      return fail(
          CUDAMOE_ERROR_REPORTED,
          "%s: offsets[%lld] is %lld; offsets must ascend from 0 to edges, %lld; the matrix counts as one without edges (and %lld more "
          "operations reported bad data)",
          graph_function(index(0)), index(1), index(2), index(3), others);
    case kernels::ReportCode::kGraphNeighbour:
      return fail(
          CUDAMOE_ERROR_REPORTED,
          "%s: neighbours[%lld] is %lld; it must be at least 0 and below columns, %lld; such edges are left out (and %lld more operations "
          "reported bad data)",
          graph_function(index(0)), index(1), index(2), index(3), others);
    case kernels::ReportCode::kExpertChosen:
      return fail(
          CUDAMOE_ERROR_REPORTED,
          "cudamoe_expert_mix: chosen[%lld] is %lld; it must be at least 0 and below experts (%lld); such choices give nothing (and "
          "%lld more operations reported bad data)",
          index(0), index(1), index(2), others);
    default:
      return fail(CUDAMOE_ERROR_INTERNAL, "cudamoe_stream_synchronize: a kernel left a report of unknown code %d",
                  static_cast<int>(report.code));
  }
}

}  // namespace cudamoe::cuda
