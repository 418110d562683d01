// What differs between the two libraries that native/cuda is built into: a GPU behind the CUDA runtime (platform_gpu.cpp) and the host
// executor behind its facade (native/simt/platform.cpp).
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "core/backend.h"

namespace cudamoe::cuda {

// "cuda" or "simt".
const char* backend_name();
// Whether there is a device; if not, why.
bool platform_usable(char* reason, size_t capacity);
// The ordinal for cudaSetDevice that `options` (what follows the colon of a device's name) ask for; sets the message on failure.
cudamoe_status find_device(const char* options, int* ordinal);
void leave_device(int ordinal);
// What is known of a failure beyond the runtime's error, or nothing.
std::string failure_detail(int ordinal);
// A named range of the calling thread's time, for profilers; nested. NVTX on a GPU (ranges_gpu.cpp), nothing on the executor.
void range_begin(const char* name);
void range_end();
// Whether kernels are tried before they are used where CUDAMOE_TRIALS does not say, and the version of the driver that they run under.
bool tries_kernels();
int driver_version();
// Whether the host may read and write device memory.
bool host_accessible();

}  // namespace cudamoe::cuda
