#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "support/peaks.cpp"
#include "support/peaks.h"

#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace cudamoe::bench {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int kChains = 12;  // enough to cover latency 4 at two a cycle

// kChains independent multiply-add chains of `steps` steps; answers the flops.
double multiply_add_loop(int64_t steps) {
  const hn::ScalableTag<float> d;
  const auto a = hn::Set(d, 0.999f), b = hn::Set(d, 0.001f);
  // Chains of different values: equal ones would be merged by the compiler.
  const auto chain = [&](float from) HWY_ATTR { return hn::Set(d, from); };
  auto c0 = chain(0), c1 = chain(1), c2 = chain(2), c3 = chain(3), c4 = chain(4), c5 = chain(5);
  auto c6 = chain(6), c7 = chain(7), c8 = chain(8), c9 = chain(9), c10 = chain(10), c11 = chain(11);
  for (int64_t i = 0; i < steps; ++i) {
    c0 = hn::MulAdd(c0, a, b);
    c1 = hn::MulAdd(c1, a, b);
    c2 = hn::MulAdd(c2, a, b);
    c3 = hn::MulAdd(c3, a, b);
    c4 = hn::MulAdd(c4, a, b);
    c5 = hn::MulAdd(c5, a, b);
    c6 = hn::MulAdd(c6, a, b);
    c7 = hn::MulAdd(c7, a, b);
    c8 = hn::MulAdd(c8, a, b);
    c9 = hn::MulAdd(c9, a, b);
    c10 = hn::MulAdd(c10, a, b);
    c11 = hn::MulAdd(c11, a, b);
  }
  const auto sum = ((c0 + c1) + (c2 + c3)) + ((c4 + c5) + (c6 + c7)) + ((c8 + c9) + (c10 + c11));
  HWY_ALIGN float lanes[hn::MaxLanes(d)];
  hn::Store(sum, d, lanes);
  __asm__ volatile("" : : "r"(lanes) : "memory");  // the result counts as used
  return static_cast<double>(steps) * kChains * 2 * static_cast<double>(hn::Lanes(d));
}

// to[i] = from[i] with stores that bypass the caches; both aligned, a multiple of 64 bytes.
void stream_copy(const float* HWY_RESTRICT from, float* HWY_RESTRICT to, int64_t count) {
  const hn::ScalableTag<float> d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < count; i += step) hn::Stream(hn::Load(d, from + i), d, to + i);
  hwy::FlushStream();
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::bench
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <ctime>
#include <functional>
#include <memory>
#include <vector>

#include "cpu/device.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cudamoe::bench {

HWY_EXPORT(multiply_add_loop);
HWY_EXPORT(stream_copy);

double now(int threads) {
  timespec time;
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

namespace {

cpu::Device& device_of(int threads) {
  static std::vector<std::unique_ptr<cpu::Device>> devices;
  for (const auto& device : devices) {
    if (device->threads() == threads) return *device;
  }
  return *devices.emplace_back(std::make_unique<cpu::Device>(threads));
}

// Units of work a second, the best of a few tries; run(part) does one of the `parts` and answers its units.
constexpr int kTries = 4;
double best_rate(int threads, int64_t parts, int tries, const std::function<double(int64_t)>& run) {
  double best = 0;
  for (int i = 0; i < tries; ++i) {
    std::vector<double> units(static_cast<size_t>(parts));
    const double begin = now(threads);
    device_of(threads).for_tiles(parts, 1e9, [&](int64_t part) { units[static_cast<size_t>(part)] = run(part); });
    const double seconds = now(threads) - begin;
    double all = 0;
    for (double unit : units) all += unit;
    best = std::max(best, all / seconds);
  }
  return best;
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bf16"))) double bf16_dot_loop(int64_t steps) {
  constexpr int kChains = 24;  // more than the instruction's latency times two a cycle
  __m512 sum[kChains];
  for (__m512& s : sum) s = _mm512_setzero_ps();
  __m512bh a = (__m512bh)_mm512_set1_epi32(0x3f803f80);
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 24
    for (__m512& s : sum) s = _mm512_dpbf16_ps(s, a, a);
    __asm__ volatile("" : "+v"(a));  // keeps the loop as it is written
  }
  float total = 0;
  for (const __m512& s : sum) total += _mm512_reduce_add_ps(s);
  __asm__ volatile("" : : "x"(total));
  return static_cast<double>(steps) * kChains * 64;
}
#endif

}  // namespace

