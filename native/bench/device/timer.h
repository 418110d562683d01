// The time that work of a stream takes on its device.
#pragma once

#include <functional>
#include <memory>

#include "device/engine.h"

namespace cudamoe::bench {

class Timer {
 public:
  virtual ~Timer() = default;
  // Seconds from the begin to the end of what `work` puts into the stream, which waits for it.
  virtual double seconds(const std::function<void()>& work) = 0;
  virtual const char* about() const = 0;
};

// By events of the driver on a GPU, else by the clock of the host.
std::unique_ptr<Timer> make_timer(DeviceEngine& engine);

// The CUstream of a stream of the cuda backend.
void* native_stream(cudamoe_stream* stream);

}  // namespace cudamoe::bench
