// How a kernel is put into a stream of the executor.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <span>
#include <tuple>
#include <type_traits>

#include "simt/kernel_api.h"

namespace cudamoe::simt {

struct LaunchParameter {
  const void* value;
  size_t bytes;
};

struct LaunchDescription {
  const char* name;
  Dim3 grid, block;
  int64_t dynamic_shared_bytes;
  cudaStream_t stream;
  const void* kernel = nullptr;
  std::span<const LaunchParameter> parameters = {};
};

cudaError_t enqueue(const LaunchDescription& description, void (*body)(const void*), std::shared_ptr<const void> arguments);

template <class... Parameters>
cudaError_t enqueue_launch(LaunchDescription description, void (*kernel)(Parameters...),
                           const std::type_identity_t<Parameters>&... values) {
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<std::remove_cvref_t<Parameters>...> values;
  };
  const auto call = std::make_shared<const Call>(Call{kernel, {values...}});
  const LaunchParameter parameters[] = {{&values, sizeof values}..., {}};
  description.kernel = reinterpret_cast<const void*>(kernel);
  description.parameters = {parameters, sizeof...(Parameters)};
  return enqueue(
      description,
      [](const void* arguments) {
        const Call& own = *static_cast<const Call*>(arguments);
        std::apply(own.kernel, own.values);
      },
      call);
}

}  // namespace cudamoe::simt
