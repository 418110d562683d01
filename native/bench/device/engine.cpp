#include "device/engine.h"

#include <cstring>
#include <stdexcept>

namespace cudamoe::bench {

void require(cudamoe_status status) {
  if (status == CUDAMOE_OK) return;
  char text[1024];
  cudamoe_last_error(text, sizeof text);
  throw std::runtime_error(text);
}

DeviceEngine::DeviceEngine(const std::string& spec) {
  require(cudamoe_device_open(spec.c_str(), &device_));
  require(cudamoe_stream_create(device_, &stream_));
  info_.struct_size = sizeof info_;
  require(cudamoe_device_get_info(device_, &info_));
}

DeviceEngine::~DeviceEngine() {
  clear();
  cudamoe_stream_destroy(stream_);
  cudamoe_device_close(device_);
}

void DeviceEngine::clear() {
  cudamoe_stream_synchronize(stream_);
  for (void* pointer : memory_) cudamoe_memory_free(device_, pointer);
  memory_.clear();
}

void* DeviceEngine::allocate(int64_t bytes) {
  void* pointer = nullptr;
  require(cudamoe_memory_allocate(device_, bytes, &pointer));
  memory_.push_back(pointer);
  return pointer;
}

void* DeviceEngine::allocate_mapped(int64_t bytes) {
  void* pointer = nullptr;
  require(cudamoe_memory_allocate_mapped(device_, bytes, &pointer));
  memory_.push_back(pointer);
  return pointer;
}

void DeviceEngine::copy_in(void* destination, const void* source, int64_t bytes) {
  require(cudamoe_memory_copy(stream_, destination, source, bytes, CUDAMOE_HOST_TO_DEVICE));
  synchronize();
}

void* DeviceEngine::random_of(int64_t count, int32_t dtype) {
  Numbers numbers;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = numbers.value();
  if (dtype == CUDAMOE_F32) return upload(values);
  std::vector<uint16_t> halves(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    uint32_t bits;
    std::memcpy(&bits, &values[i], sizeof bits);
    halves[i] = static_cast<uint16_t>(bits >> 16);
  }
  return upload(halves);
}

}  // namespace cudamoe::bench
