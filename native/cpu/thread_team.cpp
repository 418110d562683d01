#include "cpu/thread_team.h"

#include <algorithm>
#include <new>
#include <system_error>

#include "cpu/common/parts.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace cudamoe::cpu {
namespace {

using Clock = std::chrono::steady_clock;

// Waking a thread costs its caller a system call of several microseconds, more on virtual machines, and the sleeper takes as long again.
constexpr double kWakeNanoseconds = 40e3;
// Small loops that are not worth a wake-up alone are when they come this densely.
constexpr auto kMissedWindow = std::chrono::microseconds(500);
// How long a thread without work looks for the next loop before it sleeps. Longer than the serial parts of a step.
constexpr auto kSpin = std::chrono::microseconds(100);
// How long a caller whose tiles have run out waits actively for the last tiles of others. It then sleeps, so that the system can
// give its core to a thread that was interrupted in the middle of a tile.
constexpr auto kCallerSpin = std::chrono::microseconds(50);
// How often it looks for one that was interrupted before it sleeps: who is at work at the first look may be interrupted after it.
constexpr int kLooks = 20;
// A thread whose processor time stands still for so long was interrupted.
constexpr auto kInterrupted = std::chrono::microseconds(10);

// state_: bits 0..14 threads inside, bit 15 open, bits 16..31 how many more may join, bits 32..63 the loop's number.
constexpr uint64_t kInside = 0x7fff;
constexpr uint64_t kOpen = uint64_t{1} << 15;
constexpr uint64_t kPlace = uint64_t{1} << 16;
constexpr uint64_t kPlaces = uint64_t{0xffff} << 16;
constexpr int kNumberShift = 32;

uint64_t number_of(uint64_t state) { return state >> kNumberShift; }

void pause() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

// Calls done() until it is true or the time is over; true in the first case.
template <class Done>
bool spin(std::chrono::nanoseconds time, Done&& done) {
  if (done()) return true;
  constexpr int kPausesALook = 8;  // between looks at the clock
  for (const Clock::time_point end = Clock::now() + time; Clock::now() < end;) {
    for (int i = 0; i < kPausesALook; ++i) {
      pause();
      if (done()) return true;
    }
  }
  return false;
}

}  // namespace

// More threads than processors gain nothing from waiting actively: they would keep the one from running that they wait for.
ThreadTeam::ThreadTeam(int threads)
    : threads_(threads),
      spin_(threads <= usable_processors() ? std::chrono::nanoseconds(kSpin) : std::chrono::nanoseconds(0)),
      whereabouts_(new Whereabouts[static_cast<size_t>(threads)]),
      cursors_(new Cursor[static_cast<size_t>(threads)]) {}

ThreadTeam::~ThreadTeam() {
  stopping_.store(true);
  bell_.fetch_add(1);
  wake_all(bell_);
  for (std::thread& other : others_) other.join();
}

void ThreadTeam::run(Loop& loop, double nanoseconds) {
  if (threads_ == 1 || loop.tiles <= 1 || taken_.test_and_set(std::memory_order_acquire)) {
    loop.work_alone();
    return;
  }
  if (!started_) start_threads();
  const int others = static_cast<int>(others_.size());
  loop.places = static_cast<int>(std::min<int64_t>(loop.tiles - 1, others));
  const int awake = others - asleep_.load(std::memory_order_relaxed);
  const bool call = awake < loop.places && worth_waking(nanoseconds);
  if (call || awake > 0) {
    loop_ = &loop;
    loop.processor = current_processor();
    const int parts = loop.places + 1;
    for (int part = 0; part < parts; ++part) {
      cursors_[static_cast<size_t>(part)].next.store(part_begin(loop.tiles, parts, part), std::memory_order_relaxed);
    }
    const uint64_t number = number_of(state_.load(std::memory_order_relaxed)) + 1;
    state_.store(number << kNumberShift | static_cast<uint64_t>(loop.places) * kPlace | kOpen);
    if (call) wake(loop.places - awake);
    work(loop, 0, 0);
    wait_until_left();
  } else {
    loop.work_alone();
  }
  taken_.clear(std::memory_order_release);
}

void ThreadTeam::work(Loop& loop, int home, int worker) {
  const int parts = loop.places + 1;
  for (int i = 0; i < parts; ++i) {
    const int part = (home + i) % parts;
    std::atomic<int64_t>& next = cursors_[static_cast<size_t>(part)].next;
    const int64_t end = part_begin(loop.tiles, parts, part + 1);
    for (int64_t tile; (tile = next.fetch_add(1, std::memory_order_relaxed)) < end;) loop.body(tile, worker);
  }
}

