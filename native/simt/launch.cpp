#include "simt/launch.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <numeric>

#include "simt/traffic.h"
#include "simt/tsan.h"

namespace cudamoe::simt {

constinit thread_local const ThreadView* current_thread = nullptr;
constinit TrafficListener* traffic_listener = nullptr;

namespace {

// Blocks that are resident together in the random order.
constexpr size_t kRandomWindow = 3;

// Reads beyond this number are not checked.
constexpr size_t kMostConstantReads = size_t{1} << 18;

std::mutex& launch_mutex() {
  static auto& mutex = *new std::mutex;
  return mutex;
}

}  // namespace

// Compute capabilities 8.0, 8.6, 8.9 and 9.0.
Limits limits_of(int architecture) {
  const int64_t shared_kib = architecture >= 90 ? 227 : architecture == 80 ? 163 : 99;
  return {1024, 64, 65535, (int64_t{1} << 31) - 1, shared_kib << 10};
}

const char* finding_name(Finding finding) {
  constexpr const char* kNames[] = {"shared memory race",
                                    "uninitialised shared memory",
                                    "shared index out of bounds",
                                    "misaligned access",
                                    "divergent barrier",
                                    "thread exited before barrier",
                                    "deadlock",
                                    "livelock",
                                    "wrong warp mask",
                                    "different warp operations",
                                    "value of an inactive lane",
                                    "asynchronous copy not waited for",
                                    "missing proxy fence",
                                    "mbarrier misuse",
                                    "bad descriptor",
                                    "wrong fragment",
                                    "accumulator in flight",
                                    "constant memory written",
                                    "bad launch"};
  return kNames[static_cast<int>(finding)];
}

void* new_token() {
#if defined(CUDAMOE_SIMT_TSAN)
  constexpr size_t kTokens = size_t{1} << 14;
  static char* ring = static_cast<char*>(std::malloc(kTokens * 8));
  static size_t next = 0;
  return ring + next++ % kTokens * 8;
#else
  return nullptr;
#endif
}

void report(Finding finding, Site site, const char* format, ...) {
  // Outside a kernel there is nobody to report to: the device language was called on the host.
  auto* self = static_cast<Thread*>(const_cast<ThreadView*>(current_thread));
  if (self == nullptr) std::abort();
  const Unwatched unwatched;
  char what[1600], text[2000];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(what, sizeof what, format, arguments);
  va_end(arguments);
  Launch& launch = self->home->launch();
  std::snprintf(text, sizeof text, "%s in kernel %s: %s (block (%d,%d,%d), thread (%d,%d,%d), %s:%d)", finding_name(finding),
                launch.request().name, what, self->block.x, self->block.y, self->block.z, self->thread.x, self->thread.y, self->thread.z,
                site.file, site.line);
  launch.fail(*self, text);
}

std::string Launch::run(const LaunchRequest& request) {
  const std::lock_guard lock(launch_mutex());
  const Unwatched unwatched;
  Launch launch(request);
  return launch.execute();
}

Launch::Launch(const LaunchRequest& request) : request_(request), random_(request.schedule.seed) {}

Launch::~Launch() = default;

std::string Launch::check_limits() const {
  const Limits limits = limits_of(request_.architecture);
  const Dim3 grid = request_.grid, block = request_.block;
  char text[256] = "";
  const auto refuse = [&](const char* what, long long value, long long limit) {
    std::snprintf(text, sizeof text, "%s in kernel %s: %s is %lld; it must be at least 1 and at most %lld", finding_name(Finding::kLaunch),
                  request_.name, what, value, limit);
  };
  const auto range = [&](const char* what, int64_t value, int64_t limit) {
    if (text[0] == '\0' && (value < 1 || value > limit)) refuse(what, value, limit);
  };
  range("grid x", grid.x, limits.grid_x);
  range("grid y", grid.y, limits.grid_yz);
  range("grid z", grid.z, limits.grid_yz);
  range("block x", block.x, limits.threads_per_block);
  range("block y", block.y, limits.threads_per_block);
  range("block z", block.z, limits.block_z);
  range("threads of a block", block.count(), limits.threads_per_block);
  range("dynamic shared memory + 1", request_.dynamic_shared_bytes + 1, limits.shared_bytes + 1);
  return text;
}

Dim3 Launch::block_index(int64_t turn) const {
  const int64_t linear = order_.empty() ? turn : order_[static_cast<size_t>(turn)];
  const Dim3 grid = request_.grid;
  return {static_cast<int>(linear % grid.x), static_cast<int>(linear / grid.x % grid.y),
          static_cast<int>(linear / (int64_t{grid.x} * grid.y))};
}

std::string Launch::execute() {
  if (std::string refused = check_limits(); !refused.empty()) return refused;
  const int64_t blocks = request_.grid.count();
  const Order order = request_.schedule.order;
  if (order != Order::kForward) {
    order_.resize(static_cast<size_t>(blocks));
    std::iota(order_.begin(), order_.end(), 0);
    if (order == Order::kReverse) {
      std::reverse(order_.begin(), order_.end());
    } else {
      for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[random_.next() % i]);
    }
  }
  window_ = request_.cooperative ? static_cast<size_t>(blocks) : order == Order::kRandom ? kRandomWindow : 1;
  release_token(begin_token());
  while (failure_.empty()) {
    bring_in();
    if (resident_.empty()) break;
    while (ready_threads() == 0 && land_one()) {
    }
    Thread* first = pick();
    if (first == nullptr) {
      char waiting[1400];
      resident_.front()->describe_waiting(waiting, sizeof waiting);
      failure_ = std::string(finding_name(Finding::kDeadlock)) + " in kernel " + request_.name + ": " + waiting;
      break;
    }
    const ThreadView* outer = current_thread;
    current_thread = first;
    Fiber::switch_to(launcher_, *first->fiber);
    current_thread = outer;
    for (size_t i = 0; i < resident_.size();) {
      if (resident_[i]->live() > 0) {
        ++i;
        continue;
      }
      resident_[i]->retire();
      idle_.push_back(std::move(resident_[i]));
      resident_.erase(resident_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  for (const auto& block : resident_) block->release(end_token());
  acquire_token(end_token());
  if (failure_.empty()) check_constant_reads();
  for (const auto& block : resident_) block->retire();
  return failure_;
}

void Launch::bring_in() {
  const auto blocks = static_cast<size_t>(request_.grid.count());
  while (resident_.size() < window_ && next_ < blocks) {
    std::unique_ptr<Block> block;
    if (idle_.empty()) {
      block = std::make_unique<Block>(*this);
    } else {
      block = std::move(idle_.back());
      idle_.pop_back();
    }
    if (traffic_listener != nullptr) traffic_listener->begin_block();
    block->start(block_index(static_cast<int64_t>(next_++)));
    resident_.push_back(std::move(block));
  }
}

Thread* Launch::pick_in(Block& block) {
  const ReadySet& ready = block.ready();
  switch (request_.schedule.order) {
    case Order::kForward:
      return &block.thread(ready.first());
    case Order::kReverse:
      return &block.thread(ready.last());
    case Order::kRandom:
      return &block.thread(ready.nth(random_.below(ready.count())));
    default: {
      const int preferred = block.preferred_thread();
      if (request_.schedule.seed % 2 == 0) return &block.thread(ready.contains(preferred) ? preferred : ready.first());
      const int first = ready.first();
      return &block.thread(first != preferred || ready.count() == 1 ? first : ready.nth(1));
    }
  }
}

Thread* Launch::pick() {
  const int total = ready_threads();
  if (total == 0) return nullptr;
  if (request_.schedule.order == Order::kRandom) {
    int turn = random_.below(total);
    for (const auto& block : resident_) {
      if (turn < block->ready().count()) return pick_in(*block);
      turn -= block->ready().count();
    }
  }
  for (const auto& block : resident_) {
    if (block->ready().count() > 0) return pick_in(*block);
  }
  return nullptr;
}

int Launch::ready_threads() const {
  int total = 0;
  for (const auto& block : resident_) total += block->ready().count();
  return total;
}

bool Launch::copies_late() {
  const Completion copies = request_.schedule.copies;
  return copies == Completion::kLate || (copies == Completion::kRandom && random_.below(2) == 0);
}

// As late as can be: when nobody can go on without it.
bool Launch::land_one() {
  for (const auto& block : resident_) {
    if (block->land_one()) return true;
  }
  return false;
}

void Launch::wait(Thread& self) {
  while (ready_threads() == 0 && land_one()) {
  }
  Thread* next = pick();
  if (next == nullptr) {
    self.home->ready().insert(self.rank);
    char waiting[1400];
    self.home->describe_waiting(waiting, sizeof waiting);
    report(Finding::kDeadlock, self.site, "%s", waiting);
  }
  if (next == &self) return;
  current_thread = next;
  Fiber::switch_to(*self.fiber, *next->fiber);
}

void Launch::note_constant_read(const void* address, int bytes, Site site) {
  if (constant_reads_.size() == kMostConstantReads) return;
  ConstantRead read{address, bytes, site, {}};
  std::memcpy(read.value, address, static_cast<size_t>(bytes));
  constant_reads_.push_back(read);
}

void Launch::check_constant_reads() {
  for (const ConstantRead& read : constant_reads_) {
    if (std::memcmp(read.value, read.address, static_cast<size_t>(read.bytes)) == 0) continue;
    char text[512];
    std::snprintf(text, sizeof text,
                  "%s in kernel %s: %d bytes at %p were read through the read-only cache at %s:%d and written in the same launch",
                  finding_name(Finding::kConstantWritten), request_.name, read.bytes, read.address, read.site.file, read.site.line);
    failure_ = text;
    return;
  }
}

void Launch::pause(Thread& self) {
  // Any other thread may be the one that is waited for.
  const int others = ready_threads() - 1;
  if (others <= 0) return;
  int turn = random_.below(others);
  for (const auto& block : resident_) {
    const bool own = block.get() == self.home;
    if (own) block->ready().erase(self.rank);
    const int ready = block->ready().count();
    Thread* next = turn < ready ? &block->thread(block->ready().nth(turn)) : nullptr;
    if (own) block->ready().insert(self.rank);
    turn -= ready;
    if (next == nullptr) continue;
    current_thread = next;
    Fiber::switch_to(*self.fiber, *next->fiber);
    return;
  }
}

Fiber& Launch::leave(Thread& self) {
  // A block that has ended, or a launch in which nobody can go on, is the launcher's business.
  while (ready_threads() == 0 && land_one()) {
  }
  Thread* next = self.home->live() > 0 ? pick() : nullptr;
  if (next == nullptr) return launcher_;
  current_thread = next;
  return *next->fiber;
}

void Launch::fail(Thread& self, const char* text) {
  failure_ = text;
  Fiber::switch_to(*self.fiber, launcher_);
  std::abort();
}

}  // namespace cudamoe::simt
