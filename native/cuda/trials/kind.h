// What families say the kinds of their calls with.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "cuda/trials/trials.h"

namespace cudamoe::cuda {

// Puts values of a few bits side by side.
class Bits {
 public:
  Bits& add(uint64_t value, int width) {
    bits_ = bits_ << width | value;
    return *this;
  }
  uint64_t get() const { return bits_; }

 private:
  uint64_t bits_ = 0;
};

inline uint64_t shape_bits(int64_t a, int64_t b) { return static_cast<uint64_t>(a) << 32 | static_cast<uint64_t>(b); }

// The least n with number <= 2^n.
inline uint64_t power_above(int64_t number) { return std::bit_width(static_cast<uint64_t>(std::max<int64_t>(number, 1) - 1)); }

}  // namespace cudamoe::cuda
