// Runs all tests on the device that CUDAMOE_TEST_DEVICE names, or exits with 77 (skipped) when CUDAMOE_CPU_LEVEL asks for a level that this
// machine does not have.
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "cudamoe.h"
#include "support/test_device.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  cudamoe_device* device = nullptr;
  if (cudamoe_device_open(cudamoe::test::test_device_spec().c_str(), &device) != CUDAMOE_OK) {
    char text[512];
    cudamoe_last_error(text, sizeof text);
    std::fprintf(stderr, "skipped: %s\n", text);
    return std::string(text).find("this machine has at most") != std::string::npos ? 77 : 1;
  }
  cudamoe_device_close(device);
  return RUN_ALL_TESTS();
}
