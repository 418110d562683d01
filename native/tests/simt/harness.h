// Runs a kernel on the executor by the runtime's interface, for tests.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/kernel.cuh"
#include "simt/runtime/device.h"

namespace cudamoe::test {

// A device with a stream.
class Executor {
 public:
  explicit Executor(const simt::DeviceOptions& options = {}) : ordinal_(simt::add_device(options)) {
    cudaSetDevice(ordinal_);
    cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
  }
  ~Executor() {
    cudaStreamDestroy(stream_);
    simt::remove_device(ordinal_);
  }
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  int ordinal() const { return ordinal_; }
  cudaStream_t stream() const { return stream_; }
  std::string failure() const { return simt::device_failure(ordinal_); }

  // What the executor reports of the kernel; empty when it ran well.
  template <class... Parameters, class... Arguments>
  std::string run(const kernels::LaunchShape& shape, void (*kernel)(Parameters...), Arguments... arguments) {
    kernels::LaunchShape own = shape;
    own.stream = stream_;
    const cudaError_t launched = kernels::launch(own, kernel, static_cast<Parameters>(arguments)...);
    if (launched != cudaSuccess) return cudaGetErrorName(launched);
    const cudaError_t ran = cudaStreamSynchronize(stream_);
    EXPECT_EQ(ran == cudaSuccess, failure().empty());
    return failure();
  }

 private:
  int ordinal_;
  cudaStream_t stream_ = nullptr;
};

// Device memory, written and read as a vector.
template <class T>
class DeviceArray {
 public:
  DeviceArray(Executor& executor, const std::vector<T>& values) : executor_(executor), count_(values.size()) {
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, count_ * sizeof(T)), cudaSuccess);
    data_ = static_cast<T*>(memory);
    cudaMemcpyAsync(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice, executor.stream());
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  std::vector<T> get() const {
    std::vector<T> values(count_);
    EXPECT_EQ(cudaMemcpyAsync(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost, executor_.stream()), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(executor_.stream()), cudaSuccess);
    return values;
  }

 private:
  Executor& executor_;
  size_t count_;
  T* data_ = nullptr;
};

// Every order with every kind of completion and two seeds; under ThreadSanitizer, to which the order matters little, every order.
inline std::vector<simt::DeviceOptions> all_schedules() {
#if defined(CUDAMOE_SIMT_TSAN)
  const std::vector<simt::Completion> completions = {simt::Completion::kRandom};
#else
  const std::vector<simt::Completion> completions = {simt::Completion::kEarly, simt::Completion::kLate, simt::Completion::kRandom};
#endif
  std::vector<simt::DeviceOptions> list;
  for (const simt::Order order : {simt::Order::kForward, simt::Order::kReverse, simt::Order::kRandom, simt::Order::kOneAhead}) {
    for (const simt::Completion copies : completions) {
      for (uint64_t seed = 2; seed < 2 + completions.size() && seed < 4; ++seed) list.push_back({{order, copies, seed, false}, 80});
    }
  }
  return list;
}

}  // namespace cudamoe::test
