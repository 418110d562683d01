// A device with one stream for a test, released in the right order, and the calling thread's last error message.
#pragma once

#include <string>
#include <vector>

#include "cudamoe.h"

namespace cudamoe::test {

// The text of cudamoe_last_error.
std::string last_error();

// The device that this run of the tests is about: CUDAMOE_TEST_DEVICE, "cpu" when it is not set. The same cases run on every backend.
std::string test_device_spec();
// A particular way to open it, where that is the cpu or the executor; a GPU is opened as it was asked for.
std::string test_device_spec_of(const char* cpu, const char* simt);
// Whether cases are small: on the executor, which is a thousand times slower, and where CUDAMOE_TEST_SMALL is set (a sanitizer of the GPU).
bool test_device_is_slow();
// Whether operations on it can use any memory of the process: backends of a GPU cannot. The executor's kernels can, though its own device
// memory is closed to the host.
bool test_device_reaches_host_memory();
// Ways to open that device that must give the same bits: other numbers of threads of a cpu, every order of the executor with copies that
// land as early and as late as they may, twenty times the same of a GPU.
std::vector<std::string> equivalent_device_specs();
// For cases that are about nothing else: twenty of the executor too, the others random schedules (not under sanitizers).
std::vector<std::string> repeated_device_specs();
// How often a case that is about nothing else runs in each: twenty times on a cpu, where who takes which tile is chance, and a few under
// sanitizers; once on the executor, whose schedules repeat.
int repetitions_of_a_spec();

// Throws when the device cannot be opened, which fails the test that asked for it.
class TestDevice {
 public:
  explicit TestDevice(const std::string& spec = test_device_spec());
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
