// What a backend is: a table of functions. The cpu backend is built in; others are plug-ins, shared libraries that export
// `cudamoe_backend_entry` and are opened from this library's own folder. A plug-in has its own copy of core/error.cpp, whose messages go
// to the library that opened it.
//
// The ABI layer (native/core/<family>) checks all arguments before it calls a backend, so a backend may rely on every rule that
// cudamoe.h states. An entry that is null means that the backend lacks the operation: the ABI answers CUDAMOE_ERROR_UNSUPPORTED.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "cudamoe.h"

// Every operation of the ABI that runs on a stream: X(name) stands for cudamoe_<name> with cudamoe_<name>_args.
#define CUDAMOE_OPERATIONS(X)  \
  X(gemm_pack)                 \
  X(gemm_forward)              \
  X(gemm_dgrad)                \
  X(gemm_wgrad)                \
  X(embedding_forward)         \
  X(embedding_update)          \
  X(embedding_gradient)        \
  X(embedding_cache_prepare)   \
  X(embedding_cache_flush)     \
  X(gate_forward)              \
  X(gate_backward)             \
  X(routing)                   \
  X(group_capacity)            \
  X(combine_forward)           \
  X(combine_backward)          \
  X(expert_forward)            \
  X(expert_mix)                \
  X(gated_product_forward)     \
  X(gated_product_backward)    \
  X(layer_norm_forward)        \
  X(layer_norm_backward)       \
  X(rms_norm_forward)          \
  X(rms_norm_backward)         \
  X(attention_forward)         \
  X(attention_backward)        \
  X(rotary)                    \
  X(sequence_maximum_forward)  \
  X(sequence_maximum_backward) \
  X(graph_aggregate)           \
  X(graph_edge_gradient)       \
  X(graph_transpose)           \
  X(loss)                      \
  X(joint_logits_forward)      \
  X(joint_logits_backward)     \
  X(balance_gram)              \
  X(balance_factored_gram)     \
  X(balance_combine)           \
  X(balance_columns)           \
  X(balance_scale)             \
  X(balance_average)           \
  X(optimizer_norm)            \
  X(optimizer_step)

// Every size query: X(name, operation) stands for cudamoe_<name>(stream, const cudamoe_<operation>_args*, int64_t* bytes).
#define CUDAMOE_QUERIES(X)                                      \
  X(embedding_cache_bytes, embedding_cache_flush)               \
  X(embedding_cache_prepare_workspace, embedding_cache_prepare) \
  X(gemm_packed_bytes, gemm_pack)                               \
  X(gemm_forward_workspace, gemm_forward)                       \
  X(gemm_dgrad_workspace, gemm_dgrad)                           \
  X(gemm_wgrad_workspace, gemm_wgrad)                           \
  X(embedding_update_workspace, embedding_update)               \
  X(embedding_gradient_workspace, embedding_gradient)           \
  X(gate_forward_workspace, gate_forward)                       \
  X(routing_workspace, routing)                                 \
  X(combine_backward_workspace, combine_backward)               \
  X(expert_forward_workspace, expert_forward)                   \
  X(expert_mix_workspace, expert_mix)                           \
  X(layer_norm_backward_workspace, layer_norm_backward)         \
  X(rms_norm_backward_workspace, rms_norm_backward)             \
  X(attention_forward_workspace, attention_forward)             \
  X(attention_backward_workspace, attention_backward)           \
  X(rotary_workspace, rotary)                                   \
  X(graph_transpose_workspace, graph_transpose)                 \
  X(loss_workspace, loss)                                       \
  X(balance_gram_workspace, balance_gram)                       \
  X(balance_columns_workspace, balance_columns)                 \
  X(optimizer_norm_workspace, optimizer_norm)

namespace cudamoe {

// Grows with every change of this table.
inline constexpr uint32_t kBackendVersion = 15;

// What the library gives to a plug-in that it opens.
struct Host {
  uint32_t version;
  // Makes `text` the calling thread's last message.
  void (*store_message)(const char* text) noexcept;
};

struct Backend {
  uint32_t version;
  const char* name;

  // Whether a device can be opened here; if not, says why in `reason`, a terminated text.
  bool (*usable)(char* reason, size_t capacity);

  // Devices and streams are the backend's own objects. On failure these set the message with fail().
  cudamoe_status (*device_open)(const char* options, void** device);
  void (*device_close)(void* device);
  void (*device_info)(void* device, cudamoe_device_info* info);
  // Null for a backend that has none.
  std::string (*device_notes)(void* device);
  cudamoe_status (*allocate)(void* device, int64_t bytes, void** pointer);
  void (*release)(void* device, void* pointer, int64_t bytes);
  // Host memory that operations use as device memory; mapped_release waits for them.
  cudamoe_status (*mapped_allocate)(void* device, int64_t bytes, void** pointer);
  void (*mapped_release)(void* device, void* pointer);
  cudamoe_status (*host_allocate)(void* device, int64_t bytes, void** pointer);
  void (*host_release)(void* device, void* pointer);
  cudamoe_status (*stream_create)(void* device, void** stream);
  // A stream of the backend's runtime as one of this table, and the other way. Null for a backend whose streams are its own.
  cudamoe_status (*stream_wrap)(void* device, void* native, void** stream);
  void* (*stream_native)(void* stream);
  void (*stream_destroy)(void* stream);
  cudamoe_status (*stream_synchronize)(void* stream);
  cudamoe_status (*copy)(void* stream, void* destination, const void* source, int64_t bytes, int32_t direction);
  cudamoe_status (*fill)(void* stream, void* destination, int32_t value, int64_t bytes);

  // Between capture_begin and capture_end what is called on the stream is kept, to be run by capture_launch on the same stream. All null
  // for a backend whose operations run when they are called: then the ABI layer keeps the calls.
  cudamoe_status (*capture_begin)(void* stream);
  cudamoe_status (*capture_end)(void* stream, void** capture);
  cudamoe_status (*capture_launch)(void* stream, void* capture);
  void (*capture_destroy)(void* stream, void* capture);

#define CUDAMOE_ENTRY(name) cudamoe_status (*name)(void* stream, const cudamoe_##name##_args& args);
  CUDAMOE_OPERATIONS(CUDAMOE_ENTRY)
#undef CUDAMOE_ENTRY
#define CUDAMOE_ENTRY(name, operation) int64_t (*name)(void* stream, const cudamoe_##operation##_args& args);
  CUDAMOE_QUERIES(CUDAMOE_ENTRY)
#undef CUDAMOE_ENTRY
};

const Backend& cpu_backend();

// The exported function of a plug-in, `cudamoe_backend_entry`. Null when it was built for another version.
using BackendEntry = const Backend* (*)(const Host* host);

}  // namespace cudamoe
