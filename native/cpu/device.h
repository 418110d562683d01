// The cpu device: an instruction-set level, a team of threads, and streams whose operations run before the call returns.
#pragma once

#include <cstdint>
#include <mutex>
#include <type_traits>

#include "core/backend.h"
#include "core/error.h"
#include "cpu/thread_team.h"

namespace cudamoe::cpu {

enum class Level { kSse4, kAvx2, kAvx512, kAvx512Bf16 };

// The level in use, the same for the whole process: the fastest that processor and operating system allow, or the one that
// CUDAMOE_CPU_LEVEL names. Highway's dynamic dispatch follows it up to AVX-512; products of bf16 ask here (gemm/layout.h).
Level level();

class Device {
 public:
  explicit Device(int threads) : team_(threads) {}

  int threads() const { return team_.threads(); }

  // Runs body(tile), or body(tile, worker), for tile = 0 .. tiles-1. Threads take the next tile when they are free, so a slow or busy
  // core only takes fewer of them. The result must not depend on who runs a tile. `cost` estimates the nanoseconds of all tiles on one
  // thread: what is not worth sharing runs on the caller's. `worker` is below tiles and threads(), and no two tiles that run at the same
  // time have the same one, so it can name a part of a work space.
  template <class Body>
  void for_tiles(int64_t tiles, double cost, Body&& body) {
    const auto run = [&body](int64_t tile, [[maybe_unused]] int worker) {
      if constexpr (std::is_invocable_v<Body&, int64_t, int>) {
        body(tile, worker);
      } else {
        body(tile);
      }
    };
    constexpr double kWorthwhile = 5e3;
    if (threads() == 1 || tiles <= 1 || cost < kWorthwhile) {
      for (int64_t tile = 0; tile < tiles; ++tile) run(tile, 0);
      return;
    }
    team_.run(tiles, cost, run);
  }

 private:
  ThreadTeam team_;
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
void register_expert(Backend& table);
void register_activation(Backend& table);
void register_norm(Backend& table);
void register_attention(Backend& table);
void register_graph(Backend& table);
void register_loss(Backend& table);
void register_balance(Backend& table);
void register_optimizer(Backend& table);

}  // namespace cudamoe::cpu
