#include <sys/mman.h>

#include <cstdlib>

#include "support/system.h"

namespace cudamoe::test {

void* reserve_memory(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

void release_reserved(void* memory, size_t bytes) { munmap(memory, bytes); }

void set_variable(const char* name, const char* value) {
  if (value != nullptr) {
    setenv(name, value, 1);
  } else {
    unsetenv(name);
  }
}

}  // namespace cudamoe::test
