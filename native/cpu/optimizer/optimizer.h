// The entries of the optimizer family, and the cut of many tensors into chunks that they share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/device.h"

namespace cudamoe::cpu {

cudamoe_status optimizer_norm(void* stream, const cudamoe_optimizer_norm_args& args);
int64_t optimizer_norm_workspace(void* stream, const cudamoe_optimizer_norm_args& args);
cudamoe_status optimizer_step(void* stream, const cudamoe_optimizer_step_args& args);

// All tensors in chunks of at most kElements elements, in order; a chunk lies in one tensor.
class TensorChunks {
 public:
  static constexpr int64_t kElements = 16384;

  struct Chunk {
    const cudamoe_optimizer_tensor* tensor;
    int64_t begin, end;
  };

  TensorChunks(const cudamoe_optimizer_tensor* tensors, int32_t count) : tensors_(tensors), first_(static_cast<size_t>(count) + 1, 0) {
    for (size_t t = 0; t + 1 < first_.size(); ++t) {
      first_[t + 1] = first_[t] + chunks_of(tensors[t]);
      elements_ += tensors[t].count;
    }
  }

  static int64_t chunks_of(const cudamoe_optimizer_tensor& tensor) { return (tensor.count + kElements - 1) / kElements; }
  int64_t count() const { return first_.back(); }
  int64_t elements() const { return elements_; }

  Chunk operator[](int64_t chunk) const {
    const auto t = std::upper_bound(first_.begin(), first_.end(), chunk) - first_.begin() - 1;
    const int64_t begin = (chunk - first_[static_cast<size_t>(t)]) * kElements;
    return {tensors_ + t, begin, std::min(begin + kElements, tensors_[t].count)};
  }

 private:
  const cudamoe_optimizer_tensor* tensors_;
  std::vector<int64_t> first_;  // chunk of each tensor, and their number
  int64_t elements_ = 0;
};

}  // namespace cudamoe::cpu
