// Bisection.
#pragma once

#include "common/target.cuh"

namespace cudamoe::kernels {

// The last i of low .. high with value(i) <= wanted, where values ascend; low when there is none.
template <class Value>
CUDAMOE_DEVICE int64_t last_at_most(int64_t low, int64_t high, int64_t wanted, Value&& value) {
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (static_cast<int64_t>(value(middle)) <= wanted) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace cudamoe::kernels
