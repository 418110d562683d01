// Bytes from the host to device memory that travel as parameters of kernels: nothing that the host must keep, so a call can be captured in
// a graph and returns at once.
//
// Tiling: 3840 bytes a launch, a block of 256 threads, a word at a time.
#include <cstring>

#include "common/kernel.cuh"
#include "embedding/embedding.h"

namespace cudamoe::kernels {
namespace {

struct Words {
  static constexpr int kCount = 960;
  uint32_t word[kCount];
};

CUDAMOE_KERNEL(kEmbeddingThreads, 1) upload_kernel(const CUDAMOE_GRID_CONSTANT Words words, int32_t count, uint32_t* destination) {
  for (int i = thread_x(); i < count; i += kEmbeddingThreads) destination[i] = words.word[i];
}

}  // namespace

cudaError_t embedding_upload(void* destination, const void* source, int64_t bytes, cudaStream_t stream) {
  Words words;
  const int64_t all = bytes / 4;
  for (int64_t i = 0; i < all; i += Words::kCount) {
    const int64_t count = all - i < Words::kCount ? all - i : Words::kCount;
    std::memcpy(words.word, static_cast<const uint32_t*>(source) + i, static_cast<size_t>(4 * count));
    const cudaError_t error = launch({.name = "embedding_upload", .grid = {1}, .block = {kEmbeddingThreads}, .stream = stream},
                                     upload_kernel, words, static_cast<int32_t>(count), static_cast<uint32_t*>(destination) + i);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace cudamoe::kernels
