// What the cpu device asks of the operating system. One implementation a platform, system_<platform>.cpp.
#pragma once

#include <cstdint>

namespace cudamoe::cpu {

// Processors that this process may use: its affinity, and on Linux the processor quota of its control group.
int usable_processors();

// Bytes of physical memory.
int64_t physical_memory();

// Memory of undefined contents; null when it cannot be had. alignment is a power of two, bytes a multiple of it. huge_pages asks for large
// pages where the system has such a request; it changes speed only.
void* allocate_aligned(int64_t bytes, int64_t alignment, bool huge_pages);
void release_aligned(void* memory);

}  // namespace cudamoe::cpu
