// The chunk of a block, and the elements of a thread in it.
#pragma once

#include "common/kernel.cuh"
#include "optimizer/optimizer.h"

namespace cudamoe::kernels {

inline constexpr int kOptimizerThreads = 256;
inline constexpr int kOptimizerVector = 4;  // elements of a 16-byte access

// The last tensor that begins at or before the chunk; tensors without elements have no chunk.
CUDAMOE_DEVICE int tensor_of_chunk(const OptimizerTable& table, int64_t chunk) {
  int low = 0, high = table.tensors - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (table.first_chunk[middle] <= chunk) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

// Calls body(i, n) for the vectors of elements i .. i+n-1 of the thread, ascending; n is kOptimizerVector but at the tensor's end. Which
// elements a thread has does not depend on how they are aligned.
template <class Body>
CUDAMOE_DEVICE void for_vectors_of_chunk(int64_t chunk_in_tensor, int64_t count, Body&& body) {
  const int64_t begin = chunk_in_tensor * kOptimizerChunk;
  const int64_t end = begin + kOptimizerChunk < count ? begin + kOptimizerChunk : count;
  for (int64_t i = begin + thread_x() * kOptimizerVector; i < end; i += kOptimizerThreads * kOptimizerVector)
    body(i, end - i < kOptimizerVector ? static_cast<int>(end - i) : kOptimizerVector);
}

using OptimizerVector = Vector<float, kOptimizerVector>;

// Elements p[0 .. n-1], zeros behind them, in one access when there is a whole, aligned vector.
CUDAMOE_DEVICE OptimizerVector load_elements(const float* p, int n, bool whole) {
  if (whole && n == kOptimizerVector) return load<kOptimizerVector>(p);
  OptimizerVector v;
  CUDAMOE_UNROLL
  for (int i = 0; i < kOptimizerVector; ++i) v[i] = i < n ? p[i] : 0.0f;
  return v;
}

CUDAMOE_DEVICE void store_elements(float* p, const OptimizerVector& v, int n, bool whole) {
  if (whole && n == kOptimizerVector) return store(p, v);
  CUDAMOE_UNROLL
  for (int i = 0; i < kOptimizerVector; ++i) {
    if (i < n) p[i] = v[i];
  }
}

}  // namespace cudamoe::kernels
