// The objects behind the opaque handles, and the steps that every operation of the ABI takes.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "core/backend.h"
#include "core/check.h"
#include "core/recording.h"

struct cudamoe_device {
  const cudamoe::Backend* backend = nullptr;
  void* device = nullptr;
  std::mutex mutex;
  struct Allocation {
    int64_t bytes;
    bool mapped;
  };
  std::unordered_map<void*, Allocation> allocations;
  std::unordered_set<void*> host_allocations;
  int64_t live_bytes = 0, mapped_bytes = 0;
  std::atomic<int64_t> streams{0};
};

struct cudamoe_stream {
  cudamoe_device* owner = nullptr;
  void* stream = nullptr;
  bool captured = false;                          // between cudamoe_capture_begin and cudamoe_capture_end
  std::unique_ptr<cudamoe::Recording> recording;  // where calls go meanwhile, when the backend has no captures of its own
  std::atomic<int64_t> captures{0};
};

namespace cudamoe {

// Not null and live. Reads nothing through a pointer that is not a live stream.
Check& check_stream(Check& check, const cudamoe_stream* stream);
// Of a live stream: that it is not being captured.
Check& check_not_captured(Check& check, const cudamoe_stream* stream);

// An operation: check_arguments(check, args, stream) states the rules and must not read device memory; then the backend runs.
template <class Args, class CheckArguments>
cudamoe_status run_operation(const char* function, cudamoe_stream* stream, const Args* args,
                             cudamoe_status (*Backend::*entry)(void*, const Args&), CheckArguments&& check_arguments) noexcept {
  try {
    Check check(function);
    check_stream(check, stream).arguments(args);
    if (check.ok()) check_arguments(check, *args, stream);
    if (!check.ok()) return check.status();
    auto* run = stream->owner->backend->*entry;
    if (run == nullptr)
      return fail(CUDAMOE_ERROR_UNSUPPORTED, "%s: the %s backend does not have this operation", function, stream->owner->backend->name);
    if (stream->recording != nullptr) {
      stream->recording->add(run, stream->stream, *args);
      return CUDAMOE_OK;
    }
    return run(stream->stream, *args);
  } catch (...) {
    return fail_from_exception(function);
  }
}

// A size query: the same rules, without those on pointers.
template <class Args, class CheckShape>
cudamoe_status run_query(const char* function, cudamoe_stream* stream, const Args* args, int64_t* bytes,
                         int64_t (*Backend::*entry)(void*, const Args&), CheckShape&& check_shape) noexcept {
  try {
    Check check(function);
    check_stream(check, stream).arguments(args);
    check.require(bytes != nullptr, "bytes is null; it must point to an int64");
    if (check.ok()) check_shape(check, *args);
    if (!check.ok()) return check.status();
    auto* run = stream->owner->backend->*entry;
    if (run == nullptr)
      return fail(CUDAMOE_ERROR_UNSUPPORTED, "%s: the %s backend does not have this operation", function, stream->owner->backend->name);
    *bytes = run(stream->stream, *args);
    return CUDAMOE_OK;
  } catch (...) {
    return fail_from_exception(function);
  }
}

// Bytes of work space that the stream's backend needs for args; the shape must have been checked.
template <class Args>
int64_t needed_bytes(const cudamoe_stream* stream, int64_t (*Backend::*entry)(void*, const Args&), const Args& args) {
  auto* query = stream->owner->backend->*entry;
  return query == nullptr ? 0 : query(stream->stream, args);
}

}  // namespace cudamoe
