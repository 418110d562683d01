#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "cpu/system.h"

namespace cudamoe::cpu {
namespace {

// The quota of a container (cgroup v2: "<microseconds or max> <period>"), rounded up to whole processors; `otherwise` without one.
int processors_by_quota(int otherwise) {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  int64_t quota = 0, period = 0;
  if (!(file >> quota >> period) || quota <= 0 || period <= 0) return otherwise;
  return static_cast<int>(std::min<int64_t>(otherwise, (quota + period - 1) / period));
}

}  // namespace

int usable_processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return processors_by_quota(CPU_COUNT(&set));
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  return processors_by_quota(online > 0 ? static_cast<int>(online) : 1);
}

int64_t physical_memory() { return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE); }

void* allocate_aligned(int64_t bytes, int64_t alignment, bool huge_pages) {
  void* memory = nullptr;
  if (posix_memalign(&memory, static_cast<size_t>(alignment), static_cast<size_t>(bytes)) != 0) return nullptr;
#if defined(MADV_HUGEPAGE)
  if (huge_pages) madvise(memory, static_cast<size_t>(bytes), MADV_HUGEPAGE);
#endif
  return memory;
}

void release_aligned(void* memory) { std::free(memory); }

}  // namespace cudamoe::cpu
