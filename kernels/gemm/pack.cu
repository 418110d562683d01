// Weights as the products read them: packed[g][t][j] = W[g][j][t] (forward) or W[g][t][j] (data gradient), zeros in the columns beyond
// the last one.
//
// Floor: each weight read once as f32, written once. Tiling: a block of 256 threads per 32 x 32 elements; where the order of indices
// changes the tile goes through shared memory (4,224 bytes; rows of 33 words, so that its columns lie in different banks). No sums.
#include "common/kernel.cuh"
#include "gemm/gemm.h"

namespace cudamoe::kernels {
namespace {

constexpr int kSide = 32, kRowsAtOnce = 8;

template <class T>
CUDAMOE_KERNEL(kSide* kRowsAtOnce, 4)
pack_kernel(const CUDAMOE_GRID_CONSTANT GemmPack pack) {
  CUDAMOE_SHARED(float, tile, [kSide][kSide + 1]);
  const int64_t stride = gemm_packed_stride(pack.columns);
  const int64_t across = ceil_divide(stride, int64_t{kSide}), down = ceil_divide(pack.depth, int64_t{kSide});
  const int64_t group = block_x() / (across * down), in_group = block_x() % (across * down);
  const int64_t first_row = in_group / across * kSide, first_column = in_group % across * kSide;
  const float* weights = pack.weights + group * pack.group_stride;
  const int x = thread_x() % kSide;

  CUDAMOE_UNROLL
  for (int y = thread_x() / kSide; y < kSide; y += kRowsAtOnce) {
    // Neighbouring threads read neighbouring weights; tile[row][column] is of the packed matrix.
    const int row = pack.transposed != 0 ? y : x, column = pack.transposed != 0 ? x : y;
    const int64_t t = first_row + row, j = first_column + column;
    const bool inside = t < pack.depth && j < pack.columns;
    const int64_t at = pack.transposed != 0 ? t * pack.row_stride + j : j * pack.row_stride + t;
    tile[row][column] = inside ? weights[at] : 0.0f;
  }
  sync_block();
  T* packed = static_cast<T*>(pack.packed) + group * pack.depth * stride;
  CUDAMOE_UNROLL
  for (int y = thread_x() / kSide; y < kSide; y += kRowsAtOnce) {
    const int64_t t = first_row + y, j = first_column + x;
    if (t < pack.depth && j < stride) packed[t * stride + j] = from_float<T>(tile[y][x]);
  }
}

}  // namespace

cudaError_t gemm_pack(const GemmPack& pack, cudaStream_t stream) {
  const int64_t tiles = ceil_divide(gemm_packed_stride(pack.columns), int64_t{kSide}) * ceil_divide(pack.depth, int64_t{kSide});
  if (tiles * pack.groups > INT32_MAX) return cudaErrorInvalidConfiguration;
  const LaunchShape shape{
      .name = "gemm_pack", .grid = {static_cast<int>(tiles * pack.groups)}, .block = {kSide * kRowsAtOnce}, .stream = stream};
  return pack.to_bf16 != 0 ? launch(shape, pack_kernel<Bf16>, pack) : launch(shape, pack_kernel<float>, pack);
}

}  // namespace cudamoe::kernels
