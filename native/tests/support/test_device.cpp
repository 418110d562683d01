#include "support/test_device.h"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace cudamoe::test {

std::string last_error() {
  std::string text(static_cast<size_t>(cudamoe_last_error(nullptr, 0)), '\0');
  cudamoe_last_error(text.data(), static_cast<int64_t>(text.size()) + 1);
  return text;
}

std::string test_device_spec() {
  const char* spec = std::getenv("CUDAMOE_TEST_DEVICE");
  return spec == nullptr || *spec == '\0' ? "cpu" : spec;
}

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

constexpr size_t kRepetitions = 20;

bool test_device_is_simt() { return test_device_spec().rfind("simt", 0) == 0; }

}  // namespace

std::string test_device_spec_of(const char* cpu, const char* simt) {
  return test_device_is_simt() ? simt : test_device_spec().rfind("cpu", 0) == 0 ? cpu : test_device_spec();
}

bool test_device_is_slow() {
  const char* small = std::getenv("CUDAMOE_TEST_SMALL");
  return test_device_is_simt() || (small != nullptr && *small != '\0');
}

bool test_device_reaches_host_memory() { return test_device_spec().rfind("cuda", 0) != 0; }

std::vector<std::string> equivalent_device_specs() {
  if (test_device_is_simt()) {
    std::vector<std::string> specs;
    for (const char* order : {"forward", "reverse", "random", "ahead"}) {
      for (const char* copies : {"early", "late"}) {
        specs.push_back(std::string("simt:exits=strict,order=") + order + ",copies=" + copies + ",seed=" + std::to_string(specs.size()));
      }
    }
    return specs;
  }
  if (test_device_spec().rfind("cpu", 0) == 0) return {"cpu:threads=1", "cpu:threads=2", "cpu:threads=3", "cpu:threads=8", "cpu:threads=8"};
  return std::vector<std::string>(kRepetitions, test_device_spec());
}

std::vector<std::string> repeated_device_specs() {
  std::vector<std::string> specs = equivalent_device_specs();
  if (test_device_is_simt() && !kSanitized) {
    while (specs.size() < kRepetitions)
      specs.push_back("simt:exits=strict,order=random,copies=random,seed=" + std::to_string(specs.size()));
  }
  return specs;
}

int repetitions_of_a_spec() { return test_device_is_slow() ? 1 : kSanitized ? 3 : static_cast<int>(kRepetitions); }

TestDevice::TestDevice(const std::string& spec) {
  if (cudamoe_device_open(spec.c_str(), &device_) != CUDAMOE_OK) throw std::runtime_error(last_error());
  if (cudamoe_stream_create(device_, &stream_) != CUDAMOE_OK) {
    const std::string reason = last_error();
    cudamoe_device_close(device_);
    throw std::runtime_error(reason);
  }
}

TestDevice::~TestDevice() {
  cudamoe_stream_destroy(stream_);
  if (cudamoe_device_close(device_) != CUDAMOE_OK) std::fprintf(stderr, "TestDevice: %s\n", last_error().c_str());
}

cudamoe_device_info TestDevice::info() const {
  cudamoe_device_info info{};
  info.struct_size = sizeof info;
  if (cudamoe_device_get_info(device_, &info) != CUDAMOE_OK) throw std::runtime_error(last_error());
  return info;
}

}  // namespace cudamoe::test
