#include "simt/runtime/runtime.h"

#include <algorithm>

#include "simt/launch.h"
#include "simt/launch_log.h"
#include "simt/runtime/launch.h"
#include "simt/traffic.h"

namespace cudamoe::simt {
namespace {

thread_local int chosen_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

}  // namespace

Runtime& Runtime::instance() {
  static auto& runtime = *new Runtime;
  return runtime;
}

RuntimeDevice* Runtime::current() {
  const auto found = devices.find(chosen_device);
  return found == devices.end() ? nullptr : found->second.get();
}

RuntimeDevice* Runtime::owner(cudaStream_t stream) {
  for (const auto& [ordinal, device] : devices) {
    for (const auto& own : device->streams) {
      if (own.get() == stream) return device.get();
    }
  }
  return nullptr;
}

bool Runtime::run_one(RuntimeDevice& device) {
  std::vector<CUstream_st*> runnable;
  for (const auto& stream : device.streams) {
    if (stream->tasks.empty()) continue;
    const CUstream_st::Task& task = stream->tasks.front();
    if (task.waits_for == nullptr || task.waits_for->passed >= task.recording) runnable.push_back(stream.get());
  }
  if (runnable.empty()) return false;
  CUstream_st* stream = runnable[static_cast<size_t>(device.random.below(static_cast<int>(runnable.size())))];
  const CUstream_st::Task task = std::move(stream->tasks.front());
  stream->tasks.pop_front();
  // After a failure nothing runs any more, but queues still empty.
  if (task.run && (device.failure.empty() || task.always)) {
    std::string failure = task.run();
    if (device.failure.empty()) device.failure = std::move(failure);
  }
  return true;
}

cudaError_t Runtime::drain(cudaStream_t stream) {
  RuntimeDevice& device = *stream->device;
  if (stream->tasks.empty()) return status_of(device);
  const DeviceMemory::Access access(device_memory);
  while (!stream->tasks.empty()) {
    if (!run_one(device)) return cudaErrorLaunchFailure;  // waits for an event of another device that was never recorded
  }
  return status_of(device);
}

cudaError_t Runtime::drain(RuntimeDevice& device) {
  const DeviceMemory::Access access(device_memory);
  for (size_t i = 0; i < device.streams.size(); ++i) {
    const cudaError_t error = drain(device.streams[i].get());
    if (error != cudaSuccess && device.failure.empty()) return error;
  }
  return status_of(device);
}

int add_device(const DeviceOptions& options) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  auto device = std::make_unique<RuntimeDevice>();
  device->options = options;
  device->random = Random(options.schedule.seed);
  const int ordinal = device->ordinal = runtime.next_device++;
  runtime.devices.emplace(ordinal, std::move(device));
  return ordinal;
}

void remove_device(int ordinal) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  runtime.devices.erase(ordinal);
}

std::string device_failure(int ordinal) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  const auto found = runtime.devices.find(ordinal);
  return found == runtime.devices.end() ? "" : found->second->failure;
}

cudaError_t enqueue(const LaunchDescription& description, void (*body)(const void*), std::shared_ptr<const void> arguments) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  RuntimeDevice* device = runtime.owner(description.stream);
  if (device == nullptr) return remember(cudaErrorInvalidResourceHandle);
  if (!device->failure.empty()) return remember(cudaErrorLaunchFailure);
  // What the driver refuses before anything runs.
  const Limits limits = limits_of(device->options.architecture);
  if (description.grid.x < 1 || description.grid.y < 1 || description.grid.z < 1 || description.grid.y > limits.grid_yz ||
      description.grid.z > limits.grid_yz || description.block.x < 1 || description.block.y < 1 || description.block.z < 1 ||
      description.block.z > limits.block_z || description.block.count() > limits.threads_per_block ||
      description.dynamic_shared_bytes < 0 || description.dynamic_shared_bytes > limits.shared_bytes)
    return remember(cudaErrorInvalidConfiguration);
  log_launch(description, device->options.architecture, runtime.device_memory);
  Schedule schedule = device->options.schedule;
  if (device->launches + 1 == device->options.fault_at) {
    description.stream->push(
        {[description] { return "kernel " + std::string(description.name) + " failed as the option fault asked for"; }, nullptr, 0});
    ++device->launches;
    return cudaSuccess;
  }
  schedule.seed += 2 * device->launches++;  // another order in every launch; its parity chooses between ahead and behind
  const int architecture = device->options.architecture;
  description.stream->push({[description, body, arguments = std::move(arguments), schedule, architecture] {
                              if (traffic_listener != nullptr) traffic_listener->begin_launch(Runtime::instance().device_memory.blocks());
                              std::string failure =
                                  Launch::run({description.name, description.grid, description.block, description.dynamic_shared_bytes,
                                               body, arguments.get(), schedule, architecture, false});
                              if (traffic_listener != nullptr) traffic_listener->end_launch();
                              return failure;
                            },
                            nullptr, 0});
  return cudaSuccess;
}

}  // namespace cudamoe::simt

