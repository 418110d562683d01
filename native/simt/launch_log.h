// Which kernels a process launches, and how: for tools/CudaReport, which compares them with what nvcc made. Where the environment variable
// CUDAMOE_SIMT_LAUNCHES names a file, the process appends to it when it ends, one line for each kernel, architecture, block and size of
// dynamic shared memory, separated by tabs:
//
//   kernel        offset of the function in the library, hexadecimal: the tool finds its name among the library's symbols
//   name          of the operation, as in LaunchShape
//   architecture  80, 86, 89, 90
//   block         threads, "x,y,z"
//   shared        bytes of dynamic shared memory
//   launches      how many
//   grid          of the launch with the fewest blocks, "x,y,z"
//   parameters    of that launch: a parameter's 32-bit words in hexadecimal, "bufferN+offset" for a pointer into device memory (two
//                 words); parameters separated by ";"
//   buffers       the sizes of these buffers in bytes, separated by ","
#pragma once

#include "simt/runtime/device_memory.h"
#include "simt/runtime/launch.h"

namespace cudamoe::simt {

void log_launch(const LaunchDescription& description, int architecture, const DeviceMemory& device_memory);

}  // namespace cudamoe::simt
