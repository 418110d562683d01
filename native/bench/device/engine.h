// A device that is measured, and memory on it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cudamoe.h"

namespace cudamoe::bench {

// Throws with the library's message unless the call succeeded.
void require(cudamoe_status status);

class DeviceEngine {
 public:
  explicit DeviceEngine(const std::string& spec);
  ~DeviceEngine();
  DeviceEngine(const DeviceEngine&) = delete;
  DeviceEngine& operator=(const DeviceEngine&) = delete;

  cudamoe_stream* stream() const { return stream_; }
  const cudamoe_device_info& info() const { return info_; }
  void synchronize() const { require(cudamoe_stream_synchronize(stream_)); }

  // Zeroed device memory that lives until clear().
  void* allocate(int64_t bytes);
  // The same in host memory that stands for device memory.
  void* allocate_mapped(int64_t bytes);
  template <class T>
  T* allocate_of(int64_t count) {
    return static_cast<T*>(allocate(count * static_cast<int64_t>(sizeof(T))));
  }
  template <class T>
  T* upload(const std::vector<T>& values) {
    T* memory = allocate_of<T>(static_cast<int64_t>(values.size()));
    copy_in(memory, values.data(), static_cast<int64_t>(values.size() * sizeof(T)));
    return memory;
  }
  // Values from -1 to 1, the same in every run: f32, or their upper halves as bf16.
  float* random(int64_t count) { return static_cast<float*>(random_of(count, CUDAMOE_F32)); }
  void* random_of(int64_t count, int32_t dtype);
  void clear();

 private:
  void copy_in(void* destination, const void* source, int64_t bytes);

  cudamoe_device* device_ = nullptr;
  cudamoe_stream* stream_ = nullptr;
  cudamoe_device_info info_{};
  std::vector<void*> memory_;
};

// Numbers for operands: a linear congruential generator, the same in every run.
class Numbers {
 public:
  uint32_t next() { return state_ = state_ * 1664525u + 1013904223u; }
  // 0 .. bound - 1
  int64_t below(int64_t bound) { return static_cast<int64_t>((uint64_t{next()} * static_cast<uint64_t>(bound)) >> 32); }
  float value() { return static_cast<float>(next() >> 8) * 0x1p-23f - 1.0f; }

 private:
  uint32_t state_ = 12345;
};

}  // namespace cudamoe::bench