double multiply_add_peak(int threads, double seconds) {
  const auto loop = HWY_DYNAMIC_DISPATCH(multiply_add_loop);
  const auto rate = [&](int64_t parts) { return best_rate(threads, parts, 1, [&](int64_t) { return loop(20000); }); };
  const double flops_a_part = loop(1) * 20000;
  const double warm = rate(4 * threads);
  return rate(std::max<int64_t>(threads, static_cast<int64_t>(seconds * warm / flops_a_part)));
}

double bf16_dot_peak() {
#if defined(__x86_64__)
  if (cpu::level() == cpu::Level::kAvx512Bf16) {
    return best_rate(1, 1, kTries, [](int64_t) { return bf16_dot_loop(200000); });
  }
#endif
  return 0;
}

double copy_bandwidth(int threads) {
  constexpr int64_t kCount = int64_t{16} << 20, kParts = 64;  // 64 MiB each way
  static const std::unique_ptr<float[], void (*)(float*)> memory(
      [] {
        auto* pointer = static_cast<float*>(std::aligned_alloc(64, 2 * kCount * sizeof(float)));
        std::fill(pointer, pointer + 2 * kCount, 1.0f);
        return pointer;
      }(),
      [](float* pointer) { std::free(pointer); });
  return best_rate(threads, kParts, kTries, [](int64_t part) {
    const int64_t begin = kCount / kParts * part;
    HWY_DYNAMIC_DISPATCH(stream_copy)(memory.get() + begin, memory.get() + kCount + begin, kCount / kParts);
    return 2.0 * sizeof(float) * kCount / kParts;
  });
}

namespace {

// Memory in huge pages where the system gives them, kept for the next call.
const char* row_table(int64_t bytes) {
  static char* table = nullptr;
  static int64_t table_bytes = 0;
  if (table_bytes < bytes) {
    std::free(table);
    constexpr int64_t kHugePage = int64_t{2} << 20;
    table_bytes = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    table = static_cast<char*>(std::aligned_alloc(kHugePage, static_cast<size_t>(table_bytes)));
    madvise(table, static_cast<size_t>(table_bytes), MADV_HUGEPAGE);
    std::fill(table, table + table_bytes, 1);
  }
  return table;
}

}  // namespace

double random_row_rate(int threads, int64_t row_bytes, int64_t table_bytes) {
  const int64_t rows = table_bytes / row_bytes;
  const char* table = row_table(table_bytes);
  constexpr int64_t kParts = 64, kReads = 1 << 13, kAhead = 64;
  double best = 0;
  for (const int64_t ahead : {8, 16, 32, 64}) {
    best = std::max(best, best_rate(threads, kParts, kTries, [&](int64_t part) {
                      uint64_t state = static_cast<uint64_t>(part) * 0x9E3779B97F4A7C15u + 1;
                      int64_t rows_ahead[kAhead] = {};
                      char sum = 0;
                      for (int64_t i = 0; i < kReads + ahead; ++i) {
                        const int64_t row = rows_ahead[i & (ahead - 1)];
                        if (i >= ahead) {
                          for (int64_t j = 0; j < row_bytes; j += 64) sum = static_cast<char>(sum + table[row * row_bytes + j]);
                        }
                        state = state * 6364136223846793005u + 1442695040888963407u;
                        const auto next = static_cast<int64_t>((static_cast<unsigned __int128>(state) * static_cast<uint64_t>(rows)) >> 64);
                        rows_ahead[i & (ahead - 1)] = next;
                        for (int64_t j = 0; j < row_bytes; j += 64) hwy::Prefetch(table + next * row_bytes + j);
                      }
                      __asm__ volatile("" : : "r"(sum));
                      return static_cast<double>(kReads);
                    }));
  }
  return best;
}

}  // namespace cudamoe::bench
#endif
