// Captures of the ABI: what is called on a stream between begin and end, kept to be run again. A backend without captures of its own runs
// operations when they are called; its calls are recorded here.
#include "core/abi.h"
#include "core/handle_pool.h"

struct cudamoe_capture {
  cudamoe_stream* stream = nullptr;
  void* capture = nullptr;                        // the backend's
  std::unique_ptr<cudamoe::Recording> recording;  // or the calls, when the backend has none
};

namespace cudamoe {
namespace {

HandlePool<cudamoe_capture>& captures() {
  static auto& pool = *new HandlePool<cudamoe_capture>;
  return pool;
}

Check& check_capture(Check& check, const cudamoe_capture* capture) {
  check.require(capture != nullptr, "capture is null; cudamoe_capture_end makes one");
  if (check.ok()) check.require(captures().alive(capture), "capture 0x%llx is not a live capture", address(capture));
  return check;
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_capture_begin(cudamoe_stream* stream) {
  const char* function = "cudamoe_capture_begin";
  try {
    Check check(function);
    check_stream(check, stream);
    if (check.ok()) check_not_captured(check, stream);
    if (!check.ok()) return check.status();
    const Backend& backend = *stream->owner->backend;
    if (backend.capture_begin == nullptr) {
      stream->recording = std::make_unique<Recording>();
    } else if (const cudamoe_status status = backend.capture_begin(stream->stream); status != CUDAMOE_OK) {
      return status;
    }
    stream->captured = true;
    return CUDAMOE_OK;
  } catch (...) {
    return fail_from_exception(function);
  }
}

cudamoe_status cudamoe_capture_end(cudamoe_stream* stream, cudamoe_capture** capture) {
  const char* function = "cudamoe_capture_end";
  try {
    Check check(function);
    check.require(capture != nullptr, "capture is null; it must point to a handle");
    if (!check.ok()) return check.status();
    *capture = nullptr;
    check_stream(check, stream);
    if (check.ok()) check.require(stream->captured, "the stream is not being captured; cudamoe_capture_begin starts it");
    if (!check.ok()) return check.status();
    const Backend& backend = *stream->owner->backend;
    std::unique_ptr<Recording> recording = std::move(stream->recording);
    stream->captured = false;
    void* made = nullptr;
    if (recording == nullptr) {
      const cudamoe_status status = backend.capture_end(stream->stream, &made);
      if (status != CUDAMOE_OK) return status;
    }
    try {
      cudamoe_capture* handle = captures().create();
      handle->stream = stream;
      handle->capture = made;
      handle->recording = std::move(recording);
      stream->captures.fetch_add(1);
      *capture = handle;
    } catch (...) {
      if (made != nullptr) backend.capture_destroy(stream->stream, made);
      throw;
    }
    return CUDAMOE_OK;
  } catch (...) {
    return fail_from_exception(function);
  }
}

cudamoe_status cudamoe_capture_launch(cudamoe_capture* capture) {
  const char* function = "cudamoe_capture_launch";
  try {
    Check check(function);
    check_capture(check, capture);
    if (check.ok()) check_not_captured(check, capture->stream);
    if (!check.ok()) return check.status();
    if (capture->recording != nullptr) return capture->recording->run();
    return capture->stream->owner->backend->capture_launch(capture->stream->stream, capture->capture);
  } catch (...) {
    return fail_from_exception(function);
  }
}

cudamoe_status cudamoe_capture_destroy(cudamoe_capture* capture) {
  const char* function = "cudamoe_capture_destroy";
  if (capture == nullptr) return CUDAMOE_OK;
  try {
    Check check(function);
    check_capture(check, capture);
    if (!check.ok()) return check.status();
    cudamoe_stream* stream = capture->stream;
    void* inner = capture->capture;
    if (!captures().destroy(capture)) check_capture(check, capture);
    if (!check.ok()) return check.status();
    if (inner != nullptr) stream->owner->backend->capture_destroy(stream->stream, inner);
    stream->captures.fetch_sub(1);
    return CUDAMOE_OK;
  } catch (...) {
    return fail_from_exception(function);
  }
}

}  // extern "C"
