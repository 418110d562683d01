#include "simt/runtime/device_memory.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <iterator>

namespace cudamoe::simt {

size_t physical_memory() { return static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

bool DeviceMemory::contains(const void* pointer, size_t bytes) const {
  const auto* wanted = static_cast<const char*>(pointer);
  auto after = blocks_.upper_bound(const_cast<char*>(wanted));
  if (after == blocks_.begin()) return false;
  const auto& [begin, block] = *--after;
  const auto offset = static_cast<size_t>(wanted - begin);
  return offset <= block.bytes && bytes <= block.bytes - offset;
}

std::map<void*, size_t> DeviceMemory::blocks() const {
  std::map<void*, size_t> all;
  for (const auto& [begin, block] : blocks_) all.emplace(begin, block.bytes);
  return all;
}

size_t DeviceMemory::used(int device) const {
  size_t sum = 0;
  for (const auto& [begin, block] : blocks_) sum += block.device == device ? block.bytes : 0;
  return sum;
}

#if defined(__SANITIZE_ADDRESS__) || defined(CUDAMOE_SIMT_TSAN)

void* DeviceMemory::allocate(size_t bytes, int device) {
  // The size itself, so that AddressSanitizer sees an access right behind it.
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, bytes > 0 ? bytes : kAlignment) != 0) return nullptr;
  blocks_.emplace(static_cast<char*>(memory), Block{bytes, device});
  return memory;
}

bool DeviceMemory::release(void* pointer) {
  if (blocks_.erase(static_cast<char*>(pointer)) == 0) return false;
  std::free(pointer);
  return true;
}

void DeviceMemory::open() {}
void DeviceMemory::close() {}

#else

namespace {

constexpr size_t kPage = 4096;
// Addresses, not memory: room for gaps between blocks.
constexpr size_t kRangePerPhysical = 4;

char* range_begin = nullptr;
size_t range_bytes = 0;
struct sigaction previous_action;

void report_access(int signal, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr), begin = reinterpret_cast<uintptr_t>(range_begin);
  if (address >= begin && address < begin + range_bytes) {
    constexpr char kText[] =
        "simt: host code touched device memory, which only kernels and cudamoe_memory_copy may do; on a GPU it would fail as well\n";
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kText, sizeof kText - 1);
  }
  // Whoever handled the signal before goes on: a runtime prints where it happened; the default ends the process.
  if ((previous_action.sa_flags & SA_SIGINFO) != 0) {
    previous_action.sa_sigaction(signal, info, context);
  } else if (previous_action.sa_handler == SIG_DFL || previous_action.sa_handler == SIG_IGN) {
    ::signal(signal, SIG_DFL);
  } else {
    previous_action.sa_handler(signal);
  }
}

// Reserves the range once; false where the system does not give that many addresses.
bool reserve() {
  if (range_begin != nullptr) return true;
  const size_t bytes = physical_memory() / kPage * kPage * kRangePerPhysical;
  void* range = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) return false;
  range_begin = static_cast<char*>(range);
  range_bytes = bytes;
  struct sigaction action {};
  action.sa_sigaction = report_access;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  sigaction(SIGSEGV, &action, &previous_action);
  return true;
}

size_t pages(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

}  // namespace

void* DeviceMemory::allocate(size_t bytes, int device) {
  if (!reserve()) return nullptr;
  if (blocks_.empty() && free_.empty()) free_.emplace(0, range_bytes);
  const size_t wanted = pages(bytes > 0 ? bytes : 1);
  for (auto gap = free_.begin(); gap != free_.end(); ++gap) {
    const auto [offset, size] = *gap;
    if (size < wanted) continue;
    free_.erase(gap);
    if (size > wanted) free_.emplace(offset + wanted, size - wanted);
    char* const memory = range_begin + offset;
    if (offset + wanted > end_) end_ = offset + wanted;
    blocks_.emplace(memory, Block{bytes, device});
    return memory;
  }
  return nullptr;
}

bool DeviceMemory::release(void* pointer) {
  const auto found = blocks_.find(static_cast<char*>(pointer));
  if (found == blocks_.end()) return false;
  size_t offset = static_cast<size_t>(found->first - range_begin), size = pages(found->second.bytes > 0 ? found->second.bytes : 1);
  madvise(pointer, size, MADV_DONTNEED);
  blocks_.erase(found);
  // One gap with its neighbours.
  auto after = free_.lower_bound(offset);
  if (after != free_.end() && after->first == offset + size) {
    size += after->second;
    after = free_.erase(after);
  }
  if (after != free_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == offset) {
      before->second += size;
      return true;
    }
  }
  free_.emplace(offset, size);
  return true;
}

void DeviceMemory::open() {
  if (depth_++ == 0 && end_ > 0) mprotect(range_begin, end_, PROT_READ | PROT_WRITE);
}

void DeviceMemory::close() {
  if (--depth_ == 0 && end_ > 0) mprotect(range_begin, end_, PROT_NONE);
}

#endif

}  // namespace cudamoe::simt
