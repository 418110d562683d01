// What the launches of a process moved, in the counting build: native/simt/CMakeLists.txt compiles the kernels with the calls that
// ThreadSanitizer wants at every access of memory, and callbacks.cpp answers them.
//
// Two floors of traffic are counted, in sectors of 32 bytes, as the hardware moves them:
//   memory  each sector that a launch reads counts once, each that it writes once: what device memory moves when the cache holds what the
//           launch uses again, and nothing from one launch to the next
//   cache   the same for each block: what the second-level cache moves when a block keeps what it uses again
// and the floating-point operations of fused multiply-adds and tensor cores.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "simt/traffic.h"

namespace cudamoe::simt {

struct Traffic {
  int64_t launches, memory_read, memory_written, cache_read, cache_written, operations;
};

class TrafficCounter final : public TrafficListener {
 public:
  static TrafficCounter& instance();

  void begin_launch(std::map<void*, size_t> device_memory) override;
  void begin_block() override { ++block_; }
  void end_launch() override { device_memory_.clear(); }
  void access(const void* address, size_t bytes, bool writes) override;
  void transfer(size_t bytes_read, size_t bytes_written) override;
  void count_operations(int64_t operations) { total_.operations += operations; }
  // The sums since the last call.
  Traffic take();

 private:
  static constexpr uintptr_t kSector = 32, kPage = 4096;

  // When a sector was last read and written: by which launch, by which block.
  struct Stamps {
    uint32_t launch[2], block[2];
  };
  struct Page {
    Stamps sector[kPage / kSector];
    uint32_t checked = 0;  // the launch in which `whole` and `none` were found
    bool whole = false;    // all of it is device memory
    bool none = false;
  };

  Page& page_of(uintptr_t address);
  bool is_device_memory(uintptr_t address) const;

  std::map<void*, size_t> device_memory_;
  std::unordered_map<uintptr_t, Page> pages_;
  uintptr_t last_number_ = 0;
  Page* last_page_ = nullptr;
  uint32_t launch_ = 0, block_ = 0;
  Traffic total_{};
};

}  // namespace cudamoe::simt
