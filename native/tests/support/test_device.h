// A device with one stream for a test, released in the right order, and the calling thread's last error message.
#pragma once

#include <string>

#include "cudamoe.h"

namespace cudamoe::test {

// The text of cudamoe_last_error.
std::string last_error();

// Throws when the device cannot be opened, which fails the test that asked for it.
class TestDevice {
 public:
  explicit TestDevice(const std::string& spec = "cpu");
  ~TestDevice();
  TestDevice(const TestDevice&) = delete;
  TestDevice& operator=(const TestDevice&) = delete;

  cudamoe_device* device() const { return device_; }
  cudamoe_stream* stream() const { return stream_; }
  cudamoe_device_info info() const;

 private:
  cudamoe_device* device_ = nullptr;
  cudamoe_stream* stream_ = nullptr;
};

}  // namespace cudamoe::test

// An ABI call that must succeed; the message of the library is shown when it does not.
#define CUDAMOE_EXPECT_OK(call) EXPECT_EQ((call), CUDAMOE_OK) << cudamoe::test::last_error()
#define CUDAMOE_ASSERT_OK(call) ASSERT_EQ((call), CUDAMOE_OK) << cudamoe::test::last_error()

// An ABI call that must be refused as a bad argument with a message that contains `words` (the field and the rule).
#define CUDAMOE_EXPECT_REFUSED(call, words)                                                               \
  do {                                                                                                    \
    EXPECT_EQ((call), CUDAMOE_ERROR_ARGUMENT);                                                            \
    EXPECT_NE(cudamoe::test::last_error().find(words), std::string::npos) << cudamoe::test::last_error(); \
  } while (false)
