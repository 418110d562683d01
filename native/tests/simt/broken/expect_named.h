// A kernel with a defect must be reported by the defect's name.
#pragma once

#include "simt/harness.h"

namespace cudamoe::test {

// Under every schedule the report begins with the finding and the kernel and names a source line.
template <class... Parameters, class... Arguments>
void expect_named(const char* finding, const kernels::LaunchShape& shape, void (*kernel)(Parameters...), Arguments... arguments) {
  for (const simt::DeviceOptions& options : all_schedules()) {
    Executor executor(options);
    const std::string report = executor.run(shape, kernel, arguments...);
    EXPECT_EQ(report.find(std::string(finding) + " in kernel " + shape.name), 0u) << report;
    EXPECT_NE(report.find("_test.cpp:"), std::string::npos) << report;
  }
}

}  // namespace cudamoe::test
