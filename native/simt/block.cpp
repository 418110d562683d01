#include "simt/block.h"

#include <algorithm>
#include <bit>
#include <cstdio>

#include "simt/launch.h"
#include "simt/tsan.h"

namespace cudamoe::simt {

// Lanes of a warp that bring values to each other. It lives from the first arrival until the last participant has moved on.
struct Meeting {
  uint32_t mask = 0, arrived = 0;
  WarpOperation operation = WarpOperation::kSync;
  int bytes = 0;
  Site site;
  int references = 0;
  void* token = nullptr;
  uint32_t values[kWarpSize * kMaxExchangeBytes / 4];
};

namespace {

constexpr int kBarriers = 16;

// Meetings are used again. One launch runs at a time.
std::vector<Meeting*>& free_meetings() {
  static auto& list = *new std::vector<Meeting*>;
  return list;
}

Meeting* new_meeting() {
  std::vector<Meeting*>& list = free_meetings();
  if (list.empty()) return new Meeting;
  Meeting* meeting = list.back();
  list.pop_back();
  return meeting;
}

const char* operation_name(WarpOperation operation) {
  constexpr const char* kNames[] = {"sync_warp", "shuffle",  "vote", "match", "reduce",    "elect",
                                    "ldmatrix",  "stmatrix", "mma",  "wgmma", "setmaxnreg"};
  return kNames[static_cast<int>(operation)];
}

int lane_of(const Thread& thread) { return thread.rank % kWarpSize; }

}  // namespace

int ReadySet::first() const {
  for (size_t w = 0; w < words_.size(); ++w) {
    if (words_[w] != 0) return static_cast<int>(w) * 64 + std::countr_zero(words_[w]);
  }
  return -1;
}

int ReadySet::last() const {
  for (size_t w = words_.size(); w-- > 0;) {
    if (words_[w] != 0) return static_cast<int>(w) * 64 + 63 - std::countl_zero(words_[w]);
  }
  return -1;
}

int ReadySet::nth(int n) const {
  for (size_t w = 0; w < words_.size(); ++w) {
    const int here = std::popcount(words_[w]);
    if (n >= here) {
      n -= here;
      continue;
    }
    uint64_t word = words_[w];
    for (; n > 0; --n) word &= word - 1;
    return static_cast<int>(w) * 64 + std::countr_zero(word);
  }
  return -1;
}

Block::Block(Launch& launch) : launch_(launch), barriers_(kBarriers) {
  const auto count = static_cast<size_t>(launch.request().block.count());
  for (size_t i = 0; i < count; ++i) threads_.push_back(std::make_unique<Thread>());
  warps_.resize((count + kWarpSize - 1) / kWarpSize);
}

Block::~Block() = default;

bool Block::strict() const { return launch_.request().schedule.strict_exits; }

void Block::start(Dim3 index) {
  index_ = index;
  const LaunchRequest& request = launch_.request();
  shared_.reset(request.dynamic_shared_bytes, limits_of(request.architecture).shared_bytes);
  clock_ = 1;
  block_sync_ = 0;
  for (Barrier& barrier : barriers_) barrier = Barrier{};
  objects_.clear();
  bulk_copies_.clear();
  for (Warp& warp : warps_) {
    warp.fibers = &FiberPool::take();
    warp.live = warp.synchronised = 0;
    warp.open.clear();
    warp.pair_clock.reset();
  }
  live_ = thread_count();
  ready_.resize(live_);
  preferred_ = launch_.random().below(live_);
  for (int rank = 0; rank < live_; ++rank) {
    Thread& thread = this->thread(rank);
    thread.thread = {rank % request.block.x, rank / request.block.x % request.block.y, rank / (request.block.x * request.block.y)};
    thread.block = index;
    thread.block_size = request.block;
    thread.grid_size = request.grid;
    thread.rank = rank;
    thread.home = this;
    thread.waiting = Waiting::kNothing;
    thread.meeting = nullptr;
    thread.acquired = thread.proxy_fence = 0;
    thread.copies.clear();
    thread.copy_group = 0;
    thread.products.clear();
    thread.accumulators.clear();
    thread.product_group = 0;
    thread.accumulators_fenced = false;
    thread.stores.clear();
    thread.store_group = 0;
    Warp& warp = warps_[static_cast<size_t>(rank / kWarpSize)];
    warp.live |= 1u << lane_of(thread);
    thread.fiber = &warp.fibers->fibers[lane_of(thread)];
    thread.fiber->start(thread_main, &thread);
    ready_.insert(rank);
  }
}

void Block::release(void* token) {
  for (const auto& thread : threads_) thread->fiber->release(token);
}

void Block::retire() {
  for (const auto& thread : threads_) {
    leave_meeting(*thread);
  }
  for (Warp& warp : warps_) {
    FiberPool::give_back(*warp.fibers);
    for (Meeting* meeting : warp.open) free_meetings().push_back(meeting);
    warp.open.clear();
  }
}

Fiber& Block::thread_main(void* argument) {
  const Unwatched unwatched;
  auto* self = static_cast<Thread*>(argument);
  Launch& launch = self->home->launch();
  acquire_token(launch.begin_token());
  {
    const Watched watched;
    launch.request().body(launch.request().arguments);
  }
  release_token(launch.end_token());
  self->home->exit(*self);
  return launch.leave(*self);
}

void Block::wake(Thread& thread) {
  thread.waiting = Waiting::kNothing;
  ready_.insert(thread.rank);
}

// ---- barriers ----

int Block::barrier_sync(Thread& self, int id, int expected, bool wait, BarrierReduction reduction, int value, Site site) {
  Barrier& barrier = barriers_[static_cast<size_t>(id)];
  const bool whole = expected == 0;
  if (whole && strict() && live_ < thread_count())
    report(Finding::kExitedBeforeBarrier, site, "%d of %d threads of the block have left the kernel", thread_count() - live_,
           thread_count());
  if (barrier.arrived == 0) {
    barrier.site = site;
    barrier.expected = expected;
    barrier.reduction = reduction;
    barrier.count = barrier.non_zero = 0;
    barrier.token = new_token();
  } else if (whole && !(barrier.site == site)) {
    report(Finding::kDivergentBarrier, site, "other threads of the block wait at the barrier at %s:%d", barrier.site.file,
           barrier.site.line);
  } else if (barrier.expected != expected || barrier.reduction != reduction) {
    report(Finding::kDivergentBarrier, site, "barrier %d is for %d threads here and for %d at %s:%d", id, expected, barrier.expected,
           barrier.site.file, barrier.site.line);
  }
  ++barrier.arrived;
  ++barrier.count;
  barrier.non_zero += value != 0;
  void* const token = barrier.token;  // the next barrier of this id has another
  release_token(token);
  if (wait) {
    barrier.waiting.push_back(&self);
    self.waiting = Waiting::kBarrier;
    self.barrier = id;
    self.site = site;
    ready_.erase(self.rank);
  }
  if (barrier.arrived == (whole ? live_ : expected)) complete_barrier(id);
  if (!wait) return 0;
  launch_.wait(self);
  acquire_token(token);
  return self.barrier_value;
}

void Block::complete_barrier(int id) {
  Barrier& barrier = barriers_[static_cast<size_t>(id)];
  const bool whole = barrier.expected == 0;
  ++clock_;
  if (whole) block_sync_ = clock_;
  const int result = barrier.reduction == BarrierReduction::kCount ? barrier.non_zero
                     : barrier.reduction == BarrierReduction::kAnd ? barrier.non_zero == barrier.count
                                                                   : barrier.non_zero != 0;
  for (Thread* thread : barrier.waiting) {
    thread->barrier_value = result;
    if (!whole) thread->acquired = clock_;
    wake(*thread);
  }
  barrier.waiting.clear();
  barrier.arrived = 0;
  launch_.progress();
}

// ---- warps ----

Exchange Block::meet(Thread& self, uint32_t mask, WarpOperation operation, const void* value, int bytes, Site site) {
  const int warp_index = self.rank / kWarpSize, lane = lane_of(self);
  Warp& warp = warps_[static_cast<size_t>(warp_index)];
  leave_meeting(self);
  if ((mask >> lane & 1u) == 0)
    report(Finding::kWarpMask, site, "%s by lane %d with mask %#010x, which does not name it", operation_name(operation), lane, mask);
  Meeting* meeting = nullptr;
  for (Meeting* other : warp.open) {
    if (other->mask == mask) {
      meeting = other;
    } else if ((other->arrived & mask) != 0 && (other->mask >> lane & 1u) != 0) {
      // Each waits for the other. Lanes that only have yet to come to the other meeting may meet among themselves before.
      report(Finding::kWarpMask, site, "%s with mask %#010x, while lanes %#010x wait at %s:%d with mask %#010x", operation_name(operation),
             mask, other->arrived, other->site.file, other->site.line, other->mask);
    }
  }
  if (meeting == nullptr) {
    meeting = new_meeting();
    meeting->mask = mask;
    meeting->arrived = 0;
    meeting->operation = operation;
    meeting->bytes = bytes;
    meeting->site = site;
    meeting->references = 0;
    meeting->token = new_lane_token();
    warp.open.push_back(meeting);
  } else if (meeting->operation != operation || meeting->bytes != bytes) {
    report(Finding::kWarpOperation, site, "%s of %d bytes, while lanes %#010x wait in %s of %d bytes at %s:%d", operation_name(operation),
           bytes, meeting->arrived, operation_name(meeting->operation), meeting->bytes, meeting->site.file, meeting->site.line);
  }
  volatile uint32_t* slot = meeting->values + lane * kMaxExchangeBytes / 4;
  for (int i = 0; i < bytes / 4; ++i) {
    uint32_t word;
    __builtin_memcpy(&word, static_cast<const char*>(value) + 4 * i, 4);
    slot[i] = word;
  }
  meeting->arrived |= 1u << lane;
  ++meeting->references;
  self.meeting = meeting;
  self.waiting = Waiting::kMeeting;
  self.site = site;
  ready_.erase(self.rank);
  release_token(meeting->token);
  if (meeting->arrived == (mask & warp.live)) complete_meeting(warp, warp_index, meeting);
  launch_.wait(self);
  acquire_token(meeting->token);
  return {meeting->values, meeting->arrived};
}

void Block::complete_meeting(Warp& warp, int warp_index, Meeting* meeting) {
  warp.open.erase(std::find(warp.open.begin(), warp.open.end(), meeting));
  ++clock_;
  const uint32_t all = warp.live;
  const bool whole = meeting->arrived == all;
  if (whole) warp.synchronised = clock_;
  if (!whole && warp.pair_clock == nullptr) warp.pair_clock = std::make_unique<uint32_t[]>(kWarpSize * kWarpSize);
  uint32_t acquired = 0;
  for (int lane = 0; lane < kWarpSize; ++lane) {
    if ((meeting->arrived >> lane & 1u) == 0) continue;
    acquired = std::max(acquired, thread(warp_index * kWarpSize + lane).acquired);
    for (int other = 0; !whole && other < kWarpSize; ++other) {
      if ((meeting->arrived >> other & 1u) != 0) warp.pair_clock[static_cast<size_t>(lane * kWarpSize + other)] = clock_;
    }
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    if ((meeting->arrived >> lane & 1u) == 0) continue;
    Thread& thread = this->thread(warp_index * kWarpSize + lane);
    thread.acquired = acquired;
    wake(thread);
  }
  launch_.progress();
}

void Block::leave_meeting(Thread& thread) {
  Meeting* meeting = thread.meeting;
  thread.meeting = nullptr;
  if (meeting == nullptr || --meeting->references > 0) return;
  const Warp& warp = warps_[static_cast<size_t>(thread.rank / kWarpSize)];
  if (std::find(warp.open.begin(), warp.open.end(), meeting) == warp.open.end()) free_meetings().push_back(meeting);
}

// ---- the end of a thread ----

void Block::exit(Thread& self) {
  if (!self.products.empty())
    report(Finding::kAccumulator, self.products.front().site, "the thread leaves the kernel with a wgmma that it never waited for");
  if (!self.copies.empty())
    report(Finding::kAsyncCopy, self.copies.front().site, "the thread leaves the kernel with copies that it never waited for");
  leave_meeting(self);
  self.waiting = Waiting::kExited;
  self.site = {};
  ready_.erase(self.rank);
  --live_;
  const int warp_index = self.rank / kWarpSize;
  Warp& warp = warps_[static_cast<size_t>(warp_index)];
  warp.live &= ~(1u << lane_of(self));
  launch_.progress();
  // Those who waited for it only need not any more.
  Barrier& barrier = barriers_[0];
  if (barrier.arrived > 0 && barrier.expected == 0) {
    if (strict()) {
      const Site site = barrier.site;
      report(Finding::kExitedBeforeBarrier, site, "a thread leaves the kernel while others wait at this barrier");
    }
    if (barrier.arrived == live_) complete_barrier(0);
  }
  const std::vector<Meeting*> open = warp.open;
  for (Meeting* meeting : open) {
    if (meeting->arrived == (meeting->mask & warp.live)) complete_meeting(warp, warp_index, meeting);
  }
}

// ---- order of accesses ----

bool Block::ordered(int earlier, uint32_t clock, int later) const {
  if (block_sync_ > clock) return true;
  if (threads_[static_cast<size_t>(later)]->acquired > clock) return true;
  if (earlier / kWarpSize != later / kWarpSize) return false;
  const Warp& warp = warps_[static_cast<size_t>(later / kWarpSize)];
  if (warp.synchronised > clock) return true;
  return warp.pair_clock != nullptr && warp.pair_clock[static_cast<size_t>((earlier % kWarpSize) * kWarpSize + later % kWarpSize)] > clock;
}

void Block::describe_waiting(char* text, size_t capacity) {
  // Runs of threads that wait for the same thing at the same place.
  const auto same = [](const Thread& a, const Thread& b) { return a.waiting == b.waiting && a.site == b.site && a.barrier == b.barrier; };
  size_t length = 0;
  const auto append = [&](const char* format, auto... values) {
    if (length < capacity) length += static_cast<size_t>(std::snprintf(text + length, capacity - length, format, values...));
  };
  for (int first = 0; first < thread_count() && length < capacity;) {
    int last = first;
    while (last + 1 < thread_count() && same(thread(first), thread(last + 1))) ++last;
    const Thread& one = thread(first);
    append(first == 0 ? "%s" : "%s; ", "");
    if (first == last) {
      append("thread %d ", first);
    } else {
      append("threads %d to %d ", first, last);
    }
    switch (one.waiting) {
      case Waiting::kBarrier:
        append("wait at barrier %d", one.barrier);
        break;
      case Waiting::kMeeting:
        append("wait in %s with mask %#010x", operation_name(one.meeting->operation), one.meeting->mask);
        break;
      case Waiting::kBarrierObject:
        append("wait for an mbarrier%s", "");
        break;
      case Waiting::kExited:
        append("have exited%s", "");
        break;
      default:
        append("are ready%s", "");
    }
    if (one.site.line != 0) append(" at %s:%d", one.site.file, one.site.line);
    first = last + 1;
  }
}

}  // namespace cudamoe::simt
