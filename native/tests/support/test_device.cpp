#include "support/test_device.h"

#include <cstdio>
#include <stdexcept>

namespace cudamoe::test {

std::string last_error() {
  std::string text(static_cast<size_t>(cudamoe_last_error(nullptr, 0)), '\0');
  cudamoe_last_error(text.data(), static_cast<int64_t>(text.size()) + 1);
  return text;
}

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
