#define NOMINMAX
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <cstdlib>

#include "support/system.h"

namespace cudamoe::test {

// Committed memory counts against the page file before it is touched, so that a large request may well be refused.
void* reserve_memory(size_t bytes) { return VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE); }

void release_reserved(void* memory, size_t) { VirtualFree(memory, 0, MEM_RELEASE); }

void set_variable(const char* name, const char* value) { _putenv_s(name, value != nullptr ? value : ""); }

}  // namespace cudamoe::test
