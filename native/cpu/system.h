// What the cpu device asks of the operating system. One implementation a platform, system_<platform>.cpp.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>

namespace cudamoe::cpu {

// Processors that this process may use: its affinity, and on Linux the processor quota of its control group.
int usable_processors();

// Bytes of physical memory.
int64_t physical_memory();

// Memory of undefined contents; null when it cannot be had. alignment is a power of two, bytes a multiple of it. huge_pages asks for large
// pages where the system has such a request; it changes speed only.
void* allocate_aligned(int64_t bytes, int64_t alignment, bool huge_pages);
void release_aligned(void* memory);

// The processor that the calling thread runs on, or -1.
int current_processor();

// Sleeps while `word` holds `value`. Who changes the word wakes one of its sleepers, or all. The system's own calls, as those of
// std::atomic are not everywhere: libstdc++ makes them of a condition variable on Windows, and version 12 loses wake-ups.
void sleep_while(const std::atomic<uint32_t>& word, uint32_t value);
void wake_one(std::atomic<uint32_t>& word);
void wake_all(std::atomic<uint32_t>& word);

// Nanoseconds of processor time that a thread of this process has had, or -1. That of a thread that waits for a processor stands still.
int64_t processor_time(std::thread& thread);

// The processors that a thread may use.
struct ThreadAffinity {
  alignas(8) std::byte bits[128];
};
// Makes the calling thread's processor the only one of another thread of this process, which moves there at once. False: nothing was done.
bool bring_here(std::thread& thread, ThreadAffinity* before);
// Moves a thread to that processor and gives it back its affinity.
void send_back(std::thread& thread, int processor, const ThreadAffinity& before);

// A processor that a thread avoids, and the affinity that this left it.
struct Avoidance {
  int processor = -1;
  ThreadAffinity left;
};
// The calling thread leaves `processor` and stays away from it, and may use again the one that it avoided before. Nothing happens when it
// may use no other.
void avoid_processor(int processor, Avoidance* avoidance);

}  // namespace cudamoe::cpu
