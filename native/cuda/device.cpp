// Devices, memory, streams and copies.
#include "cuda/device.h"

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "common/report.cuh"
#include "cuda/platform.h"

namespace cudamoe::cuda {

namespace {

// CUDAMOE_TRIALS: on or off; what else it says counts as unset.
bool tries_kernels_here() {
  const char* set = std::getenv("CUDAMOE_TRIALS");
  const std::string text = set == nullptr ? "" : set;
  return text == "on" || (text != "off" && tries_kernels());
}

}  // namespace

bool is_sticky(cudaError_t error) {
  switch (error) {
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

Device::Device(int ordinal, const cudaDeviceProp& properties)
    : ordinal_(ordinal),
      properties_(properties),
      trials_(tries_kernels_here(), tries_kernels_here() ? trial_log_path(properties.name, driver_version()) : "") {}

cudamoe_status Device::check(cudaError_t error, const char* function, const char* what) const {
  if (error == cudaSuccess) return CUDAMOE_OK;
  cudaGetLastError();  // an error that is not sticky must not show up at the next call
  if (is_sticky(error)) faulted_ = true;
  const std::string detail = failure_detail(ordinal_);
  const cudamoe_status status = error == cudaErrorMemoryAllocation ? CUDAMOE_ERROR_OUT_OF_MEMORY : CUDAMOE_ERROR_DEVICE;
  return fail(status, "%s: %s failed on %s:%d: %s (%s)%s%s", function, what, backend_name(), ordinal_, cudaGetErrorString(error),
              cudaGetErrorName(error), detail.empty() ? "" : ": ", detail.c_str());
}

namespace {

Device& device_of(void* device) {
  auto& own = *static_cast<Device*>(device);
  own.use();
  return own;
}

cudamoe_status device_open(const char* options, void** device) {
  const char* function = "cudamoe_device_open";
  int ordinal = -1;
  const cudamoe_status found = find_device(options, &ordinal);
  if (found != CUDAMOE_OK) return found;
  try {
    cudaDeviceProp properties{};
    cudaError_t error = cudaGetDeviceProperties(&properties, ordinal);
    if (error == cudaSuccess) error = cudaSetDevice(ordinal);
    auto opened = std::make_unique<Device>(ordinal, properties);
    if (error == cudaSuccess) error = opened->memory().open(ordinal);
    const cudamoe_status status = opened->check(error, function, "opening the device");
    if (status == CUDAMOE_OK) {
      *device = opened.release();
    } else {
      opened.reset();
      leave_device(ordinal);
    }
    return status;
  } catch (...) {
    leave_device(ordinal);
    throw;
  }
}

void device_close(void* device) {
  std::unique_ptr<Device> own(&device_of(device));
  const int ordinal = own->ordinal();
  own.reset();
  leave_device(ordinal);
}

void device_info(void* device, cudamoe_device_info* info) {
  const Device& own = *static_cast<Device*>(device);
  info->threads = own.multiprocessors();
  info->host_accessible = host_accessible() ? 1 : 0;
  info->supports_bf16 = 1;
  info->faulted = own.faulted() ? 1 : 0;
  info->memory_bytes = static_cast<int64_t>(own.properties().totalGlobalMem);
  std::snprintf(info->name, sizeof info->name, "%.127s", own.properties().name);
  std::snprintf(info->level, sizeof info->level, "sm_%d", own.architecture());
}

std::string device_notes(void* device) { return static_cast<Device*>(device)->trials().notes(); }

cudamoe_status allocate(void* device, int64_t bytes, void** pointer) {
  Device& own = device_of(device);
  char what[64];
  std::snprintf(what, sizeof what, "allocating %lld bytes", static_cast<long long>(bytes));
  return own.check(own.memory().allocate(pointer, static_cast<size_t>(bytes > 0 ? bytes : 1)), "cudamoe_memory_allocate", what);
}

void release(void* device, void* pointer, int64_t) { device_of(device).memory().release(pointer); }

cudamoe_status mapped_allocate(void* device, int64_t bytes, void** pointer) {
  Device& own = device_of(device);
  char what[64];
  std::snprintf(what, sizeof what, "allocating %lld bytes of mapped host memory", static_cast<long long>(bytes));
  return own.check(own.memory().allocate_mapped(pointer, static_cast<size_t>(bytes > 0 ? bytes : 1)), "cudamoe_memory_allocate_mapped",
                   what);
}

void mapped_release(void* device, void* pointer) { device_of(device).memory().release_mapped(pointer); }

cudamoe_status host_allocate(void* device, int64_t bytes, void** pointer) {
  const Device& own = device_of(device);
  char what[64];
  std::snprintf(what, sizeof what, "allocating %lld bytes of host memory", static_cast<long long>(bytes));
  return own.check(cudaHostAlloc(pointer, static_cast<size_t>(bytes > 0 ? bytes : 1), cudaHostAllocDefault), "cudamoe_host_allocate", what);
}

void host_release(void* device, void* pointer) {
  device_of(device);
  cudaFreeHost(pointer);
}

// Around a stream of the runtime, a new one where `native` is null.
cudamoe_status make_stream(void* device, cudaStream_t native, void** stream, const char* function) {
  Device& own = device_of(device);
  void *report = nullptr, *device_report = nullptr, *scratch = nullptr;
  cudaStream_t used = native;
  const auto undo = [&] {
    if (used != nullptr) own.memory().leave(used);
    if (used != nullptr && native == nullptr) cudaStreamDestroy(used);
    if (scratch != nullptr) cudaFree(scratch);
    if (report != nullptr) cudaFreeHost(report);
  };
  cudaError_t error = cudaHostAlloc(&report, sizeof(kernels::DeviceReport), cudaHostAllocMapped);
  if (error == cudaSuccess) error = cudaHostGetDevicePointer(&device_report, report, 0);
  if (error == cudaSuccess) error = cudaMalloc(&scratch, Stream::kScratchBytes);
  if (error == cudaSuccess && native == nullptr) error = cudaStreamCreateWithFlags(&used, cudaStreamNonBlocking);
  if (error == cudaSuccess) error = cudaMemsetAsync(scratch, 0, Stream::kScratchBytes, used);
  if (error == cudaSuccess) error = own.memory().join(used);
  if (error != cudaSuccess) {
    undo();
    return own.check(error, function, "making a stream");
  }
  auto* record = static_cast<kernels::DeviceReport*>(report);
  *record = {};
  try {
    *stream = new Stream(own, used, native == nullptr, record, static_cast<kernels::DeviceReport*>(device_report), scratch);
  } catch (...) {
    undo();
    throw;
  }
  return CUDAMOE_OK;
}

cudamoe_status stream_create(void* device, void** stream) { return make_stream(device, nullptr, stream, "cudamoe_stream_create"); }

cudamoe_status stream_wrap(void* device, void* native, void** stream) {
  // cudaStreamLegacy and cudaStreamPerThread. Events that another thread records would be of another stream.
  if (const auto value = reinterpret_cast<uintptr_t>(native); value <= 2) {
    return fail(CUDAMOE_ERROR_ARGUMENT, "cudamoe_stream_wrap: native is %d, the %s; make a stream for this library",
                static_cast<int>(value), value == 1 ? "legacy default stream" : "default stream of each thread");
  }
  return make_stream(device, static_cast<cudaStream_t>(native), stream, "cudamoe_stream_wrap");
}

void* stream_native(void* stream) { return stream_of(stream).get(); }

void stream_destroy(void* stream) {
  const std::unique_ptr<Stream> own(&stream_of(stream));
  cudaStreamSynchronize(own->get());
  own->device().memory().leave(own->get());
  if (own->owned()) cudaStreamDestroy(own->get());
  cudaFree(own->scratch());
  cudaFreeHost(own->report());
}

cudamoe_status stream_synchronize(void* stream) {
  const Stream& own = stream_of(stream);
  const cudamoe_status status =
      own.device().check(cudaStreamSynchronize(own.get()), "cudamoe_stream_synchronize", "earlier work of the stream");
  if (status != CUDAMOE_OK) return status;
  const kernels::DeviceReport report = *own.report();
  if (report.operations == 0) return CUDAMOE_OK;
  *own.report() = {};
  return fail_from_report(report);
}

cudamoe_status copy(void* stream, void* destination, const void* source, int64_t bytes, int32_t direction) {
  const char* function = "cudamoe_memory_copy";
  const Stream& own = stream_of(stream);
  if (bytes == 0) return CUDAMOE_OK;
  const cudaMemcpyKind kind = direction == CUDAMOE_HOST_TO_DEVICE   ? cudaMemcpyHostToDevice
                              : direction == CUDAMOE_DEVICE_TO_HOST ? cudaMemcpyDeviceToHost
                                                                    : cudaMemcpyDeviceToDevice;
  cudaError_t error = cudaMemcpyAsync(destination, source, static_cast<size_t>(bytes), kind, own.get());
  if (error == cudaSuccess && direction == CUDAMOE_DEVICE_TO_HOST) error = cudaStreamSynchronize(own.get());
  return own.device().check(error, function, "the copy, or earlier work of the stream,");
}

cudamoe_status fill(void* stream, void* destination, int32_t value, int64_t bytes) {
  const Stream& own = stream_of(stream);
  if (bytes == 0) return CUDAMOE_OK;
  return own.device().check(cudaMemsetAsync(destination, value, static_cast<size_t>(bytes), own.get()), "cudamoe_memory_fill", "the fill");
}

Backend make_table() {
  Backend table{};
  table.version = kBackendVersion;
  table.name = backend_name();
  table.usable = platform_usable;
  table.device_open = device_open;
  table.device_close = device_close;
  table.device_info = device_info;
  table.device_notes = device_notes;
  table.allocate = allocate;
  table.release = release;
  table.mapped_allocate = mapped_allocate;
  table.mapped_release = mapped_release;
  table.host_allocate = host_allocate;
  table.host_release = host_release;
  table.stream_create = stream_create;
  table.stream_wrap = stream_wrap;
  table.stream_native = stream_native;
  table.stream_destroy = stream_destroy;
  table.stream_synchronize = stream_synchronize;
  table.copy = copy;
  table.fill = fill;
  register_capture(table);
  register_activation(table);
  register_attention(table);
  register_balance(table);
  register_combine(table);
  register_embedding(table);
  register_expert(table);
  register_gating(table);
  register_gemm(table);
  register_graph(table);
  register_loss(table);
  register_norm(table);
  register_optimizer(table);
  name_ranges(table);
  return table;
}

}  // namespace

const Backend& backend() {
  static const Backend table = make_table();
  return table;
}

}  // namespace cudamoe::cuda
