// The threads of a cpu device, and how they share the tiles of a loop.
//
// The calling thread starts a loop at once and the others join it while it runs: nobody waits for a thread to begin, so a core that is
// busy with another program costs its share of the work and no more. A thread takes the tiles of a part of its own, in ascending order, and
// then those that others have left: in the next pass over the same data it finds the same tiles in the caches of its core. Threads that
// wait do so actively for a short time only, because the next loop of a model is a few microseconds away, and waking a sleeping thread
// costs more than a small loop. A thread that finds itself on the caller's processor leaves it: systems put both there when another program
// keeps the other processors busy. When the system has interrupted a thread in the middle of a tile for another program, the caller gives
// it its own processor for the rest of the tile, for which all would otherwise wait several milliseconds. A general task scheduler does not
// leave these choices to its user; that is why this is not oneTBB.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "cpu/system.h"

namespace cudamoe::cpu {

class ThreadTeam {
 public:
  // threads counts the caller of run and is at least 1. The others are started by the first loop that needs them.
  explicit ThreadTeam(int threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int threads() const { return threads_; }

  // Calls body(tile, worker) once for every tile = 0 .. tiles-1 and returns when all calls have. Threads take the next tile when they are
  // free: mostly the one after their last. `worker` is below tiles and threads(), and no two calls at the same time have the same one.
  // `nanoseconds` estimates the whole loop on one thread; it decides whether sleeping threads are worth waking. From several threads at the
  // same time, or from inside a body, one loop has the team and the others run on their callers. body must not throw.
  template <class Body>
  void run(int64_t tiles, double nanoseconds, Body&& body) {
    Loop loop{tiles, [&body](int64_t tile, int worker) { body(tile, worker); }};
    run(loop, nanoseconds);
  }

 private:
  struct Loop {
    int64_t tiles;
    std::function<void(int64_t, int)> body;
    int places = 0;      // for other threads; they are workers 1 .. places
    int processor = -1;  // where its caller was when it began

    void work_alone() {
      for (int64_t tile = 0; tile < tiles; ++tile) body(tile, 0);
    }
  };

  void run(Loop& loop, double nanoseconds);
  bool worth_waking(double nanoseconds);
  // Takes tiles of the loop until there are none, first those of part `home`.
  void work(Loop& loop, int home, int worker);
  void start_threads();
  void wake(int most);
  void wait_until_left();
  // The number of a thread that is inside and was interrupted, or -1.
  int find_interrupted();
  void serve(int number);
  // Joins the open loop if it has a place and is not number `last`, where this thread has been; true when it has worked on it.
  bool join(int number, uint64_t& last, Avoidance& avoidance);

  const int threads_;
  const std::chrono::nanoseconds spin_;
  std::vector<std::thread> others_;
  // What the caller needs to know of each of the others.
  struct alignas(64) Whereabouts {
    std::atomic<bool> inside{false};
    std::atomic<int> processor{-1};  // where it was when it joined
  };
  const std::unique_ptr<Whereabouts[]> whereabouts_;
  // The next tile of each part of the loop.
  struct alignas(64) Cursor {
    std::atomic<int64_t> next{0};
  };
  const std::unique_ptr<Cursor[]> cursors_;

  // Which caller has the team. The next four belong to it.
  std::atomic_flag taken_;
  Loop* loop_ = nullptr;
  bool started_ = false;
  double missed_nanoseconds_ = 0;
  std::chrono::steady_clock::time_point missed_since_;

  // The loop that may be joined, as one word: its number, how many more threads may join, whether it is open, how many are inside.
  alignas(64) std::atomic<uint64_t> state_{0};
  std::atomic<bool> stopping_{false};
  // Threads asleep, and the words that sleepers watch.
  alignas(64) std::atomic<int> asleep_{0};
  std::atomic<uint32_t> bell_{0};
  alignas(64) std::atomic<uint32_t> caller_asleep_{0};
};

}  // namespace cudamoe::cpu
