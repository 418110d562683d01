// What the tests ask of the operating system. One implementation a platform, system_<platform>.cpp.
#pragma once

#include <cstddef>

namespace cudamoe::test {

// Zeroed memory that costs physical memory only where it is touched; null when the system does not give that much address space.
void* reserve_memory(size_t bytes);
void release_reserved(void* memory, size_t bytes);

// Sets a variable of the environment, or removes it where `value` is null.
void set_variable(const char* name, const char* value);

}  // namespace cudamoe::test
