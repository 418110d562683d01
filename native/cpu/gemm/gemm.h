// The entries of the gemm family in the cpu backend's table.
#pragma once

#include <cstdint>

#include "cudamoe.h"

namespace cudamoe::cpu {

cudamoe_status gemm_pack(void* stream, const cudamoe_gemm_pack_args& args);
int64_t gemm_packed_bytes(void* stream, const cudamoe_gemm_pack_args& args);
cudamoe_status gemm_forward(void* stream, const cudamoe_gemm_forward_args& args);
int64_t gemm_forward_workspace(void* stream, const cudamoe_gemm_forward_args& args);
cudamoe_status gemm_dgrad(void* stream, const cudamoe_gemm_dgrad_args& args);
int64_t gemm_dgrad_workspace(void* stream, const cudamoe_gemm_dgrad_args& args);
cudamoe_status gemm_wgrad(void* stream, const cudamoe_gemm_wgrad_args& args);
int64_t gemm_wgrad_workspace(void* stream, const cudamoe_gemm_wgrad_args& args);

}  // namespace cudamoe::cpu
