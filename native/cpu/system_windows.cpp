#define NOMINMAX
#define WIN32_LEAN_AND_MEAN
#include <malloc.h>
#include <windows.h>

#include <bit>
#include <thread>

#include "cpu/system.h"

namespace cudamoe::cpu {

int usable_processors() {
  DWORD_PTR process = 0, system = 0;
  if (GetProcessAffinityMask(GetCurrentProcess(), &process, &system) && process != 0) return std::popcount(static_cast<uint64_t>(process));
  // More than one processor group: the mask is 0.
  const unsigned processors = std::thread::hardware_concurrency();
  return processors > 0 ? static_cast<int>(processors) : 1;
}

int64_t physical_memory() {
  MEMORYSTATUSEX status{};
  status.dwLength = sizeof status;
  return GlobalMemoryStatusEx(&status) ? static_cast<int64_t>(status.ullTotalPhys) : 0;
}

// Large pages need a privilege that ordinary users lack, so they are not asked for.
void* allocate_aligned(int64_t bytes, int64_t alignment, bool) {
  return _aligned_malloc(static_cast<size_t>(bytes), static_cast<size_t>(alignment));
}

void release_aligned(void* memory) { _aligned_free(memory); }

void sleep_while(const std::atomic<uint32_t>& word, uint32_t value) {
  static_assert(sizeof word == sizeof value && std::atomic<uint32_t>::is_always_lock_free);
  // It may return without a wake-up.
  while (word.load() == value) WaitOnAddress(const_cast<std::atomic<uint32_t>*>(&word), &value, sizeof value, INFINITE);
}
void wake_one(std::atomic<uint32_t>& word) { WakeByAddressSingle(&word); }
void wake_all(std::atomic<uint32_t>& word) { WakeByAddressAll(&word); }

// The scheduler is left to itself here.
int current_processor() { return -1; }
int64_t processor_time(std::thread&) { return -1; }
bool bring_here(std::thread&, ThreadAffinity*) { return false; }
void send_back(std::thread&, int, const ThreadAffinity&) {}
void avoid_processor(int, Avoidance*) {}

}  // namespace cudamoe::cpu
