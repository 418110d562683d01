// What the files of the combine family share.
#pragma once

#include <hwy/cache_control.h>

#include "cpu/device.h"

namespace cudamoe::cpu {

// Experts whose weights are put together at once; more pass the sum on through y.
inline constexpr int kExpertSpan = 64;

// A group of tasks is handled at once, with its accumulators in registers.
inline constexpr int kTaskGroup = 4;

// Asks for the first lines of an expert's row; the hardware follows up from there.
template <class T>
void prefetch_row(const T* row, int64_t width) {
  constexpr int64_t kLine = 64 / sizeof(T), kMost = 4096 / sizeof(T);
  for (int64_t j = 0; j < width && j < kMost; j += kLine) hwy::Prefetch(row + j);
}

// Whether an output of `elements` is written past the caches: it is larger than they are, so that reading its lines before they are
// overwritten, which an ordinary store does, is traffic for nothing. Its rows must be whole, aligned lines.
inline bool streams_past_caches(const float* output, int64_t elements, int64_t row_stride, int64_t inner_stride) {
  constexpr int64_t kLine = 64 / sizeof(float), kLarge = (int64_t{8} << 20) / sizeof(float);
  return elements >= kLarge && reinterpret_cast<uintptr_t>(output) % 64 == 0 && row_stride % kLine == 0 && inner_stride % kLine == 0;
}

cudamoe_status combine_forward(void* stream, const cudamoe_combine_forward_args& args);
int64_t combine_backward_workspace(void* stream, const cudamoe_combine_backward_args& args);
cudamoe_status combine_backward(void* stream, const cudamoe_combine_backward_args& args);

}  // namespace cudamoe::cpu
