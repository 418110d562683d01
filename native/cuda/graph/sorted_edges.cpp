#include "cuda/graph/sorted_edges.h"

#include <bit>
#include <utility>

#include "embedding/embedding.h"

namespace cudamoe::cuda {
namespace {

constexpr int64_t kAlignment = 64;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

SortedEdges::SortedEdges(int64_t rows, int64_t columns, int64_t edges) : columns_(columns), edges_(edges) {
  // Of the column behind the last as well, where bad neighbours go. The passes share the bits among them.
  const int bits = static_cast<int>(std::bit_width(static_cast<uint64_t>(columns)));
  passes_ = (bits + kernels::kMaxDigitBits - 1) / kernels::kMaxDigitBits;
  digit_bits_ = passes_ == 0 ? 0 : (bits + passes_ - 1) / passes_;
  tile_ = kernels::embedding_sort_tile(edges);
  tiles_ = divide_up(edges, tile_);
  table_ = take(sizeof(kernels::PlanTable));
  totals_ = take(int64_t{4} << digit_bits_);
  counts_ = take((4 * tiles_) << digit_bits_);
  for (int64_t& keys : keys_) keys = take(8 * edges);
  edges_of_row_ = take(4 * rows);
}

int64_t SortedEdges::take(int64_t bytes) {
  const int64_t at = bytes_;
  bytes_ += divide_up(bytes, kAlignment) * kAlignment;
  return at;
}

cudaError_t SortedEdges::sort(void* workspace, cudaStream_t stream, uint64_t** keys) const {
  if (edges_ == 0) return cudaSuccess;
  kernels::PlanTable table{};
  table.lookups = edges_;
  table.rows = static_cast<uint32_t>(columns_);
  auto* own_table = part<kernels::PlanTable>(workspace, table_);
  cudaError_t error = kernels::embedding_upload(own_table, &table, sizeof table, stream);
  const kernels::EmbeddingPlan plan{own_table, nullptr, 1, 0, nullptr};
  kernels::SortPass pass{static_cast<int32_t>(tiles_),      tile_, 0, digit_bits_, part<uint32_t>(workspace, counts_),
                         part<uint32_t>(workspace, totals_)};
  auto* from = part<uint64_t>(workspace, keys_[0]);
  auto* to = part<uint64_t>(workspace, keys_[1]);
  for (int p = 0; p < passes_ && error == cudaSuccess; ++p) {
    pass.shift = p * digit_bits_;
    error = kernels::embedding_count_keys(plan, pass, from, stream);
    if (error == cudaSuccess) error = kernels::embedding_scan(plan, pass, stream);
    if (error == cudaSuccess) error = kernels::embedding_scatter_keys(plan, pass, from, to, stream);
    std::swap(from, to);
  }
  *keys = from;
  return error;
}

}  // namespace cudamoe::cuda
