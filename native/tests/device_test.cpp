#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "cudamoe.h"

namespace {

std::string last_error() {
  std::string text(static_cast<size_t>(cudamoe_last_error(nullptr, 0)), '\0');
  cudamoe_last_error(text.data(), static_cast<int64_t>(text.size()) + 1);
  return text;
}

TEST(Device, OpensReportsAndCloses) {
  cudamoe_device* device = nullptr;
  ASSERT_EQ(cudamoe_device_open("cpu:threads=2", &device), CUDAMOE_OK) << last_error();
  cudamoe_device_info info{};
  info.struct_size = sizeof info;
  ASSERT_EQ(cudamoe_device_get_info(device, &info), CUDAMOE_OK) << last_error();
  EXPECT_EQ(info.threads, 2);
  EXPECT_STREQ(info.backend, "cpu");
  EXPECT_EQ(info.live_allocations, 0);
  EXPECT_EQ(cudamoe_device_close(device), CUDAMOE_OK);
}

// The tests run at every level; see CMakeLists.txt.
TEST(Device, NamesTheLevelThatWasAskedFor) {
  cudamoe_device* device = nullptr;
  ASSERT_EQ(cudamoe_device_open("cpu", &device), CUDAMOE_OK) << last_error();
  cudamoe_device_info info{};
  info.struct_size = sizeof info;
  ASSERT_EQ(cudamoe_device_get_info(device, &info), CUDAMOE_OK) << last_error();
  if (const char* wanted = std::getenv("CUDAMOE_CPU_LEVEL"); wanted != nullptr && *wanted != '\0') {
    EXPECT_STREQ(info.level, wanted);
  }
  EXPECT_EQ(info.supports_bf16, std::string(info.level) == "avx512bf16" ? 1 : 0);
  EXPECT_EQ(cudamoe_device_close(device), CUDAMOE_OK);
}

TEST(Device, RefusesToCloseWithLiveMemory) {
  cudamoe_device* device = nullptr;
  ASSERT_EQ(cudamoe_device_open("cpu", &device), CUDAMOE_OK) << last_error();
  void* memory = nullptr;
  ASSERT_EQ(cudamoe_memory_allocate(device, 100, &memory), CUDAMOE_OK);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % 64, 0u);
  EXPECT_EQ(cudamoe_device_close(device), CUDAMOE_ERROR_ARGUMENT);
  EXPECT_NE(last_error().find("1 allocations"), std::string::npos) << last_error();
  EXPECT_EQ(cudamoe_memory_free(device, memory), CUDAMOE_OK);
  EXPECT_EQ(cudamoe_memory_free(device, memory), CUDAMOE_ERROR_ARGUMENT);
  EXPECT_EQ(cudamoe_device_close(device), CUDAMOE_OK);
}

TEST(Device, NamesWhatIsWrongWithASpec) {
  cudamoe_device* device = nullptr;
  for (const char* spec : {"gpu", "", "cpu:threads=0", "cpu:threads=x", "cpu:threads=2x", "cpu:cores=2", "auto:1"}) {
    EXPECT_EQ(cudamoe_device_open(spec, &device), CUDAMOE_ERROR_ARGUMENT) << spec;
    EXPECT_EQ(device, nullptr);
    EXPECT_NE(last_error().find("cudamoe_device_open"), std::string::npos);
  }
}

}  // namespace
