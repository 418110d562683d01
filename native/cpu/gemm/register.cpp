#include "cpu/device.h"
#include "cpu/gemm/gemm.h"

namespace cudamoe::cpu {

void register_gemm(Backend& table) {
  table.gemm_pack = gemm_pack;
  table.gemm_packed_bytes = gemm_packed_bytes;
  table.gemm_forward = gemm_forward;
  table.gemm_forward_workspace = gemm_forward_workspace;
  table.gemm_dgrad = gemm_dgrad;
  table.gemm_dgrad_workspace = gemm_dgrad_workspace;
  table.gemm_wgrad = gemm_wgrad;
  table.gemm_wgrad_workspace = gemm_wgrad_workspace;
}

}  // namespace cudamoe::cpu
