// A library that NVTX loads as it loads a profiler (NVTX_INJECTION64_PATH), and that writes down the ranges of this process.
#pragma once

#include <string>
#include <vector>

namespace cudamoe::test {

// "begin DOMAIN NAME" and "end DOMAIN" in the order in which they came; a test may add to it.
__attribute__((visibility("default"))) std::vector<std::string>& nvtx_record();

}  // namespace cudamoe::test
