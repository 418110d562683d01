#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "cuda/device.h"

namespace cudamoe::cuda {

// Memory of a trial: what its candidates write.
class TrialMemory {
 public:
  explicit TrialMemory(const Stream& stream) : stream_(stream) {}
  ~TrialMemory() {
    for (const Piece& piece : pieces_) {
      if (piece.memory != nullptr) stream_.device().memory().release(piece.memory);
    }
  }
  TrialMemory(const TrialMemory&) = delete;
  TrialMemory& operator=(const TrialMemory&) = delete;

  template <class T>
  cudaError_t take(int64_t count, T** memory) {
    Piece& piece = pieces_[static_cast<size_t>(taken_++)];
    piece.bytes = static_cast<size_t>(std::max<int64_t>(count, 1)) * sizeof(T);
    const cudaError_t error = stream_.device().memory().allocate(&piece.memory, piece.bytes);
    *memory = static_cast<T*>(piece.memory);
    return error;
  }

  cudaError_t poison() const {
    cudaError_t error = cudaSuccess;
    for (const Piece& piece : pieces_) {
      if (error == cudaSuccess && piece.memory != nullptr) error = cudaMemsetAsync(piece.memory, 0xFF, piece.bytes, stream_.get());
    }
    return error;
  }

 private:
  const Stream& stream_;
  struct Piece {
    void* memory = nullptr;
    size_t bytes = 0;
  };

  std::array<Piece, 3> pieces_{};
  int taken_ = 0;
};

}  // namespace cudamoe::cuda
