// Stable radix sort of a table's look-ups by row, least significant digit first.
#pragma once

#include <cstdint>

#include "cpu/embedding/plan.h"

namespace cudamoe::cpu {

// Counters that sort_lookups needs on this device.
int64_t parallel_sort_counters(const Device& device);

}  // namespace cudamoe::cpu
