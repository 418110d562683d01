// The kernels that can serve a product or a weight gradient, and the one for a call; see native/cuda/trials/trials.h.
#pragma once

#include "cuda/device.h"
#include "gemm/gemm.h"

namespace cudamoe::cuda {

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Whether f32 products go to the tensor cores: three tf32 multiplications beat one of f32 where the tensor cores are those of a data
// centre GPU (A100: 156 tf32 against 19.5 f32 TFLOP/s); on the others (sm_86, sm_89) their rates are about equal.
inline bool splits_f32(const Device& device) { return device.architecture() == 80 || device.architecture() >= 90; }

// Whether rows begin at multiples of 16 bytes.
bool is_aligned(const kernels::GemmMatrix& matrix);

// Runs the product in the kernel and the tile for it. Strides of packed weights and the offender's cell are set.
cudamoe_status choose_and_run(const Stream& stream, const kernels::GemmProduct& product, int32_t packed_dtype, const char* function);

// How the rows of a weight gradient are cut, by shape and architecture alone, so that devices of one kind have the same sums.
struct WgradPlan {
  kernels::GemmTile tile;
  kernels::GemmWgmmaTile wgmma_tile;
  int64_t chunk_rows;
  int64_t partials;  // chunks that keep partial sums; 0: no group has more than one chunk
};
cudamoe_status choose_and_run(const Stream& stream, const kernels::GemmWgrad& wgrad, const WgradPlan& plan, int32_t compute_dtype);

}  // namespace cudamoe::cuda
