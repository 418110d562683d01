// What the files of the gating family share.
#pragma once

#include "cpu/device.h"

namespace cudamoe::cpu {

// Scores are computed with one row a lane; no level has more lanes than this.
inline constexpr int64_t kMostLanes = 16;
// Nor has any level a register tile of more columns of logits.
inline constexpr int64_t kMostTileColumns = 24;

cudamoe_status gate_forward(void* stream, const cudamoe_gate_forward_args& args);
int64_t gate_forward_workspace(void* stream, const cudamoe_gate_forward_args& args);
cudamoe_status gate_backward(void* stream, const cudamoe_gate_backward_args& args);
cudamoe_status routing(void* stream, const cudamoe_routing_args& args);
int64_t routing_workspace(void* stream, const cudamoe_routing_args& args);
cudamoe_status group_capacity(void* stream, const cudamoe_group_capacity_args& args);

// Columns of the logits of all gates.
template <class Args>
int64_t gate_columns(const Args& args) {
  return int64_t{args.gates} * args.experts * (args.score_mode == CUDAMOE_SCORE_NOISY ? 2 : 1);
}

// The chosen experts' weights are a softmax over their own scores. A renormalised SOFTMAX_TOPK is the same function.
template <class Args>
bool softmax_over_chosen(const Args& args) {
  return args.score_mode == CUDAMOE_SCORE_TOPK_SOFTMAX || args.score_mode == CUDAMOE_SCORE_NOISY ||
         (args.score_mode == CUDAMOE_SCORE_SOFTMAX_TOPK && args.renormalise != 0);
}

}  // namespace cudamoe::cpu
