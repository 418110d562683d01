#include "cpu/optimizer/optimizer.h"

namespace cudamoe::cpu {

void register_optimizer(Backend& table) {
  table.optimizer_norm = optimizer_norm;
  table.optimizer_norm_workspace = optimizer_norm_workspace;
  table.optimizer_step = optimizer_step;
}

}  // namespace cudamoe::cpu
