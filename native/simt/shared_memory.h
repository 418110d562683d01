// The shared memory of a running block, and a shadow of it that knows for every two bytes who wrote and who read them last, and when.
//
// Time is the block's clock, which every completed barrier and warp operation advances. Two accesses by different threads are ordered when
// a barrier that both took part in lies between them; of two that are not, one of them a write, the second is reported. Barriers of part of
// a block and mbarriers are taken to order everything that their waiter does after them: what that lets pass, ThreadSanitizer finds, which
// sees the exact edges.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "simt/kernel_api.h"

namespace cudamoe::simt {

// A site in four bytes: the file by its index in a list.
using PackedSite = uint32_t;
PackedSite pack_site(Site site);
Site unpack_site(PackedSite packed);

// Whether an access of thread `earlier` at `clock` comes before what thread `later` does now.
class Ordering {
 public:
  virtual bool ordered(int earlier, uint32_t clock, int later) const = 0;
  // Whether `writer` made its generic writes of `clock` known to the asynchronous proxy.
  virtual bool fenced(int writer, uint32_t clock) const = 0;

 protected:
  ~Ordering() = default;
};

class SharedMemory {
 public:
  // Signalling NaN as f32 and as bf16, and far out of bounds as an index.
  static constexpr uint16_t kPoison = 0x7FA1;

  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // Forgets all arrays and poisons what they used; then `dynamic_bytes` lie at the front.
  void reset(int64_t dynamic_bytes, int64_t limit_bytes);
  void* array(const SharedSite& declaration, int64_t bytes, int64_t alignment);
  void* dynamic(int64_t* bytes) const;
  bool contains(const void* address) const { return address >= base_ && address < base_ + kArenaBytes; }
  uint32_t window_address(const void* address) const;
  void* from_window(uint32_t address) const { return base_ + (address - kWindowBase); }

  struct Access {
    int thread;
    uint32_t clock;
    Site site;
  };
  void read(const void* address, int bytes, const Access& access, const Ordering& order);
  void write(void* address, int bytes, const Access& access, const Ordering& order);
  void atomic(void* address, int bytes, const Access& access, const Ordering& order);
  // A read by TMA or wgmma, which sees generic writes only after fence.proxy.async.
  void async_proxy_read(const void* address, int bytes, const Access& access, const Ordering& order);
  // From issue to completion of an asynchronous copy its destination belongs to nobody; it is poison when `spoil` is set.
  void begin_copy(void* destination, int bytes, const Access& access, const Ordering& order, bool spoil);
  // The copy counts as a write of `access.thread`, or as one by nobody that all who waited for it may read (`by_proxy`).
  void end_copy(void* destination, int bytes, const Access& access, bool by_proxy);

 private:
  static constexpr int64_t kArenaBytes = int64_t{256} << 10;
  static constexpr int64_t kGap = 64;            // between arrays; poisoned under AddressSanitizer
  static constexpr uint32_t kWindowBase = 1024;  // shared addresses are small numbers; 0 is none
  static constexpr uint16_t kNobody = 0xFFFF;
  enum Flags : uint16_t { kWritten = 1, kInArray = 2, kPending = 4, kAsyncWritten = 8 };

  struct Use {
    uint32_t clock = 0;
    PackedSite site = 0;
    uint16_t thread = kNobody;
  };
  // Of two bytes.
  struct Cell {
    Use write, atomic;  // the last of each
    uint16_t flags = 0;
    Use read, other_read;  // the last one, and the last one by another thread: a later writer is at most one of them
  };

  struct Array {
    const SharedSite* declaration;
    int64_t begin, bytes;
  };

  struct Pool;

  static unsigned char* allocate();
  Cell* cells_of(const void* address, int bytes, Site site);
  // action(cell, use) for each cell of the access, where use is what the cell remembers of it.
  template <class Do>
  void each_cell(const void* address, int bytes, const Access& access, Do&& action);
  void open(int64_t begin, int64_t bytes);
  const char* describe(const void* address, char (&text)[160]) const;
  [[noreturn]] void race(const void* address, const char* what, const Access& access, const char* did, const Use& earlier) const;
  void check_written(const Cell& cell, const void* address, const Access& access) const;
  void check_pending(const Cell& cell, const void* address, const Access& access) const;
  void check_no_writer(const Cell& cell, const void* address, const char* what, const Access& access, const Ordering& order) const;
  void check_no_atomic(const Cell& cell, const void* address, const char* what, const Access& access, const Ordering& order) const;
  void check_no_reader(const Cell& cell, const void* address, const char* what, const Access& access, const Ordering& order) const;

  unsigned char* base_ = nullptr;
  std::vector<Cell> cells_;
  std::vector<Array> arrays_;
  int64_t used_ = 0, budget_ = 0, limit_ = 0, dynamic_bytes_ = 0;
};

}  // namespace cudamoe::simt
