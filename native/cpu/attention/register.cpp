#include "cpu/attention/attention.h"

namespace cudamoe::cpu {

void register_attention(Backend& table) {
  table.attention_forward = attention_forward;
  table.attention_forward_workspace = attention_forward_workspace;
  table.attention_backward = attention_backward;
  table.attention_backward_workspace = attention_backward_workspace;
  table.rotary = rotary;
  table.rotary_workspace = rotary_workspace;
  table.sequence_maximum_forward = sequence_maximum_forward;
  table.sequence_maximum_backward = sequence_maximum_backward;
}

}  // namespace cudamoe::cpu
