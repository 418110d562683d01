// What the hardware leaves open and the executor decides: which thread runs next, which blocks are resident together, when asynchronous
// copies land. A kernel must be right for every choice; a schedule and its seed make a run repeatable.
#pragma once

#include <cstdint>

namespace cudamoe::simt {

enum class Order {
  kForward,   // ascending threads and blocks, one block at a time
  kReverse,   // descending
  kRandom,    // any ready thread of any resident block, also between atomics
  kOneAhead,  // one thread of a block runs before all others whenever it can; with an odd seed, after all others
};

enum class Completion {
  kEarly,  // an asynchronous copy lands when it is issued
  kLate,   // it lands when it is waited for; until then its destination is poison
  kRandom,
};

struct Schedule {
  Order order = Order::kForward;
  Completion copies = Completion::kLate;
  uint64_t seed = 1;
  // A barrier that some threads have left the kernel before is an error. The hardware lets it pass.
  bool strict_exits = false;
};

// SplitMix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // 0 .. bound-1.
  int below(int bound) { return static_cast<int>(next() % static_cast<uint64_t>(bound)); }

 private:
  uint64_t state_;
};

}  // namespace cudamoe::simt
