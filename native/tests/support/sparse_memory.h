// Memory of which only the touched pages exist, for matrices whose rows lie far apart.
#pragma once

#include <cstdint>

#include "support/system.h"

namespace cudamoe::test {

class SparseMemory {
 public:
  explicit SparseMemory(int64_t elements) : bytes_(static_cast<size_t>(elements) * sizeof(float)), memory_(reserve_memory(bytes_)) {}
  ~SparseMemory() {
    if (ok()) release_reserved(memory_, bytes_);
  }
  SparseMemory(const SparseMemory&) = delete;
  SparseMemory& operator=(const SparseMemory&) = delete;
  // False when the system does not give that much address space.
  bool ok() const { return memory_ != nullptr; }
  float* data() const { return static_cast<float*>(memory_); }

 private:
  size_t bytes_;
  void* memory_;
};

}  // namespace cudamoe::test
