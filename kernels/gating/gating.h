// The kernels of the gating family, as the host launches them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/report.cuh"
#include "common/step_numbers.cuh"
#include "common/target.cuh"

namespace cudamoe::kernels {

// ---- gates ----

// CUDAMOE_SCORE_*.
enum class GateScore : int32_t { kSoftmaxTopK, kTopKSoftmax, kSigmoid, kNoisy };

// What a gate does with its logits. Dense when top_k is 0.
struct GateOptions {
  int32_t gates, experts, top_k;
  GateScore score;
  int32_t renormalise;
  uint64_t seed;  // of the noise, with step (none when < 0) and row_offset + row
  int64_t step, row_offset;
  const StepNumbers* numbers;  // whose step counts where there is noise; or null

  // Logits of one gate: clean ones, then as many noise logits.
  CUDAMOE_HOST_DEVICE int columns() const { return score == GateScore::kNoisy ? 2 * experts : experts; }
  // The weights of the chosen are a softmax over their own scores. A renormalised kSoftmaxTopK is the same function.
  CUDAMOE_HOST_DEVICE bool softmax_over_chosen() const {
    return score == GateScore::kTopKSoftmax || score == GateScore::kNoisy || (score == GateScore::kSoftmaxTopK && renormalise != 0);
  }
  CUDAMOE_HOST_DEVICE bool has_noise() const { return score == GateScore::kNoisy && step >= 0; }
  CUDAMOE_DEVICE int64_t step_of_noise() const { return numbers != nullptr ? numbers->step : step; }
};

struct GateForward {
  GateOptions options;
  int64_t rows, k_in;
  const float* x;
  int64_t x_row_stride;
  const float* packed;  // [k_in][packed_stride], of the gemm family
  int64_t packed_stride;
  const float* bias;            // or null
  const float* selection_bias;  // or null
  float* logits;                // [rows, gates * columns]; null where they are not wanted
  float* probabilities;         // or null
  int32_t* chosen;
  float* weights;
  // Of each block of rows, [blocks][gates * experts] and [blocks][gates], null where they are not wanted.
  int64_t* counts;
  double* probability_sums;
  double* z_sums;
};

// How the rows are cut into blocks: fixed by the shape.
struct GatePlan {
  bool fused;              // a gate's columns fit a tile: logits and scores in one kernel
  int32_t gates_of_block;  // fused
  int32_t tile_columns;    // fused: 32, 48, 64 or 128
  int32_t tile_rows;       // fused: 16, 64 or 128
  int64_t block_rows;      // rows of a block
  int64_t blocks;          // of rows
};
GatePlan gate_plan(const GateOptions& options, int64_t rows);

// Logits and scores of all gates in one pass; for fused plans.
cudaError_t gate_forward(const GateForward& gate, const GatePlan& plan, cudaStream_t stream);
// For the others: the logits of rows first_row .. first_row + rows - 1, and the scores of all rows from logits that are stored.
cudaError_t gate_logits(const GateForward& gate, int64_t first_row, int64_t rows, cudaStream_t stream);
// Of blocks first_block .. first_block + blocks - 1; logits point at the first of their rows.
cudaError_t gate_scores(const GateForward& gate, const GatePlan& plan, int64_t first_block, int64_t blocks, const float* logits,
                        cudaStream_t stream);
// total[i] = sum over the blocks of partial[block][i], for each of the three whose total is not null.
struct GateTotals {
  int64_t* counts;
  double* probability_sums;
  double* z_sums;
};
cudaError_t gate_totals(const GateForward& gate, const GatePlan& plan, const GateTotals& totals, cudaStream_t stream);

struct GateBackward {
  GateOptions options;
  int64_t rows;
  const float* logits;
  const float* probabilities;
  const int32_t* chosen;
  const float* weights;
  const float* dprobabilities;
  const float* dweights;
  const int64_t* expert_counts;
  double balance;  // gradient of the balance loss on a probability, for each row that chose the expert; 0 for none
  float z;         // 2 z_coefficient / rows; 0 for none
  float* dlogits;
  int64_t dlogits_row_stride;
  OffenderCell* offender;
  DeviceReport* report;
};
cudaError_t gate_backward(const GateBackward& gate, cudaStream_t stream);

// ---- routing ----

// CUDAMOE_ORDER_*.
enum class RoutingOrder : int32_t { kSampleMajor, kChoiceMajor, kPriority };

inline constexpr int kRoutingBins = 256;
inline constexpr int64_t kRoutingTile = 1024;  // pairs of a block

struct Routing {
  int32_t experts, choices;
  int64_t samples, pairs;  // pairs = samples * choices
  RoutingOrder order;
  int64_t capacity;
  const int32_t* chosen;
  const float* weights;
  int64_t* offsets;
  int32_t* sample_of_slot;
  int32_t* pair_of_slot;
  int32_t* slot_of_pair;
  int64_t* dropped;  // or null
  uint32_t* counts;  // [kRoutingBins][blocks]
  uint32_t* totals;  // [kRoutingBins]
  OffenderCell* offender;
  DeviceReport* report;

  CUDAMOE_HOST_DEVICE int64_t blocks() const { return pairs > kRoutingTile ? (pairs + kRoutingTile - 1) / kRoutingTile : 1; }
};

// By what a pass sorts the pairs.
enum class RoutingKey : int32_t {
  kWeight,  // a byte of the weight's order, descending
  kExpert   // a byte of the expert; pairs whose expert is out of range are left out
};

// One pass of a stable radix sort: the pairs of `from` (null: in the order of the places) by a byte of their key.
struct RoutingPass {
  RoutingKey key;
  int32_t shift;
  int32_t bins;         // that there can be
  const int32_t* from;  // [pairs]; -1 where there is none
  int32_t* to;          // [pairs]; null in the last pass, which writes the results
  int32_t reports;      // 1: reports experts that are out of range
};
cudaError_t routing_count(const Routing& routing, const RoutingPass& pass, cudaStream_t stream);
cudaError_t routing_rank(const Routing& routing, const RoutingPass& pass, cudaStream_t stream);
cudaError_t routing_place(const Routing& routing, const RoutingPass& pass, cudaStream_t stream);

// More experts than kRoutingBins: from the pairs in the order of their experts.
struct RoutingSegments {
  const int32_t* sorted;  // [pairs], -1 beyond the last
  uint32_t* rows;         // [experts], zeroed: rows of each expert
  int64_t* first;         // [experts + 1]: place of its first pair in `sorted`
};
cudaError_t routing_segments(const Routing& routing, const RoutingSegments& segments, cudaStream_t stream);

// Of each group of neighbouring pairs an expert keeps the first `capacity`.
struct GroupCapacity {
  int64_t pairs, of_group, capacity;
  int32_t experts;
  const int32_t* chosen;
  int32_t* slot_of_pair;
  int32_t* dropped_pairs;  // or null
  int64_t* dropped;        // zeroed, or null
};
cudaError_t group_capacity(const GroupCapacity& limit, cudaStream_t stream);

}  // namespace cudamoe::kernels
