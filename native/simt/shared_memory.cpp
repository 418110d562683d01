#include "simt/shared_memory.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define CUDAMOE_POISON(address, bytes) __asan_poison_memory_region(address, static_cast<size_t>(bytes))
#define CUDAMOE_UNPOISON(address, bytes) __asan_unpoison_memory_region(address, static_cast<size_t>(bytes))
#else
#define CUDAMOE_POISON(address, bytes) static_cast<void>(0)
#define CUDAMOE_UNPOISON(address, bytes) static_cast<void>(0)
#endif

namespace cudamoe::simt {
namespace {

constexpr int64_t kArenaAlignment = 1024;
constexpr int kCellBytes = 2;

std::vector<const char*>& files() {
  static auto& list = *new std::vector<const char*>;
  return list;
}

int64_t rounded_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

PackedSite pack_site(Site site) {
  std::vector<const char*>& list = files();
  const auto found = std::find(list.begin(), list.end(), site.file);
  const auto index = static_cast<uint32_t>(found - list.begin());
  if (found == list.end()) list.push_back(site.file);
  return index << 16 | static_cast<uint32_t>(site.line & 0xFFFF);
}

Site unpack_site(PackedSite packed) { return {files()[packed >> 16], static_cast<int>(packed & 0xFFFFu)}; }

// Storage is kept from launch to launch: its shadow has millions of bytes, of which a block uses few.
struct SharedMemory::Pool {
  struct Storage {
    unsigned char* base;
    std::vector<Cell> cells;
    int64_t used;
  };

  static Pool& instance() {
    static auto& pool = *new Pool;
    return pool;
  }

