// What the launches since the last call moved, where the device is the counting executor (native/simt/traffic).
#pragma once

#include <cstdint>

namespace cudamoe::bench {

struct CountedTraffic {
  int64_t launches, memory_read, memory_written, cache_read, cache_written, operations;
};

// Throws when the plug-in that is loaded does not count.
CountedTraffic take_traffic();

}  // namespace cudamoe::bench
