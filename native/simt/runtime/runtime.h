// The state behind the runtime's functions: devices, their streams and events, and the queue of each stream. One lock for all of it, held
// while work runs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "simt/runtime/device.h"
#include "simt/runtime/device_memory.h"

namespace cudamoe::simt {
struct RuntimeDevice;
}

struct CUevent_st {
  int64_t recorded = 0;  // how often it was recorded, and how many of these have come to pass
  int64_t passed = 0;
};

struct CUstream_st {
  cudamoe::simt::RuntimeDevice* device = nullptr;
  struct Task {
    std::function<std::string()> run;       // returns what went wrong
    std::shared_ptr<CUevent_st> waits_for;  // not before that recording of the event has passed
    int64_t recording = 0;
    bool always = false;  // runs after a failure of the device too
  };
  std::deque<Task> tasks;
  std::unique_ptr<CUgraph_st> captured;  // where work goes instead while the stream is captured

  inline void push(Task task);
};

struct CUgraph_st {
  std::deque<CUstream_st::Task> tasks;
  bool invalid = false;  // something was called that cannot be captured
};

struct CUgraphExec_st {
  std::deque<CUstream_st::Task> tasks;
};

struct CUmemPoolHandle_st {};

void CUstream_st::push(Task task) { (captured != nullptr ? captured->tasks : tasks).push_back(std::move(task)); }

namespace cudamoe::simt {

struct RuntimeDevice {
  DeviceOptions options;
  int ordinal = 0;
  Random random{1};
  uint64_t launches = 0;
  std::string failure;
  std::vector<std::unique_ptr<CUstream_st>> streams;
};

class Runtime {
 public:
  static Runtime& instance();

  std::mutex mutex;
  std::map<int, std::unique_ptr<RuntimeDevice>> devices;
  std::map<cudaEvent_t, std::shared_ptr<CUevent_st>> events;
  DeviceMemory device_memory;
  std::map<void*, size_t> host_memory;
  std::map<cudaGraph_t, std::unique_ptr<CUgraph_st>> graphs;
  std::map<cudaGraphExec_t, std::unique_ptr<CUgraphExec_st>> executables;
  std::map<cudaMemPool_t, std::unique_ptr<CUmemPoolHandle_st>> pools;
  int next_device = 0;

  // The device that cudaSetDevice chose for the calling thread, or null.
  RuntimeDevice* current();
  // Null unless it is a live stream.
  RuntimeDevice* owner(cudaStream_t stream);
  // Runs queued work of the stream's device until the stream is empty; work of its other streams runs in between, as the schedule has it.
  cudaError_t drain(cudaStream_t stream);
  cudaError_t drain(RuntimeDevice& device);

 private:
  // Runs one task; false when none can run.
  bool run_one(RuntimeDevice& device);
};

inline size_t memory_of(const RuntimeDevice& device) {
  return device.options.memory_bytes > 0 ? device.options.memory_bytes : physical_memory();
}

inline cudaError_t status_of(const RuntimeDevice& device) { return device.failure.empty() ? cudaSuccess : cudaErrorLaunchFailure; }

}  // namespace cudamoe::simt
