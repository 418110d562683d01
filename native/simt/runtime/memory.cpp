// Memory of the executor's devices and page-locked host memory, whose ranges are known, so that a copy out of bounds is an error.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "simt/runtime/runtime.h"
#include "simt/traffic.h"

using namespace cudamoe::simt;

namespace {

// Whether the range lies in one block of page-locked host memory.
bool within(const std::map<void*, size_t>& blocks, const void* pointer, size_t bytes) {
  auto after = blocks.upper_bound(const_cast<void*>(pointer));
  if (after == blocks.begin()) return false;
  const auto& [begin, size] = *--after;
  const size_t offset = static_cast<size_t>(static_cast<const char*>(pointer) - static_cast<const char*>(begin));
  return offset <= size && bytes <= size - offset;
}

// Whether kernels, copies and fills may use the range as device memory: the device's own, or page-locked host memory, which has one address
// on both sides.
bool device_reaches(const void* pointer, size_t bytes) {
  const Runtime& runtime = Runtime::instance();
  return runtime.device_memory.contains(pointer, bytes) || within(runtime.host_memory, pointer, bytes);
}

cudaError_t allocate(RuntimeDevice* device, void** pointer, size_t bytes) {
  *pointer = nullptr;
  if (device == nullptr) return cudaErrorInvalidDevice;
  if (!device->failure.empty()) return cudaErrorLaunchFailure;
  DeviceMemory& memory = Runtime::instance().device_memory;
  const size_t limit = memory_of(*device), used = memory.used(device->ordinal);
  if (bytes > limit || used > limit - bytes) return cudaErrorMemoryAllocation;
  *pointer = memory.allocate(bytes, device->ordinal);
  return *pointer == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

// What work reports whose memory was there when it was queued.
std::string freed_too_early(const char* use, const void* pointer) {
  char text[96];
  std::snprintf(text, sizeof text, "%s device memory at %p after it was freed", use, pointer);
  return text;
}

}  // namespace

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  return allocate(runtime.current(), pointer, bytes);
}

// Waits for the device, as the real one does.
cudaError_t cudaFree(void* pointer) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  RuntimeDevice* device = runtime.current();
  if (device == nullptr) return cudaErrorInvalidDevice;
  const cudaError_t work = runtime.drain(*device);
  if (pointer != nullptr && !runtime.device_memory.release(pointer)) return cudaErrorInvalidValue;
  return work;
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  *pointer = nullptr;
  if (bytes > physical_memory() || posix_memalign(pointer, DeviceMemory::kAlignment, bytes > 0 ? bytes : DeviceMemory::kAlignment) != 0)
    return cudaErrorMemoryAllocation;
  runtime.host_memory.emplace(*pointer, bytes);
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* pointer) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  for (const auto& [ordinal, device] : runtime.devices) runtime.drain(*device);
  if (pointer == nullptr) return cudaSuccess;
  if (runtime.host_memory.erase(pointer) == 0) return cudaErrorInvalidValue;
  std::free(pointer);
  return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  if (!within(runtime.host_memory, host, 0)) return cudaErrorInvalidValue;
  *device = host;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* destination, const void* source, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  RuntimeDevice* device = runtime.owner(stream);
  if (device == nullptr) return cudaErrorInvalidResourceHandle;
  if (!device->failure.empty()) return cudaErrorLaunchFailure;
  if (bytes == 0) return cudaSuccess;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  if ((from_device && !device_reaches(source, bytes)) || (to_device && !device_reaches(destination, bytes))) return cudaErrorInvalidValue;
  if (stream->captured != nullptr && kind != cudaMemcpyDeviceToDevice) {
    stream->captured->invalid = true;
    return cudaErrorStreamCaptureUnsupported;
  }
  const auto move = [=](const void* from) {
    if (from_device && !device_reaches(source, bytes)) return freed_too_early("a copy from", source);
    if (to_device && !device_reaches(destination, bytes)) return freed_too_early("a copy to", destination);
    std::memcpy(destination, from, bytes);
    return std::string();
  };
  if (!from_device && !within(runtime.host_memory, source, bytes)) {
    // Pageable host memory is read before the call returns.
    std::vector<char> copy(static_cast<const char*>(source), static_cast<const char*>(source) + bytes);
    stream->push({[move, copy = std::move(copy)] { return move(copy.data()); }, nullptr});
  } else {
    stream->push({[move, source, bytes] {
                    if (traffic_listener != nullptr) traffic_listener->transfer(bytes, bytes);
                    return move(source);
                  },
                  nullptr});
  }
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* destination, int value, size_t bytes, cudaStream_t stream) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  RuntimeDevice* device = runtime.owner(stream);
  if (device == nullptr) return cudaErrorInvalidResourceHandle;
  if (!device->failure.empty()) return cudaErrorLaunchFailure;
  if (bytes == 0) return cudaSuccess;
  if (!device_reaches(destination, bytes)) return cudaErrorInvalidValue;
  stream->push({[destination, value, bytes] {
                  if (!device_reaches(destination, bytes)) return freed_too_early("a fill of", destination);
                  if (traffic_listener != nullptr) traffic_listener->transfer(0, bytes);
                  std::memset(destination, value, bytes);
                  return std::string();
                },
                nullptr});
  return cudaSuccess;
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  if (properties->allocType != cudaMemAllocationTypePinned || properties->location.type != cudaMemLocationTypeDevice)
    return cudaErrorInvalidValue;
  if (runtime.devices.count(properties->location.id) == 0) return cudaErrorInvalidDevice;
  auto made = std::make_unique<CUmemPoolHandle_st>();
  *pool = made.get();
  runtime.pools.emplace(made.get(), std::move(made));
  return cudaSuccess;
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  return runtime.pools.erase(pool) == 1 ? cudaSuccess : cudaErrorInvalidValue;
}

// The executor's pools hold on to nothing: freed memory is gone, so that its use is found.
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void*) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  return runtime.pools.count(pool) == 1 && attribute == cudaMemPoolAttrReleaseThreshold ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMallocFromPoolAsync(void** pointer, size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  return runtime.pools.count(pool) == 0 ? cudaErrorInvalidValue : allocate(runtime.owner(stream), pointer, bytes);
}

// The memory goes when the stream comes to it, after a failure of the device too.
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  if (runtime.owner(stream) == nullptr) return cudaErrorInvalidResourceHandle;
  if (!runtime.device_memory.contains(pointer, 0)) return cudaErrorInvalidValue;
  stream->push({[pointer] {
                  Runtime::instance().device_memory.release(pointer);
                  return std::string();
                },
                nullptr, 0, true});
  return cudaSuccess;
}

// Small numbers of multiprocessors, as of a small GPU, so that grids that depend on it stay small.
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int ordinal) {
  Runtime& runtime = Runtime::instance();
  const std::lock_guard lock(runtime.mutex);
  const auto found = runtime.devices.find(ordinal);
  if (found == runtime.devices.end()) return cudaErrorInvalidDevice;
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "host executor of CUDA thread blocks");
  properties->totalGlobalMem = memory_of(*found->second);
  properties->multiProcessorCount = 4;
  properties->major = found->second->options.architecture / 10;
  properties->minor = found->second->options.architecture % 10;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  if (attribute != cudaDevAttrMemoryPoolsSupported) return cudaErrorInvalidValue;
  *value = 1;
  return cudaSuccess;
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    default:
      return "an error of GPUs alone";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorLaunchFailure:
      return "unspecified launch failure";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    default:
      return "an error that the executor does not make";
  }
}
