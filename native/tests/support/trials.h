// Devices that try their kernels, as on a GPU: CUDAMOE_TRIALS, CUDAMOE_CACHE, and what the device notes.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <string>

#include "support/system.h"
#include "support/test_device.h"

namespace cudamoe::test {

// Sets an environment variable while it lives.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    set_variable(name, value);
  }
  ~Variable() { set_variable(name_, old_ ? old_->c_str() : nullptr); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> old_;
};

inline std::string notes(const TestDevice& device) {
  char text[4096];
  int64_t length = 0;
  EXPECT_EQ(cudamoe_device_get_notes(device.device(), text, sizeof text, &length), CUDAMOE_OK) << last_error();
  return text;
}

}  // namespace cudamoe::test
