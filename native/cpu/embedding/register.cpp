#include "cpu/device.h"

namespace cudamoe::cpu {

void register_embedding(Backend&) {}

}  // namespace cudamoe::cpu
