#include "cpu/loss/loss.h"

namespace cudamoe::cpu {

void register_loss(Backend& table) {
  table.loss_workspace = loss_workspace;
  table.loss = loss;
}

}  // namespace cudamoe::cpu
