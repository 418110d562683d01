// Version, errors, backends, devices, memory and streams of the ABI. The operations are in core/<family>.
#include "core/abi.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/handle_pool.h"
#include "core/plugins.h"

namespace cudamoe {
namespace {

// Never destroyed: other threads may still hold handles when the process ends.
HandlePool<cudamoe_device>& devices() {
  static auto& pool = *new HandlePool<cudamoe_device>;
  return pool;
}

HandlePool<cudamoe_stream>& streams() {
  static auto& pool = *new HandlePool<cudamoe_stream>;
  return pool;
}

}  // namespace

Check& check_stream(Check& check, const cudamoe_stream* stream) {
  check.require(stream != nullptr, "stream is null; create one with cudamoe_stream_create");
  if (check.ok()) check.require(streams().alive(stream), "stream 0x%llx is not a live stream", address(stream));
  return check;
}

Check& check_not_captured(Check& check, const cudamoe_stream* stream) {
  return check.require(!stream->captured, "the stream is being captured; end that with cudamoe_capture_end first");
}

namespace {

Check& check_device(Check& check, const cudamoe_device* device) {
  check.require(device != nullptr, "device is null; open one with cudamoe_device_open");
  if (check.ok()) check.require(devices().alive(device), "device 0x%llx is not an open device", address(device));
  return check;
}

template <size_t N>
void copy_text(char (&destination)[N], const std::string& source) {
  std::memset(destination, 0, N);
  std::memcpy(destination, source.data(), source.size() < N ? source.size() : N - 1);
}

void check_new_stream(Check& check, cudamoe_device* device, cudamoe_stream** stream) {
  check.require(stream != nullptr, "stream is null; it must point to a handle");
  if (!check.ok()) return;
  *stream = nullptr;
  check_device(check, device);
}

// Takes over a stream of the device's backend.
cudamoe_stream* handle_of_stream(cudamoe_device* device, void* inner) {
  try {
    cudamoe_stream* handle = streams().create();
    handle->owner = device;
    handle->stream = inner;
    device->streams.fetch_add(1);
    return handle;
  } catch (...) {
    device->backend->stream_destroy(inner);
    throw;
  }
}

// As much of a text as fits, terminated; returns its whole length.
int64_t copy_out(const std::string& text, char* buffer, int64_t capacity) {
  if (buffer != nullptr && capacity > 0) {
    const size_t length = std::min(text.size(), static_cast<size_t>(capacity - 1));
    std::memcpy(buffer, text.data(), length);
    buffer[length] = '\0';
  }
  return static_cast<int64_t>(text.size());
}

void release_memory(cudamoe_device* device, void* pointer, const cudamoe_device::Allocation& allocation) {
  if (allocation.mapped) {
    device->backend->mapped_release(device->device, pointer);
  } else {
    device->backend->release(device->device, pointer, allocation.bytes);
  }
}

cudamoe_status allocate_memory(const char* function, cudamoe_device* device, int64_t bytes, bool mapped, void** pointer) noexcept {
  try {
    Check check(function);
    check_device(check, device).count("bytes", bytes);
    check.require(pointer != nullptr, "pointer is null; it must point to a pointer");
    if (!check.ok()) return check.status();
    *pointer = nullptr;
    void* memory = nullptr;
    const Backend& backend = *device->backend;
    const cudamoe_status status = (mapped ? backend.mapped_allocate : backend.allocate)(device->device, bytes, &memory);
    if (status != CUDAMOE_OK) return status;
    const cudamoe_device::Allocation allocation{bytes, mapped};
    try {
      const std::lock_guard lock(device->mutex);
      device->allocations.emplace(memory, allocation);
      (mapped ? device->mapped_bytes : device->live_bytes) += bytes;
    } catch (...) {
      release_memory(device, memory, allocation);
      throw;
    }
    *pointer = memory;
    return CUDAMOE_OK;
  } catch (...) {
    return fail_from_exception(function);
  }
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

int32_t cudamoe_abi_version(void) { return CUDAMOE_ABI_VERSION; }

const char* cudamoe_version(void) { return CUDAMOE_VERSION_TEXT; }

int64_t cudamoe_last_error(char* buffer, int64_t capacity) { return copy_out(last_error(), buffer, capacity); }

int64_t cudamoe_struct_size(const char* name) {
  if (name == nullptr) return -1;
#define CUDAMOE_SIZE(type) \
  if (std::strcmp(name, #type) == 0) return static_cast<int64_t>(sizeof(type));
#define CUDAMOE_ARGS_SIZE(operation) CUDAMOE_SIZE(cudamoe_##operation##_args)
  CUDAMOE_OPERATIONS(CUDAMOE_ARGS_SIZE)
  CUDAMOE_SIZE(cudamoe_backend_info)
  CUDAMOE_SIZE(cudamoe_device_info)
  CUDAMOE_SIZE(cudamoe_embedding_table)
  CUDAMOE_SIZE(cudamoe_embedding_feature)
  CUDAMOE_SIZE(cudamoe_embedding_cache)
  CUDAMOE_SIZE(cudamoe_embedding_cache_counters)
  CUDAMOE_SIZE(cudamoe_loss_task)
  CUDAMOE_SIZE(cudamoe_optimizer_tensor)
  CUDAMOE_SIZE(cudamoe_step_numbers)
#undef CUDAMOE_ARGS_SIZE
#undef CUDAMOE_SIZE
  return -1;
}

int32_t cudamoe_backend_count(void) { return plugin_count(); }

cudamoe_status cudamoe_backend_get_info(int32_t index, cudamoe_backend_info* info) {
  const char* function = "cudamoe_backend_get_info";
  try {
    Check check(function);
    check.range("index", index, 0, plugin_count() - 1).arguments(info);
    if (!check.ok()) return check.status();
    const Plugin& plugin = load_plugin(index);
    info->usable = plugin.backend != nullptr;
    copy_text(info->name, plugin.name);
    copy_text(info->library, plugin.library);
    copy_text(info->reason, plugin.reason);
    return CUDAMOE_OK;
  } catch (...) {
    return fail_from_exception(function);
  }
}

cudamoe_status cudamoe_device_open(const char* spec, cudamoe_device** device) {
  const char* function = "cudamoe_device_open";
  try {
    Check check(function);
    check.require(device != nullptr, "device is null; it must point to a handle");
    if (!check.ok()) return check.status();
    *device = nullptr;
    check.require(spec != nullptr, "spec is null; it must be a name such as \"cpu\"");
    if (!check.ok()) return check.status();
    const std::string text = spec;
    const size_t colon = text.find(':');
    const std::string name = text.substr(0, colon);
    const std::string options = colon == std::string::npos ? "" : text.substr(colon + 1);
    const Backend* backend = nullptr;
    void* opened = nullptr;
    const cudamoe_status status = open_backend_device(name, options, &backend, &opened);
    if (status != CUDAMOE_OK) return status;
    try {
      cudamoe_device* handle = devices().create();
      handle->backend = backend;
      handle->device = opened;
      *device = handle;
    } catch (...) {
      backend->device_close(opened);
      throw;
    }
    return CUDAMOE_OK;
  } catch (...) {
    return fail_from_exception(function);
  }
}

cudamoe_status cudamoe_device_close(cudamoe_device* device) {
  const char* function = "cudamoe_device_close";
  if (device == nullptr) return CUDAMOE_OK;
  try {
    Check check(function);
    check_device(check, device);
    if (!check.ok()) return check.status();
    {
      const std::lock_guard lock(device->mutex);
      check.require(device->streams.load() == 0, "%lld streams are still open; destroy them first",
                    static_cast<long long>(device->streams.load()));
      check.require(device->allocations.empty(), "%zu allocations (%lld bytes) are still live; free them first", device->allocations.size(),
                    static_cast<long long>(device->live_bytes + device->mapped_bytes));
      check.require(device->host_allocations.empty(), "%zu host allocations are still live; free them first",
                    device->host_allocations.size());
      if (!check.ok()) return check.status();
    }
    const Backend* backend = device->backend;
    void* inner = device->device;
    if (!devices().destroy(device)) check_device(check, device);
    if (!check.ok()) return check.status();
    backend->device_close(inner);
    return CUDAMOE_OK;
  } catch (...) {
    return fail_from_exception(function);
  }
}

cudamoe_status cudamoe_device_get_info(cudamoe_device* device, cudamoe_device_info* info) {
  const char* function = "cudamoe_device_get_info";
  try {
    Check check(function);
    check_device(check, device).arguments(info);
    if (!check.ok()) return check.status();
    const uint32_t struct_size = info->struct_size;
    std::memset(info, 0, sizeof *info);
    info->struct_size = struct_size;
    device->backend->device_info(device->device, info);
    copy_text(info->backend, device->backend->name);
    const std::lock_guard lock(device->mutex);
    info->live_bytes = device->live_bytes;
    info->mapped_bytes = device->mapped_bytes;
    info->live_allocations = static_cast<int64_t>(device->allocations.size());
    return CUDAMOE_OK;
  } catch (...) {
    return fail_from_exception(function);
  }
}

cudamoe_status cudamoe_device_get_notes(cudamoe_device* device, char* buffer, int64_t capacity, int64_t* bytes) {
  const char* function = "cudamoe_device_get_notes";
  try {
    Check check(function);
    check_device(check, device).count("capacity", capacity);
    check.require(buffer != nullptr || capacity == 0, "buffer is null; it may be only when capacity is 0");
    check.require(bytes != nullptr, "bytes is null; it must point to a count");
    if (!check.ok()) return check.status();
    const std::string notes = device->backend->device_notes == nullptr ? "" : device->backend->device_notes(device->device);
    *bytes = copy_out(notes, buffer, capacity);
    return CUDAMOE_OK;
  } catch (...) {
    return fail_from_exception(function);
  }
}

cudamoe_status cudamoe_memory_allocate(cudamoe_device* device, int64_t bytes, void** pointer) {
  return allocate_memory("cudamoe_memory_allocate", device, bytes, false, pointer);
}

cudamoe_status cudamoe_memory_allocate_mapped(cudamoe_device* device, int64_t bytes, void** pointer) {
  return allocate_memory("cudamoe_memory_allocate_mapped", device, bytes, true, pointer);
}

cudamoe_status cudamoe_memory_free(cudamoe_device* device, void* pointer) {
  const char* function = "cudamoe_memory_free";
  if (pointer == nullptr) return CUDAMOE_OK;
  try {
    Check check(function);
    check_device(check, device);
    if (!check.ok()) return check.status();
    cudamoe_device::Allocation allocation{};
    {
      const std::lock_guard lock(device->mutex);
      const auto found = device->allocations.find(pointer);
      check.require(found != device->allocations.end(), "pointer 0x%llx is not a live allocation of this device", address(pointer));
      if (!check.ok()) return check.status();
      allocation = found->second;
      (allocation.mapped ? device->mapped_bytes : device->live_bytes) -= allocation.bytes;
      device->allocations.erase(found);
    }
    release_memory(device, pointer, allocation);
    return CUDAMOE_OK;
  } catch (...) {
    return fail_from_exception(function);
  }
}

cudamoe_status cudamoe_host_allocate(cudamoe_device* device, int64_t bytes, void** pointer) {
  const char* function = "cudamoe_host_allocate";
  try {
    Check check(function);
    check_device(check, device).count("bytes", bytes);
    check.require(pointer != nullptr, "pointer is null; it must point to a pointer");
    if (!check.ok()) return check.status();
    *pointer = nullptr;
    void* memory = nullptr;
    const cudamoe_status status = device->backend->host_allocate(device->device, bytes, &memory);
    if (status != CUDAMOE_OK) return status;
    try {
      const std::lock_guard lock(device->mutex);
      device->host_allocations.insert(memory);
    } catch (...) {
      device->backend->host_release(device->device, memory);
      throw;
    }
    *pointer = memory;
    return CUDAMOE_OK;
  } catch (...) {
    return fail_from_exception(function);
  }
}

cudamoe_status cudamoe_host_free(cudamoe_device* device, void* pointer) {
  const char* function = "cudamoe_host_free";
  if (pointer == nullptr) return CUDAMOE_OK;
  try {
    Check check(function);
    check_device(check, device);
    if (!check.ok()) return check.status();
    {
      const std::lock_guard lock(device->mutex);
      check.require(device->host_allocations.erase(pointer) == 1, "pointer 0x%llx is not live host memory of this device",
                    address(pointer));
      if (!check.ok()) return check.status();
    }
    device->backend->host_release(device->device, pointer);
    return CUDAMOE_OK;
  } catch (...) {
    return fail_from_exception(function);
  }
}

cudamoe_status cudamoe_memory_copy(cudamoe_stream* stream, void* destination, const void* source, int64_t bytes, int32_t direction) {
  const char* function = "cudamoe_memory_copy";
  try {
    Check check(function);
    check_stream(check, stream).count("bytes", bytes).range("direction", direction, CUDAMOE_HOST_TO_DEVICE, CUDAMOE_DEVICE_TO_DEVICE);
    check.data("destination", destination, 1, bytes).data("source", source, 1, bytes);
    check.disjoint("destination", destination, bytes, "source", source, bytes);
    if (!check.ok()) return check.status();
    check.require(!stream->captured || direction == CUDAMOE_DEVICE_TO_DEVICE,
                  "direction is %d; while the stream is being captured it must be CUDAMOE_DEVICE_TO_DEVICE", direction);
    if (!check.ok()) return check.status();
    const auto copy = [=] { return stream->owner->backend->copy(stream->stream, destination, source, bytes, direction); };
    if (stream->recording == nullptr) return copy();
    stream->recording->add(copy);
    return CUDAMOE_OK;
  } catch (...) {
    return fail_from_exception(function);
  }
}

cudamoe_status cudamoe_memory_fill(cudamoe_stream* stream, void* destination, int32_t value, int64_t bytes) {
  const char* function = "cudamoe_memory_fill";
  try {
    Check check(function);
    check_stream(check, stream).range("value", value, 0, 255).count("bytes", bytes).data("destination", destination, 1, bytes);
    if (!check.ok()) return check.status();
    const auto fill = [=] { return stream->owner->backend->fill(stream->stream, destination, value, bytes); };
    if (stream->recording == nullptr) return fill();
    stream->recording->add(fill);
    return CUDAMOE_OK;
  } catch (...) {
    return fail_from_exception(function);
  }
}

cudamoe_status cudamoe_stream_create(cudamoe_device* device, cudamoe_stream** stream) {
  const char* function = "cudamoe_stream_create";
  try {
    Check check(function);
    check_new_stream(check, device, stream);
    if (!check.ok()) return check.status();
    void* created = nullptr;
    const cudamoe_status status = device->backend->stream_create(device->device, &created);
    if (status == CUDAMOE_OK) *stream = handle_of_stream(device, created);
    return status;
  } catch (...) {
    return fail_from_exception(function);
  }
}

cudamoe_status cudamoe_stream_wrap(cudamoe_device* device, void* native, cudamoe_stream** stream) {
  const char* function = "cudamoe_stream_wrap";
  try {
    Check check(function);
    check_new_stream(check, device, stream);
    if (check.ok()) check.require(native != nullptr, "native is null; the default stream cannot be captured, so make one for this library");
    if (!check.ok()) return check.status();
    if (device->backend->stream_wrap == nullptr)
      return fail(CUDAMOE_ERROR_UNSUPPORTED, "%s: streams of the %s backend are its own", function, device->backend->name);
    void* wrapped = nullptr;
    const cudamoe_status status = device->backend->stream_wrap(device->device, native, &wrapped);
    if (status == CUDAMOE_OK) *stream = handle_of_stream(device, wrapped);
    return status;
  } catch (...) {
    return fail_from_exception(function);
  }
}

cudamoe_status cudamoe_stream_get_native(cudamoe_stream* stream, void** native) {
  const char* function = "cudamoe_stream_get_native";
  try {
    Check check(function);
    check_stream(check, stream);
    check.require(native != nullptr, "native is null; it must point to a pointer");
    if (!check.ok()) return check.status();
    const Backend& backend = *stream->owner->backend;
    if (backend.stream_native == nullptr)
      return fail(CUDAMOE_ERROR_UNSUPPORTED, "%s: streams of the %s backend are its own", function, backend.name);
    *native = backend.stream_native(stream->stream);
    return CUDAMOE_OK;
  } catch (...) {
    return fail_from_exception(function);
  }
}

cudamoe_status cudamoe_stream_destroy(cudamoe_stream* stream) {
  const char* function = "cudamoe_stream_destroy";
  if (stream == nullptr) return CUDAMOE_OK;
  try {
    Check check(function);
    check_stream(check, stream);
    if (check.ok()) {
      check.require(stream->captures.load() == 0, "%lld captures are still live; destroy them first",
                    static_cast<long long>(stream->captures.load()));
    }
    if (!check.ok()) return check.status();
    cudamoe_device* owner = stream->owner;
    void* inner = stream->stream;
    const bool captured = stream->captured && stream->recording == nullptr;
    if (!streams().destroy(stream)) check_stream(check, stream);
    if (!check.ok()) return check.status();
    if (void* dropped = nullptr; captured && owner->backend->capture_end(inner, &dropped) == CUDAMOE_OK)
      owner->backend->capture_destroy(inner, dropped);
    owner->backend->stream_destroy(inner);
    owner->streams.fetch_sub(1);
    return CUDAMOE_OK;
  } catch (...) {
    return fail_from_exception(function);
  }
}

cudamoe_status cudamoe_stream_synchronize(cudamoe_stream* stream) {
  const char* function = "cudamoe_stream_synchronize";
  try {
    Check check(function);
    check_stream(check, stream);
    if (check.ok()) check_not_captured(check, stream);
    if (!check.ok()) return check.status();
    return stream->owner->backend->stream_synchronize(stream->stream);
  } catch (...) {
    return fail_from_exception(function);
  }
}

}  // extern "C"
