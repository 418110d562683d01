// The edges of a matrix sorted by neighbour, with the sort of the embedding family: the edges are the look-ups of one table, whose rows are
// the columns.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace cudamoe::cuda {

class SortedEdges {
 public:
  SortedEdges(int64_t rows, int64_t columns, int64_t edges);

  int64_t workspace_bytes() const { return bytes_; }
  // Where the keys are before the sort.
  uint64_t* keys(void* workspace) const { return part<uint64_t>(workspace, keys_[0]); }
  uint32_t* edges_of_row(void* workspace) const { return part<uint32_t>(workspace, edges_of_row_); }
  // *keys becomes where they are sorted.
  cudaError_t sort(void* workspace, cudaStream_t stream, uint64_t** keys) const;

 private:
  int64_t take(int64_t bytes);

  template <class T>
  static T* part(void* workspace, int64_t offset) {
    return reinterpret_cast<T*>(static_cast<char*>(workspace) + offset);
  }

  int64_t columns_, edges_, tiles_ = 0;
  int32_t passes_ = 0, digit_bits_ = 0, tile_ = 0;
  // Offsets of the parts of the work space.
  int64_t table_ = 0, totals_ = 0, counts_ = 0, keys_[2] = {}, edges_of_row_ = 0, bytes_ = 0;
};

}  // namespace cudamoe::cuda
