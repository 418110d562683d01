// The device language's calls, for the running CUDA thread.
#include "simt/kernel_api.h"

#include <cstring>

#include "simt/block.h"
#include "simt/launch.h"
#include "simt/traffic.h"
#include "simt/tsan.h"

namespace cudamoe::simt {
namespace {

Thread& self() { return *static_cast<Thread*>(const_cast<ThreadView*>(current_thread)); }

// A loop that only waits for others is given this many turns.
constexpr int64_t kMostPauses = int64_t{1} << 22;

void perform(AsyncCopy& copy) {
  const Watched watched;
  if (traffic_listener != nullptr) traffic_listener->access(copy.source, static_cast<size_t>(copy.source_bytes), false);
  if (copy.source_bytes > 0) std::memcpy(copy.destination, copy.source, static_cast<size_t>(copy.source_bytes));
  std::memset(static_cast<char*>(copy.destination) + copy.source_bytes, 0, static_cast<size_t>(copy.bytes - copy.source_bytes));
  copy.done = true;
}

}  // namespace

void* shared_array(const SharedSite& declaration, int64_t bytes, int64_t alignment) {
  const Unwatched unwatched;
  return self().home->shared().array(declaration, bytes, alignment);
}

void* dynamic_shared_array(int64_t* bytes) { return self().home->shared().dynamic(bytes); }

uint32_t shared_window_address(const void* address) { return self().home->shared().window_address(address); }

void* shared_from_window(uint32_t address) { return self().home->shared().from_window(address); }

void before_shared_read(const void* address, int bytes, Site site) {
  const Unwatched unwatched;
  Thread& thread = self();
  Block& block = *thread.home;
  block.shared().read(address, bytes, block.access(thread, site), block);
}

void before_shared_write(void* address, int bytes, Site site) {
  const Unwatched unwatched;
  Thread& thread = self();
  Block& block = *thread.home;
  block.shared().write(address, bytes, block.access(thread, site), block);
}

void before_shared_atomic(void* address, int bytes, Site site) {
  const Unwatched unwatched;
  Thread& thread = self();
  Block& block = *thread.home;
  block.shared().atomic(address, bytes, block.access(thread, site), block);
}

void before_constant_read(const void* address, int bytes, Site site) {
  const Unwatched unwatched;
  self().home->launch().note_constant_read(address, bytes, site);
}

void report_shared_index(const char* what, int64_t index, int64_t bound, Site site) {
  report(Finding::kSharedOutOfBounds, site, "%s %lld of %lld", what, static_cast<long long>(index), static_cast<long long>(bound));
}

int sync_block(Site site, BarrierReduction reduction, int value) {
  const Unwatched unwatched;
  Thread& thread = self();
  return thread.home->barrier_sync(thread, 0, 0, true, reduction, value, site);
}

namespace {

void check_named_barrier(int id, int threads, const Block& block, Site site) {
  if (id < 1 || id > 15) report(Finding::kLaunch, site, "barrier %d; a named barrier is 1 to 15", id);
  if (threads < kWarpSize || threads % kWarpSize != 0 || threads > block.thread_count())
    report(Finding::kLaunch, site, "a barrier for %d threads; it must be a multiple of %d and at most the %d of the block", threads,
           kWarpSize, block.thread_count());
}

}  // namespace

void named_barrier_sync(int id, int threads, Site site) {
  const Unwatched unwatched;
  Thread& thread = self();
  check_named_barrier(id, threads, *thread.home, site);
  thread.home->barrier_sync(thread, id, threads, true, BarrierReduction::kNone, 0, site);
}

void named_barrier_arrive(int id, int threads, Site site) {
  const Unwatched unwatched;
  Thread& thread = self();
  check_named_barrier(id, threads, *thread.home, site);
  thread.home->barrier_sync(thread, id, threads, false, BarrierReduction::kNone, 0, site);
}

Exchange meet(uint32_t mask, WarpOperation operation, const void* value, int bytes, Site site) {
  const Unwatched unwatched;
  Thread& thread = self();
  return thread.home->meet(thread, mask, operation, value, bytes, site);
}

uint32_t Exchange::unseen_word(int lane, int i) const { return values_[lane * kMaxExchangeBytes / 4 + i]; }

int lane_of_current() { return self().rank % kWarpSize; }

void async_copy(void* destination, const void* source, int bytes, int source_bytes, Site site) {
  const Unwatched unwatched;
  Thread& thread = self();
  Block& block = *thread.home;
  check_alignment(destination, bytes, site);
  if (source_bytes > 0) check_alignment(source, bytes, site);
  if (source_bytes < 0 || source_bytes > bytes) report(Finding::kAsyncCopy, site, "a copy of %d bytes reads %d", bytes, source_bytes);
  const bool late = block.launch().copies_late();
  block.shared().begin_copy(destination, bytes, block.access(thread, site), block, late);
  thread.copies.push_back({destination, source, bytes, source_bytes, thread.copy_group, false, site});
  if (!late) perform(thread.copies.back());
}

void async_copy_commit() { ++self().copy_group; }

void async_copy_wait(int pending, Site) {
  const Unwatched unwatched;
  Thread& thread = self();
  Block& block = *thread.home;
  const int complete = thread.copy_group - pending;  // groups below this number
  size_t kept = 0;
  for (size_t i = 0; i < thread.copies.size(); ++i) {
    AsyncCopy& copy = thread.copies[i];
    if (copy.group >= complete) {
      thread.copies[kept++] = copy;
      continue;
    }
    if (!copy.done) perform(copy);
    block.shared().end_copy(copy.destination, copy.bytes, block.access(thread, copy.site), false);
  }
  thread.copies.resize(kept);
}

void async_copy_wait_all(Site site) {
  async_copy_commit();
  async_copy_wait(0, site);
}

void may_switch() {
  const Unwatched unwatched;
  Thread& thread = self();
  Launch& launch = thread.home->launch();
  if (launch.request().schedule.order == Order::kRandom && launch.random().below(4) == 0) launch.wait(thread);
}

void made_progress() { self().home->launch().progress(); }

void pause_thread(Site site) {
  const Unwatched unwatched;
  Thread& thread = self();
  Launch& launch = thread.home->launch();
  if (launch.count_pause() > kMostPauses)
    report(Finding::kLivelock, site, "%d threads are ready and none has made progress", launch.ready_threads());
  launch.pause(thread);
}

int architecture() { return self().home->launch().request().architecture; }

}  // namespace cudamoe::simt
