#include "cpu/device.h"

namespace cudamoe::cpu {

void register_balance(Backend&) {}

}  // namespace cudamoe::cpu
