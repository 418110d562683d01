// What the files of the combine family share.
#pragma once

#include <hwy/cache_control.h>

#include "cpu/device.h"

namespace cudamoe::cpu {

// A group of tasks is handled at once, with its accumulators in registers.
inline constexpr int kTaskGroup = 4;

// Asks for the first lines of an expert's row; the hardware follows up from there.
template <class T>
void prefetch_row(const T* row, int64_t width) {
  constexpr int64_t kLine = 64 / sizeof(T), kMost = 4096 / sizeof(T);
  for (int64_t j = 0; j < width && j < kMost; j += kLine) hwy::Prefetch(row + j);
}

cudamoe_status combine_forward(void* stream, const cudamoe_combine_forward_args& args);
int64_t combine_backward_workspace(void* stream, const cudamoe_combine_backward_args& args);
cudamoe_status combine_backward(void* stream, const cudamoe_combine_backward_args& args);

}  // namespace cudamoe::cpu