bool ThreadTeam::worth_waking(double nanoseconds) {
  if (nanoseconds >= kWakeNanoseconds) return true;
  const Clock::time_point now = Clock::now();
  if (now - missed_since_ > kMissedWindow) {
    missed_since_ = now;
    missed_nanoseconds_ = 0;
  }
  missed_nanoseconds_ += nanoseconds;
  if (missed_nanoseconds_ < kWakeNanoseconds) return false;
  missed_nanoseconds_ = 0;
  return true;
}

void ThreadTeam::start_threads() {
  started_ = true;
  try {
    others_.reserve(static_cast<size_t>(threads_ - 1));
    for (int i = 1; i < threads_; ++i) others_.emplace_back([this, i] { serve(i - 1); });
  } catch (const std::system_error&) {
    // The system has no more threads to give: the loops run on those that there are.
  } catch (const std::bad_alloc&) {
  }
}

void ThreadTeam::wake(int most) {
  bell_.fetch_add(1);
  if (most >= static_cast<int>(others_.size())) {
    wake_all(bell_);
  } else {
    for (int i = 0; i < most; ++i) wake_one(bell_);
  }
}

void ThreadTeam::wait_until_left() {
  state_.fetch_and(~kOpen, std::memory_order_acq_rel);
  const auto left = [this] { return (state_.load(std::memory_order_acquire) & kInside) == 0; };
  int interrupted = -1;
  for (int look = 0; look < kLooks && interrupted < 0; ++look) {
    if (spin(kCallerSpin, left)) return;
    interrupted = find_interrupted();
  }
  ThreadAffinity before;
  const bool guest = interrupted >= 0 && bring_here(others_[static_cast<size_t>(interrupted)], &before);
  do {
    caller_asleep_.store(1);
    if ((state_.load() & kInside) != 0) sleep_while(caller_asleep_, 1);
    caller_asleep_.store(0);
  } while (!spin(kCallerSpin, left));
  if (guest) send_back(others_[static_cast<size_t>(interrupted)], whereabouts_[static_cast<size_t>(interrupted)].processor, before);
}

int ThreadTeam::find_interrupted() {
  if (spin_.count() == 0) return -1;
  for (size_t i = 0; i < others_.size(); ++i) {
    const auto outside = [&] { return !whereabouts_[i].inside.load(); };
    if (outside() || whereabouts_[i].processor == current_processor()) continue;
    const int64_t time = processor_time(others_[i]);
    if (time < 0 || spin(kInterrupted, outside)) continue;
    if (processor_time(others_[i]) == time) return static_cast<int>(i);
  }
  return -1;
}

bool ThreadTeam::join(int number, uint64_t& last, Avoidance& avoidance) {
  uint64_t state = state_.load(std::memory_order_relaxed);
  for (;;) {
    if ((state & kOpen) == 0 || (state & kPlaces) == 0 || number_of(state) == last) return false;
    if (state_.compare_exchange_weak(state, state - kPlace + 1, std::memory_order_acquire, std::memory_order_relaxed)) break;
  }
  last = number_of(state);
  Whereabouts& whereabouts = whereabouts_[static_cast<size_t>(number)];
  int processor = current_processor();
  if (processor == loop_->processor && spin_.count() > 0) {
    avoid_processor(processor, &avoidance);
    processor = current_processor();
  }
  whereabouts.processor.store(processor, std::memory_order_relaxed);
  whereabouts.inside.store(true, std::memory_order_relaxed);
  work(*loop_, 1 + number % loop_->places, loop_->places - static_cast<int>((state & kPlaces) / kPlace) + 1);
  whereabouts.inside.store(false, std::memory_order_relaxed);
  const uint64_t before = state_.fetch_sub(1);
  if ((before & kOpen) == 0 && (before & kInside) == 1 && caller_asleep_.load() == 1) {
    caller_asleep_.store(0);
    wake_one(caller_asleep_);
    std::this_thread::yield();  // it may be waiting for this processor
  }
  return true;
}

void ThreadTeam::serve(int number) {
  uint64_t last = 0;
  Avoidance avoidance;
  while (!stopping_.load(std::memory_order_relaxed)) {
    if (spin(spin_, [&] { return join(number, last, avoidance) || stopping_.load(std::memory_order_relaxed); })) continue;
    // Counted as asleep before the last look, so that a caller either sees the sleeper or is seen.
    const uint32_t bell = bell_.load();
    asleep_.fetch_add(1);
    const bool joined = join(number, last, avoidance);
    if (!joined && !stopping_.load()) sleep_while(bell_, bell);
    asleep_.fetch_sub(1);
  }
}

}  // namespace cudamoe::cpu
