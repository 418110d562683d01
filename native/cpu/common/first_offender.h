// The lowest index that any tile of an operation found to be bad, whatever the order in which the tiles ran.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>

namespace cudamoe::cpu {

class FirstOffender {
 public:
  // A negative index is ignored.
  void note(int64_t index) {
    if (index < 0) return;
    int64_t lowest = lowest_.load(std::memory_order_relaxed);
    while (index < lowest && !lowest_.compare_exchange_weak(lowest, index, std::memory_order_relaxed)) {
    }
  }

  // -1 when there was none.
  int64_t index() const {
    const int64_t lowest = lowest_.load(std::memory_order_relaxed);
    return lowest == kNone ? -1 : lowest;
  }

 private:
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  std::atomic<int64_t> lowest_{kNone};
};

}  // namespace cudamoe::cpu
