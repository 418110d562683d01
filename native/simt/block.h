// A running thread block: its threads, barriers, warps and shared memory.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "simt/fiber.h"
#include "simt/kernel_api.h"
#include "simt/shared_memory.h"

namespace cudamoe::simt {

class Block;
class Launch;
struct Meeting;

// Why a thread does not go on.
enum class Waiting { kNothing, kBarrier, kMeeting, kBarrierObject, kExited };

struct AsyncCopy {
  void* destination;
  const void* source;
  int bytes, source_bytes;
  int group;
  bool done;
  Site site;
};

// A wgmma under way.
struct Product {
  WgmmaOperands operands;
  bool a_in_registers;
  float rows[2][16];  // of A, when they came in registers
  int group;
  Site site;
  bool done = false;
};

struct Accumulators {
  float* address;
  std::vector<float> values;
};

// An mbarrier.
struct BarrierObject {
  const uint64_t* address;
  int expected, pending;
  int64_t bytes;   // expected and not yet landed
  uint32_t phase;  // completed phases
  void* token;
};

// A TMA copy under way.
struct BulkCopy {
  bool to_shared;
  void* shared;
  TensorMapFields map;
  int coordinates[5];
  const uint64_t* barrier;  // of a load
  int thread;
  int group;  // of a store
  Site site;
};

struct Thread : ThreadView {
  Block* home = nullptr;
  Fiber* fiber = nullptr;
  Waiting waiting = Waiting::kNothing;
  Site site;                   // where it waits
  int barrier = 0;             // id of the barrier that it waits at
  int barrier_value = 0;       // result of the last barrier
  Meeting* meeting = nullptr;  // the one that it waits in or came from last
  uint32_t acquired = 0;       // clock of the last partial synchronisation that it waited for
  uint32_t proxy_fence = 0;    // clock of its last fence.proxy.async
  std::vector<AsyncCopy> copies;
  int copy_group = 0;  // group that copies issued now will belong to
  std::vector<Product> products;
  std::vector<Accumulators> accumulators;
  int product_group = 0;
  bool accumulators_fenced = false;
  std::vector<BulkCopy> stores;  // TMA stores that were not waited for
  int store_group = 0;
  const uint64_t* object = nullptr;  // the mbarrier that it waits for, and the parity
  uint32_t parity = 0;
};

// The ready threads of a block.
class ReadySet {
 public:
  void resize(int count) { words_.assign(static_cast<size_t>((count + 63) / 64), 0), ready_ = 0; }
  void insert(int i) { ready_ += !contains(i), words_[static_cast<size_t>(i / 64)] |= bit(i); }
  void erase(int i) { ready_ -= contains(i), words_[static_cast<size_t>(i / 64)] &= ~bit(i); }
  bool contains(int i) const { return (words_[static_cast<size_t>(i / 64)] & bit(i)) != 0; }
  int count() const { return ready_; }
  int first() const;
  int last() const;
  int nth(int n) const;

 private:
  static uint64_t bit(int i) { return uint64_t{1} << (i % 64); }
  std::vector<uint64_t> words_;
  int ready_ = 0;
};

// A hardware barrier of a block; 0 is __syncthreads.
struct Barrier {
  int expected = 0;  // threads; 0 while nobody has arrived
  int arrived = 0;
  Site site;  // of the first to arrive
  BarrierReduction reduction = BarrierReduction::kNone;
  int count = 0, non_zero = 0;
  void* token = nullptr;
  std::vector<Thread*> waiting;
};

struct Warp {
  FiberGroup* fibers = nullptr;
  uint32_t live = 0;                       // lanes
  uint32_t synchronised = 0;               // clock of the last meeting of all its lanes
  std::vector<Meeting*> open;              // that wait for lanes
  std::unique_ptr<uint32_t[]> pair_clock;  // [lane, lane]: of their last meeting; made when part of the warp meets
};

class Block final : public Ordering {
 public:
  explicit Block(Launch& launch);
  ~Block();

  // Makes the threads of block `index` ready to run.
  void start(Dim3 index);
  // Declares what the threads did so far as done before what those do who acquire the token.
  void release(void* token);
  // Gives the fibers back; every thread has exited, or the launch has failed.
  void retire();

  Launch& launch() { return launch_; }
  int thread_count() const { return static_cast<int>(threads_.size()); }
  Thread& thread(int rank) { return *threads_[static_cast<size_t>(rank)]; }
  ReadySet& ready() { return ready_; }
  int live() const { return live_; }
  bool strict() const;
  SharedMemory& shared() { return shared_; }
  uint32_t clock() const { return clock_; }
  uint32_t advance_clock() { return ++clock_; }
  SharedMemory::Access access(const Thread& thread, Site site) const { return {thread.rank, clock_, site}; }
  int preferred_thread() const { return preferred_; }

  int barrier_sync(Thread& self, int id, int expected, bool wait, BarrierReduction reduction, int value, Site site);
  Exchange meet(Thread& self, uint32_t mask, WarpOperation operation, const void* value, int bytes, Site site);
  void exit(Thread& self);

  // ---- asynchronous operations (async.cpp) ----
  void init_object(Thread& self, uint64_t* address, int count, Site site);
  void arrive_object(Thread& self, uint64_t* address, int bytes, Site site);
  bool test_object(Thread& self, uint64_t* address, uint32_t parity, Site site);
  void wait_object(Thread& self, uint64_t* address, uint32_t parity, Site site);
  void start_load(Thread& self, const BulkCopy& copy);
  // Lets one pending TMA load land; false when there is none.
  bool land_one();
  // Moves the data of a copy.
  void move(const BulkCopy& copy);
  // What each thread waits for, for the report of a deadlock.
  void describe_waiting(char* text, size_t capacity);

  bool ordered(int earlier, uint32_t clock, int later) const override;
  bool fenced(int writer, uint32_t clock) const override { return threads_[static_cast<size_t>(writer)]->proxy_fence > clock; }

 private:
  static Fiber& thread_main(void* thread);
  void complete_barrier(int id);
  void complete_meeting(Warp& warp, int warp_index, Meeting* meeting);
  void leave_meeting(Thread& thread);
  void wake(Thread& thread);
  BarrierObject& find_object(Thread& self, const uint64_t* address, Site site);
  void complete_object(BarrierObject& object);

  Launch& launch_;
  Dim3 index_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<Warp> warps_;
  std::vector<Barrier> barriers_;
  std::vector<BarrierObject> objects_;
  std::vector<BulkCopy> bulk_copies_;
  ReadySet ready_;
  SharedMemory shared_;
  int live_ = 0, preferred_ = 0;
  uint32_t clock_ = 1;       // grows with every completed synchronisation
  uint32_t block_sync_ = 0;  // clock of the last barrier of all threads
};

}  // namespace cudamoe::simt