using namespace cudamoe::simt;

namespace {

// What must not be called on a captured stream spoils the capture. Events would have to become edges of the graph, which the executor,
// whose graphs are of one stream, has not.
cudaError_t refuse_captured(cudaStream_t stream) {
  if (stream->captured == nullptr) return cudaSuccess;
  stream->captured->invalid = true;
  return cudaErrorStreamCaptureUnsupported;
}

}  // namespace

cudaError_t cudaGetDeviceCount(int* count) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  *count = runtime.next_device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  if (runtime.devices.count(device) == 0) return remember(cudaErrorInvalidDevice);
  chosen_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  RuntimeDevice* device = runtime.current();
  if (device == nullptr) return remember(cudaErrorInvalidDevice);
  device->streams.push_back(std::make_unique<CUstream_st>());
  device->streams.back()->device = device;
  *stream = device->streams.back().get();
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  RuntimeDevice* device = runtime.owner(stream);
  if (device == nullptr) return remember(cudaErrorInvalidResourceHandle);
  const cudaError_t error = runtime.drain(stream);
  const auto found = std::find_if(device->streams.begin(), device->streams.end(), [&](const auto& own) { return own.get() == stream; });
  device->streams.erase(found);
  return remember(error);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  if (runtime.owner(stream) == nullptr) return remember(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = refuse_captured(stream); error != cudaSuccess) return remember(error);
  return remember(runtime.drain(stream));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  const auto found = runtime.events.find(event);
  if (runtime.owner(stream) == nullptr || found == runtime.events.end()) return remember(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = refuse_captured(stream); error != cudaSuccess) return remember(error);
  stream->push({nullptr, found->second, found->second->recorded});
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  auto made = std::make_shared<CUevent_st>();
  *event = made.get();
  runtime.events.emplace(made.get(), made);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  return remember(runtime.events.erase(event) == 1 ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  const auto found = runtime.events.find(event);
  if (runtime.owner(stream) == nullptr || found == runtime.events.end()) return remember(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = refuse_captured(stream); error != cudaSuccess) return remember(error);
  const int64_t recording = ++found->second->recorded;
  stream->push({[own = found->second, recording] {
                  own->passed = std::max(own->passed, recording);
                  return std::string();
                },
                nullptr, 0, true});
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  const auto found = runtime.events.find(event);
  if (found == runtime.events.end()) return remember(cudaErrorInvalidResourceHandle);
  for (const auto& [ordinal, device] : runtime.devices) {
    if (found->second->passed >= found->second->recorded) break;
    runtime.drain(*device);
    if (!device->failure.empty()) return remember(cudaErrorLaunchFailure);
  }
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  const auto found = runtime.events.find(event);
  if (found == runtime.events.end()) return remember(cudaErrorInvalidResourceHandle);
  return found->second->passed >= found->second->recorded ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  if (runtime.owner(stream) == nullptr) return remember(cudaErrorInvalidResourceHandle);
  if (stream->captured != nullptr) return remember(cudaErrorInvalidValue);
  stream->captured = std::make_unique<CUgraph_st>();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  *graph = nullptr;
  if (runtime.owner(stream) == nullptr) return remember(cudaErrorInvalidResourceHandle);
  if (stream->captured == nullptr) return remember(cudaErrorInvalidValue);
  std::unique_ptr<CUgraph_st> captured = std::move(stream->captured);
  if (captured->invalid) return remember(cudaErrorStreamCaptureInvalidated);
  *graph = captured.get();
  runtime.graphs.emplace(captured.get(), std::move(captured));
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  if (runtime.owner(stream) == nullptr) return remember(cudaErrorInvalidResourceHandle);
  *status = stream->captured == nullptr ? cudaStreamCaptureStatusNone
            : stream->captured->invalid ? cudaStreamCaptureStatusInvalidated
                                        : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  if (runtime.graphs.count(graph) == 0) return remember(cudaErrorInvalidValue);
  auto made = std::make_unique<CUgraphExec_st>();
  made->tasks = graph->tasks;
  *executable = made.get();
  runtime.executables.emplace(made.get(), std::move(made));
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  return remember(runtime.graphs.erase(graph) == 1 ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  RuntimeDevice* device = runtime.owner(stream);
  if (device == nullptr || runtime.executables.count(executable) == 0) return remember(cudaErrorInvalidValue);
  if (!device->failure.empty()) return remember(cudaErrorLaunchFailure);
  if (const cudaError_t error = refuse_captured(stream); error != cudaSuccess) return remember(error);
  for (const CUstream_st::Task& task : executable->tasks) stream->push(task);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  return remember(runtime.executables.erase(executable) == 1 ? cudaSuccess : cudaErrorInvalidValue);
}
