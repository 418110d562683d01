// What other families use of the gemm family.
#pragma once

#include "cuda/device.h"
#include "gemm/gemm.h"

namespace cudamoe::cuda {

// Runs a product whose strides of packed weights are still to be set: in the kernel and the tile for it. `function` is of the ABI.
cudamoe_status run_product(const Stream& stream, kernels::GemmProduct& product, int32_t packed_dtype, const char* function);

}  // namespace cudamoe::cuda
