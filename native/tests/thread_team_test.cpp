#include "cpu/thread_team.h"

#include <gtest/gtest.h>

#if defined(__linux__)
#include <sched.h>
#endif

#include <chrono>
#include <numeric>
#include <vector>

#include "support/random.h"

namespace cudamoe::cpu {
namespace {

constexpr double kWakes = 1e9;   // nanoseconds that are worth waking every thread
constexpr double kNoWake = 1e3;  // nanoseconds that are not

// Runs a loop and checks the promises: every tile once, workers within their limits and never two at a time under one number.
void run_and_check(ThreadTeam& team, int64_t tiles, double nanoseconds) {
  std::vector<int> calls(static_cast<size_t>(tiles), 0);  // not atomic: a tile that two threads run is a race that the sanitizer sees
  std::vector<std::atomic<int>> inside(static_cast<size_t>(team.threads()));
  std::atomic<int> wrong{0};
  team.run(tiles, nanoseconds, [&](int64_t tile, int worker) {
    if (worker < 0 || worker >= team.threads() || worker >= tiles) {
      ++wrong;
      return;
    }
    if (inside[static_cast<size_t>(worker)].fetch_add(1) != 0) ++wrong;
    ++calls[static_cast<size_t>(tile)];
    inside[static_cast<size_t>(worker)].fetch_sub(1);
  });
  EXPECT_EQ(wrong, 0);
  for (int64_t tile = 0; tile < tiles; ++tile) ASSERT_EQ(calls[static_cast<size_t>(tile)], 1) << "tile " << tile << " of " << tiles;
}

TEST(ThreadTeam, RunsEveryTileOnceUnderAnyNumberOfThreads) {
  test::Random random;
  for (const int threads : {1, 2, 3, 8, 33}) {
    ThreadTeam team(threads);
    for (int loop = 0; loop < 300; ++loop) run_and_check(team, random.integer(0, 70), loop % 3 == 0 ? kNoWake : kWakes);
  }
}

TEST(ThreadTeam, WakesThreadsThatWentToSleep) {
  ThreadTeam team(3);
  for (int loop = 0; loop < 5; ++loop) {
    run_and_check(team, 64, kWakes);
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }
}

TEST(ThreadTeam, IsSharedByTheLoopOfAnotherThread) {
  ThreadTeam team(2);
  // Each tile waits for the other, so the loop only ends if two threads run it.
  std::atomic<int> arrived{0};
  team.run(2, kWakes, [&](int64_t, int) {
    ++arrived;
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (arrived < 2 && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
    EXPECT_EQ(arrived, 2);
  });
  EXPECT_EQ(arrived, 2);
}

TEST(ThreadTeam, TakesLoopsFromSeveralThreadsAndFromInsideALoop) {
  ThreadTeam team(4);
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&team] {
      for (int loop = 0; loop < 200; ++loop) run_and_check(team, 1 + loop % 17, kWakes);
    });
  }
  for (std::thread& caller : callers) caller.join();
  team.run(8, kWakes, [&team](int64_t, int) { run_and_check(team, 5, kWakes); });
}

TEST(ThreadTeam, SumsIntoPartsOfAWorkSpace) {
  ThreadTeam team(5);
  for (int loop = 0; loop < 200; ++loop) {
    std::vector<int64_t> sums(5, 0);
    team.run(1000, kWakes, [&](int64_t tile, int worker) { sums[static_cast<size_t>(worker)] += tile; });
    ASSERT_EQ(std::accumulate(sums.begin(), sums.end(), int64_t{0}), 999 * 1000 / 2);
  }
}

#if defined(__linux__)
// Another program on one of two processors: threads leave the caller's processor and borrow it, and get back what they may use.
TEST(ThreadTeam, KeepsItsPromisesBesideABusyProcessor) {
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  std::vector<int> processors;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &allowed)) processors.push_back(i);
  }
  if (processors.size() < 2) GTEST_SKIP() << "needs two processors";
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(processors[1], &one);
    sched_setaffinity(0, sizeof one, &one);
    while (!stop) {
    }
  });
  ThreadTeam team(2);
  std::atomic<int> wrong{0};
  for (int loop = 0; loop < 200; ++loop) {
    std::vector<int> calls(8, 0);
    team.run(8, kWakes, [&](int64_t tile, int) {
      const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(300);
      while (std::chrono::steady_clock::now() < end) {
      }
      ++calls[static_cast<size_t>(tile)];
    });
    for (const int count : calls) ASSERT_EQ(count, 1);
  }
  stop = true;
  busy.join();
  team.run(64, kWakes, [&](int64_t, int worker) {
    cpu_set_t mine, common;
    if (sched_getaffinity(0, sizeof mine, &mine) != 0) ++wrong;
    CPU_AND(&common, &mine, &allowed);
    const int kept = worker == 0 ? CPU_COUNT(&allowed) : CPU_COUNT(&allowed) - 1;
    if (!CPU_EQUAL(&common, &mine) || CPU_COUNT(&mine) < kept) ++wrong;
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  });
  EXPECT_EQ(wrong, 0);
}
#endif

// A thread looks for work for 100 microseconds: teams end before, while and after it falls asleep.
TEST(ThreadTeam, EndsWhileItsThreadsFallAsleep) {
  for (int microseconds = 0; microseconds < 400; ++microseconds) {
    ThreadTeam team(2);
    std::atomic<int> arrived{0};
    team.run(2, kWakes, [&](int64_t, int) {
      ++arrived;
      while (arrived < 2) std::this_thread::yield();
    });
    const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(microseconds);
    while (std::chrono::steady_clock::now() < end) {
    }
  }
}

// The word changes before, while and after another thread falls asleep over it: a wake-up that is lost stops both.
TEST(ThreadTeam, SleepersOfAWordAreWoken) {
  constexpr uint32_t kRounds = 4000;
  std::atomic<uint32_t> word{0}, ready{0};
  std::thread sleeper([&] {
    for (uint32_t round = 0; round < kRounds; ++round) {
      ready.store(round + 1);
      sleep_while(word, round);
    }
  });
  for (uint32_t round = 0; round < kRounds; ++round) {
    while (ready.load() <= round) std::this_thread::yield();
    const auto end = std::chrono::steady_clock::now() + std::chrono::nanoseconds(10 * round);
    while (std::chrono::steady_clock::now() < end) {
    }
    word.store(round + 1);
    round % 2 == 0 ? wake_one(word) : wake_all(word);
  }
  sleeper.join();
  EXPECT_EQ(word, kRounds);
}

TEST(ThreadTeam, EndsWithoutEverHavingRun) {
  const ThreadTeam never_used(64);
  ThreadTeam used(64);
  run_and_check(used, 200, kWakes);
}

}  // namespace
}  // namespace cudamoe::cpu
