// GPUs by the CUDA runtime. Options: the ordinal, 0 when there are none.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "cuda/platform.h"

namespace cudamoe::cuda {
namespace {

constexpr int kLowestMajor = 8;

// Why there is none, or nothing.
std::string count_devices(int* count) {
  *count = 0;
  const cudaError_t error = cudaGetDeviceCount(count);
  if (error == cudaSuccess && *count > 0) return "";
  cudaGetLastError();
  return std::string("no usable CUDA device: ") + (error != cudaSuccess ? cudaGetErrorString(error) : "the driver knows of no GPU");
}

}  // namespace

bool platform_usable(char* reason, size_t capacity) {
  int count = 0;
  const std::string text = count_devices(&count);
  std::snprintf(reason, capacity, "%s", text.c_str());
  return text.empty();
}

const char* backend_name() { return "cuda"; }

cudamoe_status find_device(const char* options, int* ordinal) {
  const char* function = "cudamoe_device_open";
  const std::string text = options;
  char* end = nullptr;
  const long wanted = text.empty() ? 0 : std::strtol(text.c_str(), &end, 10);
  if (!text.empty() && (*end != '\0' || wanted < 0 || wanted > 1023))
    return fail(CUDAMOE_ERROR_ARGUMENT, "%s: spec is \"cuda:%s\"; the cuda backend takes \"cuda\" or \"cuda:N\"", function, options);
  int count = 0;
  const std::string reason = count_devices(&count);
  if (!reason.empty()) return fail(CUDAMOE_ERROR_DEVICE, "%s: %s", function, reason.c_str());
  if (wanted >= count)
    return fail(CUDAMOE_ERROR_DEVICE, "%s: no usable CUDA device: spec is \"cuda:%ld\", but this machine has %d", function, wanted, count);
  cudaDeviceProp properties;
  const cudaError_t refused = cudaGetDeviceProperties(&properties, static_cast<int>(wanted));
  if (refused != cudaSuccess)
    return fail(CUDAMOE_ERROR_DEVICE, "%s: no usable CUDA device: cuda:%ld: %s", function, wanted, cudaGetErrorString(refused));
  if (properties.major < kLowestMajor) {
    return fail(CUDAMOE_ERROR_DEVICE, "%s: no usable CUDA device: cuda:%ld is a %s of compute capability %d.%d; %d.0 is the least",
                function, wanted, properties.name, properties.major, properties.minor, kLowestMajor);
  }
  *ordinal = static_cast<int>(wanted);
  return CUDAMOE_OK;
}

void leave_device(int) {}

std::string failure_detail(int) { return ""; }

bool tries_kernels() { return true; }

int driver_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

bool host_accessible() { return false; }

}  // namespace cudamoe::cuda
