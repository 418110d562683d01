// Devices and streams of the cuda and simt backends.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>

#include "core/backend.h"
#include "core/error.h"
#include "cuda/memory_pool.h"
#include "cuda/trials/trials.h"

namespace cudamoe::kernels {
struct DeviceReport;
}

namespace cudamoe::cuda {

// Whether the device answers every later call with this error, too: a kernel failed, and what the device's memory holds is lost. By the
// error alone: asking the device would break captures that other threads have begun.
bool is_sticky(cudaError_t error);

class Device {
 public:
  Device(int ordinal, const cudaDeviceProp& properties);

  int ordinal() const { return ordinal_; }
  int multiprocessors() const { return properties_.multiProcessorCount; }
  // Compute capability times ten: 80, 86, 89, 90.
  int architecture() const { return 10 * properties_.major + properties_.minor; }
  const cudaDeviceProp& properties() const { return properties_; }
  MemoryPool& memory() { return memory_; }
  Trials& trials() { return trials_; }
  const Trials& trials() const { return trials_; }

  // Makes it the calling thread's device. Every function that calls the runtime does so first.
  void use() const { cudaSetDevice(ordinal_); }

  // Whether a kernel failed on it; true for the rest of its life.
  bool faulted() const { return faulted_; }

  // CUDAMOE_OK, or the error with a message that names the function, what was being done and what the runtime says.
  cudamoe_status check(cudaError_t error, const char* function, const char* what) const;

 private:
  int ordinal_;
  cudaDeviceProp properties_;
  mutable std::atomic<bool> faulted_{false};
  MemoryPool memory_;
  Trials trials_;
};

class Stream {
 public:
  // Bytes of scratch().
  static constexpr int64_t kScratchBytes = 4096;

  // `owned`: the runtime's stream ends with this one.
  Stream(Device& device, cudaStream_t stream, bool owned, kernels::DeviceReport* report, kernels::DeviceReport* device_report,
         void* scratch)
      : device_(device), stream_(stream), owned_(owned), report_(report), device_report_(device_report), scratch_(scratch) {}

  Device& device() const { return device_; }
  cudaStream_t get() const { return stream_; }
  bool owned() const { return owned_; }
  // Where kernels of this stream note bad data: a device pointer.
  kernels::DeviceReport* device_report() const { return device_report_; }
  // The same record on the host, to be read when the stream is idle.
  kernels::DeviceReport* report() const { return report_; }
  // Device memory for operations that have no work space. Zero between operations: each leaves it as it found it.
  void* scratch() const { return scratch_; }

  // Whether what is called on it is kept for a capture, not run.
  bool captured() const { return captured_; }
  void set_captured(bool captured) { captured_ = captured; }

  cudamoe_status check(cudaError_t error, const char* function) const { return device_.check(error, function, "a kernel launch"); }

 private:
  Device& device_;
  cudaStream_t stream_;
  bool owned_;
  kernels::DeviceReport* report_;
  kernels::DeviceReport* device_report_;
  void* scratch_;
  bool captured_ = false;
};

// The stream of a table entry, with its device made the calling thread's.
inline Stream& stream_of(void* stream) {
  auto& own = *static_cast<Stream*>(stream);
  own.device().use();
  return own;
}

// The message of a record that is not empty.
cudamoe_status fail_from_report(const kernels::DeviceReport& report);

void register_capture(Backend& table);

// Makes every operation of a table that is filled a range in profilers.
void name_ranges(Backend& table);

// Each family fills its entries of the table.
void register_activation(Backend& table);
void register_attention(Backend& table);
void register_balance(Backend& table);
void register_combine(Backend& table);
void register_embedding(Backend& table);
void register_expert(Backend& table);
void register_gating(Backend& table);
void register_gemm(Backend& table);
void register_graph(Backend& table);
void register_loss(Backend& table);
void register_norm(Backend& table);
void register_optimizer(Backend& table);

}  // namespace cudamoe::cuda
