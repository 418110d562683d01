// The kernels of the gemm family, as the host launches them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/activation.h"
#include "common/ptx/tma.cuh"
#include "common/target.cuh"

namespace cudamoe::kernels {

struct DeviceReport;
struct OffenderCell;
struct SampleCounts;

enum class GemmFunction : int32_t { kForward, kDgrad, kWgrad, kExpertForward };  // the ABI function, for reports

// Which rows of the row space a group has: rows offsets[g] .. offsets[g+1], or all of them when offsets is null.
struct GemmRows {
  const int64_t* offsets;
  const int32_t* gather;  // row of x for each row, or null
  int64_t rows, x_rows;
  int32_t groups;
  GemmFunction function;
  DeviceReport* report;
  OffenderCell* offender;  // for kernels whose blocks look at their own gathered rows
};

// A matrix over the row space; the group stride counts for strided groups only.
struct GemmMatrix {
  const void* data;
  int64_t row_stride, group_stride;
  int32_t is_bf16;
};

// Packed weights: [groups][depth][columns rounded up to kGemmPackedColumns], zeros in the columns beyond the last.
inline constexpr int64_t kGemmPackedColumns = 8;
CUDAMOE_HOST_DEVICE int64_t gemm_packed_stride(int64_t columns) {
  return (columns + kGemmPackedColumns - 1) / kGemmPackedColumns * kGemmPackedColumns;
}

// packed[g][t][j] = W[g][j][t] (forward: columns n, depth k) or, transposed, W[g][t][j] (data gradient: columns k, depth n).
struct GemmPack {
  const float* weights;
  int64_t row_stride, group_stride;
  int64_t columns, depth;
  int32_t groups, transposed, to_bf16;
  void* packed;
};
cudaError_t gemm_pack(const GemmPack& pack, cudaStream_t stream);

// Widest and deepest weights that the products take.
inline constexpr int64_t kGemmMost = (int64_t{1} << 31) - 256;

// y = finish(x * packed) over the rows of each group. Forward: finish adds the bias, stores the value before the activation where
// `before` is set, and applies the activation. Data gradient: it multiplies with the activation's derivative at `below` where that is set.
struct GemmProduct {
  GemmRows rows;
  int32_t columns, depth;
  GemmMatrix x;
  const void* packed;
  int64_t packed_row_stride, packed_group_stride;
  GemmMatrix y, before, below;  // all of y's type
  const float* bias;
  int64_t bias_group_stride;
  Activation activation;
  float slope;
  int32_t derivative, accumulate;
};

// The shape of a block's tile: 128 x 128 for bf16 and 128 x 64 for f32, 64 x 64, 16 x 64. It changes no result: an element is one chain of
// sums over ascending depth in every tile.
enum class GemmTile : int32_t { kLarge, kMedium, kLow };
inline constexpr int gemm_tile_rows(GemmTile tile) { return tile == GemmTile::kLarge ? 128 : (tile == GemmTile::kMedium ? 64 : 16); }
inline constexpr int gemm_tile_columns(GemmTile tile, bool bf16) { return tile == GemmTile::kLarge && bf16 ? 128 : 64; }

// f32 operands, on the units for f32.
cudaError_t gemm_product_ffma(const GemmProduct& product, GemmTile tile, cudaStream_t stream);
// f32 operands split into tf32 numbers, on tensor cores: to f32's accuracy, at three times the multiplications.
cudaError_t gemm_product_tf32(const GemmProduct& product, GemmTile tile, cudaStream_t stream);
// bf16 operands with sums in f32, on tensor cores; x of f32 is rounded.
cudaError_t gemm_product_bf16(const GemmProduct& product, GemmTile tile, cudaStream_t stream);

// The same product of bf16 operands by wgmma, on sm_90a only; x of f32 is rounded. The rows of x are aligned to 16 bytes; the activation
// is none, ReLU or LeakyReLU.
struct GemmWgmmaProduct {
  GemmProduct product;
  ptx::TensorMap packed;  // of the packed weights: [groups][depth][packed_row_stride], boxes of 64 x 64
  // A unit of work is a row tile and some of its column tiles, `chunks` units a row tile. A block has units_of_block of them, the first
  // more_units blocks one more.
  int32_t column_tiles, column_tiles_of_unit, chunks, units_of_block, more_units;
};
// The tile of a block; of a product 128 or 256 rows, 64 or 128 columns.
struct GemmWgmmaTile {
  int32_t rows, columns;
};
// Fills the counts of units from the product, the tile and column_tiles_of_unit; one block for each multiprocessor that has work.
cudaError_t gemm_product_wgmma(GemmWgmmaProduct& product, GemmWgmmaTile tile, int multiprocessors, cudaStream_t stream);

// dw[g] (+)= sum over the rows of group g of dz[r]^T x[r], dbias[g] (+)= sum of dz[r]. Rows are taken in chunks of `chunk_rows`; with
// partials, each chunk's sums go there and a second kernel adds them in order, else a group must have at most one chunk.
struct GemmWgrad {
  GemmRows rows;
  int32_t n, k;
  GemmMatrix dz, x;
  float* dw;
  int64_t dw_row_stride, dw_group_stride;
  float* dbias;
  int64_t dbias_group_stride;
  int32_t accumulate;
  int32_t chunk_rows;
  float* partials;  // or null
};
CUDAMOE_HOST_DEVICE int64_t gemm_wgrad_partial_floats(int64_t n, int64_t k) { return (n * k + n + 3) / 4 * 4; }
cudaError_t gemm_wgrad_ffma(const GemmWgrad& wgrad, GemmTile tile, cudaStream_t stream);
cudaError_t gemm_wgrad_tf32(const GemmWgrad& wgrad, GemmTile tile, cudaStream_t stream);
cudaError_t gemm_wgrad_bf16(const GemmWgrad& wgrad, GemmTile tile, cudaStream_t stream);
// The same of bf16 operands by wgmma, on sm_90a only: tiles of 64 or 128 rows of dw and 128 or 256 columns. dz and x are of one type, f32
// being rounded; their rows are aligned to 16 bytes.
cudaError_t gemm_wgrad_wgmma(const GemmWgrad& wgrad, GemmWgmmaTile tile, cudaStream_t stream);
cudaError_t gemm_wgrad_sum(const GemmWgrad& wgrad, cudaStream_t stream);

// Compares samples of what the product or the weight gradient left in y, before, dw and dbias, written without `accumulate`, with the same
// sums in double precision, and adds to counts.
cudaError_t gemm_compare_product(const GemmProduct& product, bool packed_is_bf16, int samples, SampleCounts* counts, cudaStream_t stream);
cudaError_t gemm_compare_wgrad(const GemmWgrad& wgrad, bool rounded, int samples, SampleCounts* counts, cudaStream_t stream);

}  // namespace cudamoe::kernels
