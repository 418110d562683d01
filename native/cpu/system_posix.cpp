#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
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

void sleep_while(const std::atomic<uint32_t>& word, uint32_t value) { word.wait(value); }
void wake_one(std::atomic<uint32_t>& word) { word.notify_one(); }
void wake_all(std::atomic<uint32_t>& word) { word.notify_all(); }

int current_processor() { return sched_getcpu(); }

int64_t processor_time(std::thread& thread) {
  clockid_t clock;
  timespec time;
  if (pthread_getcpuclockid(thread.native_handle(), &clock) != 0 || clock_gettime(clock, &time) != 0) return -1;
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

bool bring_here(std::thread& thread, ThreadAffinity* before) {
  const int processor = current_processor();
  cpu_set_t allowed, here;
  if (processor < 0 || processor >= CPU_SETSIZE || pthread_getaffinity_np(thread.native_handle(), sizeof allowed, &allowed) != 0)
    return false;
  static_assert(sizeof allowed <= sizeof before->bits);
  std::memcpy(before->bits, &allowed, sizeof allowed);
  CPU_ZERO(&here);
  CPU_SET(processor, &here);
  return pthread_setaffinity_np(thread.native_handle(), sizeof here, &here) == 0;
}

void avoid_processor(int processor, Avoidance* avoidance) {
  cpu_set_t allowed;
  if (processor < 0 || processor >= CPU_SETSIZE || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  // An affinity that somebody else has set since is theirs.
  const bool ours = avoidance->processor >= 0 && std::memcmp(&allowed, avoidance->left.bits, sizeof allowed) == 0;
  if (ours) CPU_SET(avoidance->processor, &allowed);
  CPU_CLR(processor, &allowed);
  if (CPU_COUNT(&allowed) == 0 || sched_setaffinity(0, sizeof allowed, &allowed) != 0) return;
  avoidance->processor = processor;
  std::memcpy(avoidance->left.bits, &allowed, sizeof allowed);
}

void send_back(std::thread& thread, int processor, const ThreadAffinity& before) {
  cpu_set_t allowed, there;
  std::memcpy(&allowed, before.bits, sizeof allowed);
  if (processor >= 0 && processor < CPU_SETSIZE) {
    CPU_ZERO(&there);
    CPU_SET(processor, &there);
    pthread_setaffinity_np(thread.native_handle(), sizeof there, &there);
  }
  pthread_setaffinity_np(thread.native_handle(), sizeof allowed, &allowed);
}

}  // namespace cudamoe::cpu
