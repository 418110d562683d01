#include "cpu/device.h"

namespace cudamoe::cpu {

void register_optimizer(Backend&) {}

}  // namespace cudamoe::cpu
