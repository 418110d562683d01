// The cpu device: an instruction-set level, a thread arena, and streams whose operations run before the call returns.
#pragma once

#include <tbb/global_control.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <type_traits>

#include "core/backend.h"
#include "core/error.h"

#if defined(__SANITIZE_THREAD__)
#include <thread>
#include <vector>
#endif

namespace cudamoe::cpu {

enum class Level { kSse4, kAvx2, kAvx512, kAvx512Bf16 };

// The level in use, the same for the whole process: the best that processor and operating system allow, lowered by
// CUDAMOE_CPU_LEVEL. Highway's dynamic dispatch follows it; kernels outside Highway (bf16 products) ask here.
Level level();

class Device {
 public:
  explicit Device(int threads) : threads_(threads), arena_(threads) {
    // TBB starts no more threads than there are processors unless it is told to. Of several controls the lowest holds.
    if (threads > tbb::info::default_concurrency())
      more_threads_.emplace(tbb::global_control::max_allowed_parallelism, static_cast<size_t>(threads));
  }

  int threads() const { return threads_; }

  // Runs body(tile), or body(tile, worker), for tile = 0 .. tiles-1. Threads take the next tile when they are free, so a slow or busy
  // core only takes fewer of them. The result must not depend on who runs a tile. `cost` estimates the nanoseconds of all tiles on one
  // thread: what is not worth waking a thread for runs on the caller's. `worker` is 0 .. threads()-1 and no two tiles that run at the
  // same time have the same one, so it can name a part of a work space.
  template <class Body>
  void for_tiles(int64_t tiles, double cost, Body&& body) {
    const auto run = [&body](int64_t tile, [[maybe_unused]] int worker) {
      if constexpr (std::is_invocable_v<Body&, int64_t, int>) {
        body(tile, worker);
      } else {
        body(tile);
      }
    };
    constexpr double kWorthwhile = 15e3;
    if (threads_ == 1 || tiles <= 1 || cost < kWorthwhile) {
      for (int64_t tile = 0; tile < tiles; ++tile) run(tile, 0);
      return;
    }
    std::atomic<int64_t> next{0};
    const int workers = tiles < threads_ ? static_cast<int>(tiles) : threads_;
    const auto work = [&](int worker) {
      for (int64_t tile = next.fetch_add(1, std::memory_order_relaxed); tile < tiles; tile = next.fetch_add(1, std::memory_order_relaxed))
        run(tile, worker);
    };
#if defined(__SANITIZE_THREAD__)
    // The oneTBB of a distribution is not instrumented, so ThreadSanitizer cannot see how it hands a task to a thread. What is tested
    // is the tiles: they run on threads of this call.
    std::vector<std::thread> others;
    for (int worker = 1; worker < workers; ++worker) others.emplace_back(work, worker);
    work(0);
    for (std::thread& other : others) other.join();
#else
    arena_.execute([&] { tbb::parallel_for(0, workers, work, tbb::simple_partitioner{}); });
#endif
  }

 private:
  int threads_;
  std::optional<tbb::global_control> more_threads_;
  tbb::task_arena arena_;
};

class Stream {
 public:
  explicit Stream(Device& device) : device_(device) {}

  Device& device() { return device_; }

  // Notes bad data that an operation met; the first text is kept until it is taken.
  CUDAMOE_PRINTF(2, 3) void report(const char* format, ...);
  // CUDAMOE_ERROR_REPORTED with the first report since the last call, or CUDAMOE_OK.
  cudamoe_status take_report();

 private:
  Device& device_;
  std::mutex mutex_;
  int64_t reports_ = 0;
  char first_[512] = {};
};

inline Stream& stream_of(void* stream) { return *static_cast<Stream*>(stream); }

// Each family fills its entries of the table.
void register_gemm(Backend& table);
void register_embedding(Backend& table);
void register_gating(Backend& table);
void register_combine(Backend& table);
void register_norm(Backend& table);
void register_loss(Backend& table);
void register_balance(Backend& table);
void register_optimizer(Backend& table);

}  // namespace cudamoe::cpu
