// Where the executor tells what a launch moves. Nobody listens but in the counting build of the kernels (native/simt/traffic).
#pragma once

#include <cstddef>
#include <map>

namespace cudamoe::simt {

class TrafficListener {
 public:
  virtual ~TrafficListener() = default;
  // A launch begins; blocks run one after the other unless the schedule is random.
  virtual void begin_launch(std::map<void*, size_t> device_memory) = 0;
  virtual void begin_block() = 0;
  virtual void end_launch() = 0;
  // A thread reads or writes memory that may be global.
  virtual void access(const void* address, size_t bytes, bool writes) = 0;
  // A fill or a copy by the runtime.
  virtual void transfer(size_t bytes_read, size_t bytes_written) = 0;
};

// Null: nothing is counted.
extern constinit TrafficListener* traffic_listener;

}  // namespace cudamoe::simt
