// The entries of the embedding family.
#pragma once

#include "core/check.h"
#include "cpu/device.h"

namespace cudamoe::cpu {

cudamoe_status embedding_forward(void* stream, const cudamoe_embedding_forward_args& args);
cudamoe_status embedding_update(void* stream, const cudamoe_embedding_update_args& args);
int64_t embedding_update_workspace(void* stream, const cudamoe_embedding_update_args& args);
cudamoe_status embedding_gradient(void* stream, const cudamoe_embedding_gradient_args& args);
int64_t embedding_gradient_workspace(void* stream, const cudamoe_embedding_gradient_args& args);

}  // namespace cudamoe::cpu