  std::mutex mutex;
  std::vector<Storage> free;
};

SharedMemory::SharedMemory() {
  Pool& pool = Pool::instance();
  const std::lock_guard lock(pool.mutex);
  if (pool.free.empty()) {
    base_ = allocate();
    cells_.resize(kArenaBytes / kCellBytes);
    used_ = kArenaBytes;
    return;
  }
  Pool::Storage& storage = pool.free.back();
  base_ = storage.base;
  cells_ = std::move(storage.cells);
  used_ = storage.used;
  pool.free.pop_back();
}

unsigned char* SharedMemory::allocate() {
  void* memory = std::aligned_alloc(kArenaAlignment, kArenaBytes);
  if (memory == nullptr) throw std::bad_alloc();
  return static_cast<unsigned char*>(memory);
}

SharedMemory::~SharedMemory() {
  Pool& pool = Pool::instance();
  const std::lock_guard lock(pool.mutex);
  pool.free.push_back({base_, std::move(cells_), used_});
}

void SharedMemory::reset(int64_t dynamic_bytes, int64_t limit_bytes) {
  CUDAMOE_UNPOISON(base_, kArenaBytes);
#if defined(CUDAMOE_SIMT_TSAN)
  // To ThreadSanitizer the shared memory of another block is other memory.
  std::free(base_);
  base_ = allocate();
#endif
  auto* words = reinterpret_cast<uint16_t*>(base_);
  std::fill(words, words + used_ / kCellBytes, kPoison);
  std::fill(cells_.begin(), cells_.begin() + used_ / kCellBytes, Cell{});
  CUDAMOE_POISON(base_, kArenaBytes);
  arrays_.clear();
  limit_ = limit_bytes;
  dynamic_bytes_ = dynamic_bytes;
  budget_ = dynamic_bytes;
  open(0, dynamic_bytes);
  used_ = rounded_up(dynamic_bytes + kGap, kGap);
}

void SharedMemory::open(int64_t begin, [[maybe_unused]] int64_t bytes) {
  CUDAMOE_UNPOISON(base_ + begin, bytes);
  for (int64_t i = begin / kCellBytes; i < (begin + bytes + kCellBytes - 1) / kCellBytes; ++i)
    cells_[static_cast<size_t>(i)].flags = kInArray;
}

void* SharedMemory::array(const SharedSite& declaration, int64_t bytes, int64_t alignment) {
  for (const Array& array : arrays_) {
    if (array.declaration == &declaration) return base_ + array.begin;
  }
  budget_ = rounded_up(budget_, alignment) + bytes;
  const int64_t begin = rounded_up(used_, std::max<int64_t>(alignment, 16));
  if (budget_ > limit_ || begin + bytes + kGap > kArenaBytes)
    report(Finding::kLaunch, declaration.site, "shared memory of %lld bytes, with array %s; the architecture has %lld",
           static_cast<long long>(budget_), declaration.name, static_cast<long long>(limit_));
  arrays_.push_back({&declaration, begin, bytes});
  open(begin, bytes);
  used_ = rounded_up(begin + bytes + kGap, kGap);
  return base_ + begin;
}

void* SharedMemory::dynamic(int64_t* bytes) const {
  *bytes = dynamic_bytes_;
  return base_;
}

uint32_t SharedMemory::window_address(const void* address) const {
  return static_cast<uint32_t>(static_cast<const unsigned char*>(address) - base_) + kWindowBase;
}

const char* SharedMemory::describe(const void* address, char (&text)[160]) const {
  const int64_t at = static_cast<const unsigned char*>(address) - base_;
  for (const Array& array : arrays_) {
    if (at < array.begin || at >= array.begin + array.bytes) continue;
    std::snprintf(text, sizeof text, "shared array %s, byte %lld", array.declaration->name, static_cast<long long>(at - array.begin));
    return text;
  }
  std::snprintf(text, sizeof text, "dynamic shared memory, byte %lld", static_cast<long long>(at));
  return text;
}

SharedMemory::Cell* SharedMemory::cells_of(const void* address, int bytes, Site site) {
  const int64_t at = static_cast<const unsigned char*>(address) - base_;
  if (at < 0 || at + bytes > kArenaBytes)
    report(Finding::kSharedOutOfBounds, site, "an access of %d bytes at %p, which is not shared memory of this block", bytes, address);
  if (at % std::min(bytes, 16) != 0)
    report(Finding::kMisaligned, site, "a shared access of %d bytes at byte %lld", bytes, static_cast<long long>(at));
  Cell* cells = cells_.data() + at / kCellBytes;
  for (int i = 0; i * kCellBytes < bytes; ++i) {
    if ((cells[i].flags & kInArray) == 0)
      report(Finding::kSharedOutOfBounds, site, "an access of %d bytes at byte %lld of the block's shared memory, outside all arrays",
             bytes, static_cast<long long>(at));
  }
  return cells;
}

void SharedMemory::race(const void* address, const char* what, const Access& access, const char* did, const Use& earlier) const {
  char text[160];
  const Site site = unpack_site(earlier.site);
  report(Finding::kSharedRace, access.site, "%s of %s; thread %d %s it at %s:%d and no barrier lies between", what, describe(address, text),
         earlier.thread, did, site.file, site.line);
}

void SharedMemory::check_written(const Cell& cell, const void* address, const Access& access) const {
  char text[160];
  if ((cell.flags & kWritten) == 0)
    report(Finding::kUninitialisedShared, access.site, "a read of %s, which no thread of the block has written", describe(address, text));
}

void SharedMemory::check_pending(const Cell& cell, const void* address, const Access& access) const {
  if ((cell.flags & kPending) == 0) return;
  char text[160];
  const Site site = unpack_site(cell.write.site);
  report(Finding::kAsyncCopy, access.site, "a use of %s while the asynchronous copy of thread %d at %s:%d was not waited for",
         describe(address, text), cell.write.thread, site.file, site.line);
}

void SharedMemory::check_no_writer(const Cell& cell, const void* address, const char* what, const Access& access,
                                   const Ordering& order) const {
  const Use& write = cell.write;
  if (write.thread == kNobody || write.thread == access.thread || order.ordered(write.thread, write.clock, access.thread)) return;
  race(address, what, access, "wrote", write);
}

void SharedMemory::check_no_atomic(const Cell& cell, const void* address, const char* what, const Access& access,
                                   const Ordering& order) const {
  const Use& atomic = cell.atomic;
  if (atomic.thread == kNobody || atomic.thread == access.thread || order.ordered(atomic.thread, atomic.clock, access.thread)) return;
  race(address, what, access, "changed", atomic);
}

void SharedMemory::check_no_reader(const Cell& cell, const void* address, const char* what, const Access& access,
                                   const Ordering& order) const {
  for (const Use& read : {cell.read, cell.other_read}) {
    if (read.thread == kNobody || read.thread == access.thread || order.ordered(read.thread, read.clock, access.thread)) continue;
    race(address, what, access, "read", read);
  }
}

template <class Do>
void SharedMemory::each_cell(const void* address, int bytes, const Access& access, Do&& action) {
  Cell* cells = cells_of(address, bytes, access.site);
  const Use use{access.clock, pack_site(access.site), static_cast<uint16_t>(access.thread)};
  for (int i = 0; i * kCellBytes < bytes; ++i) action(cells[i], use);
}

void SharedMemory::read(const void* address, int bytes, const Access& access, const Ordering& order) {
  each_cell(address, bytes, access, [&](Cell& cell, const Use& use) {
    check_pending(cell, address, access);
    check_written(cell, address, access);
    check_no_writer(cell, address, "a read", access, order);
    check_no_atomic(cell, address, "a read", access, order);
    if (cell.read.thread != use.thread) cell.other_read = cell.read;
    cell.read = use;
  });
}

void SharedMemory::write(void* address, int bytes, const Access& access, const Ordering& order) {
  each_cell(address, bytes, access, [&](Cell& cell, const Use& use) {
    check_pending(cell, address, access);
    check_no_writer(cell, address, "a write", access, order);
    check_no_atomic(cell, address, "a write", access, order);
    check_no_reader(cell, address, "a write", access, order);
    cell = {use, {}, kInArray | kWritten, {}, {}};
  });
}

void SharedMemory::atomic(void* address, int bytes, const Access& access, const Ordering& order) {
  each_cell(address, bytes, access, [&](Cell& cell, const Use& use) {
    check_pending(cell, address, access);
    check_written(cell, address, access);
    check_no_writer(cell, address, "an atomic operation", access, order);
    check_no_reader(cell, address, "an atomic operation", access, order);
    cell.atomic = use;
  });
}

void SharedMemory::async_proxy_read(const void* address, int bytes, const Access& access, const Ordering& order) {
  each_cell(address, bytes, access, [&](Cell& cell, const Use& use) {
    check_pending(cell, address, access);
    check_written(cell, address, access);
    check_no_writer(cell, address, "an asynchronous read", access, order);
    if (cell.read.thread != use.thread) cell.other_read = cell.read;
    cell.read = use;
    if (cell.write.thread == kNobody || (cell.flags & kAsyncWritten) != 0 || order.fenced(cell.write.thread, cell.write.clock)) return;
    char text[160];
    const Site site = unpack_site(cell.write.site);
    report(Finding::kMissingProxyFence, access.site, "a read of %s, which thread %d wrote at %s:%d without fence.proxy.async after it",
           describe(address, text), cell.write.thread, site.file, site.line);
  });
}

void SharedMemory::begin_copy(void* destination, int bytes, const Access& access, const Ordering& order, bool spoil) {
  write(destination, bytes, access, order);
  const int64_t at = static_cast<unsigned char*>(destination) - base_;
  for (int64_t i = at / kCellBytes; i * kCellBytes < at + bytes; ++i) cells_[static_cast<size_t>(i)].flags = kInArray | kWritten | kPending;
  if (spoil) std::fill_n(static_cast<uint16_t*>(destination), bytes / kCellBytes, kPoison);
}

void SharedMemory::end_copy(void* destination, int bytes, const Access& access, bool by_proxy) {
  const int64_t at = static_cast<unsigned char*>(destination) - base_;
  for (int64_t i = at / kCellBytes; i * kCellBytes < at + bytes; ++i) {
    Cell& cell = cells_[static_cast<size_t>(i)];
    cell.flags = by_proxy ? kInArray | kWritten | kAsyncWritten : kInArray | kWritten;
    cell.write.clock = access.clock;
    cell.write.thread = by_proxy ? kNobody : static_cast<uint16_t>(access.thread);
  }
}

}  // namespace cudamoe::simt
