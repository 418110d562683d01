/* The header is C99: this file is compiled as such, and its sizes are compared with those of the library. */
#include "compile/header_c99.h"

#include <string.h>

#include "cudamoe.h"

int64_t header_c99_size(const char* name) {
#define SIZE(type) \
  if (strcmp(name, #type) == 0) return (int64_t)sizeof(type);
  SIZE(cudamoe_backend_info)
  SIZE(cudamoe_device_info)
  SIZE(cudamoe_gemm_pack_args)
  SIZE(cudamoe_gemm_forward_args)
  SIZE(cudamoe_embedding_table)
  SIZE(cudamoe_embedding_feature)
  SIZE(cudamoe_gate_forward_args)
  SIZE(cudamoe_combine_backward_args)
  SIZE(cudamoe_loss_task)
  SIZE(cudamoe_optimizer_tensor)
  SIZE(cudamoe_optimizer_step_args)
  SIZE(cudamoe_step_numbers)
#undef SIZE
  return -1;
}

int32_t header_c99_abi_version(void) { return CUDAMOE_ABI_VERSION; }
