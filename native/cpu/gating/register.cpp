#include "cpu/device.h"

namespace cudamoe::cpu {

void register_gating(Backend&) {}

}  // namespace cudamoe::cpu
