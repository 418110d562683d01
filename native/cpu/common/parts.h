// Cutting a range into parts.
#pragma once

#include <algorithm>
#include <cstdint>

namespace cudamoe::cpu {

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

// Part `i` of `parts` nearly equal parts of `total` begins here.
inline int64_t part_begin(int64_t total, int64_t parts, int64_t i) { return total / parts * i + std::min(total % parts, i); }

}  // namespace cudamoe::cpu
