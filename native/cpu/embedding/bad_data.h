// What an embedding operation found wrong in ids and offsets, and how it is reported.
//
// An id outside its table is skipped (and counted) or read as row 0, as `bounds` says. Offsets that do not ascend from 0 to at most
// `lookups` make bags that mean nothing, or that share look-ups: the whole feature is then left out, whatever `bounds` says.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>

#include "cpu/device.h"

namespace cudamoe::cpu {

class BadIds {
 public:
  // Called for each bad id, from any thread; the first one in (feature, position) order is kept.
  void note(int32_t feature, int64_t position) {
    count_.fetch_add(1, std::memory_order_relaxed);
    const uint64_t place = (static_cast<uint64_t>(feature) << 32) | static_cast<uint64_t>(position);
    uint64_t first = first_.load(std::memory_order_relaxed);
    while (place < first && !first_.compare_exchange_weak(first, place, std::memory_order_relaxed)) {
    }
  }

  void report(Stream& stream, const char* function, const cudamoe_embedding_table* tables,
              const cudamoe_embedding_feature* features) const {
    const int64_t count = count_.load();
    if (count == 0) return;
    const auto feature = static_cast<int32_t>(first_.load() >> 32);
    const auto position = static_cast<int64_t>(first_.load() & 0xFFFFFFFFu);
    const cudamoe_embedding_feature& f = features[feature];
    stream.report("%s: features[%d].ids[%lld] is %d; tables[%d] has %lld rows; %lld ids of this call are out of bounds", function, feature,
                  static_cast<long long>(position), f.ids[position], f.table, static_cast<long long>(tables[f.table].rows),
                  static_cast<long long>(count));
  }

 private:
  std::atomic<int64_t> count_{0};
  std::atomic<uint64_t> first_{std::numeric_limits<uint64_t>::max()};
};

// Whether the offsets of a feature ascend from 0 to at most its look-ups; true without offsets.
inline bool offsets_are_good(const cudamoe_embedding_feature& feature, int64_t batch) {
  const int32_t* offsets = feature.offsets;
  if (offsets == nullptr) return true;
  int32_t descents = 0;
  for (int64_t b = 0; b < batch; ++b) descents |= offsets[b + 1] < offsets[b];
  return offsets[0] == 0 && descents == 0 && offsets[batch] <= feature.lookups;
}

inline void report_bad_offsets(Stream& stream, const char* function, int32_t index, const cudamoe_embedding_feature& feature,
                               int64_t batch) {
  const int32_t* offsets = feature.offsets;
  int64_t b = 0;
  if (offsets[0] == 0) {
    for (b = 1; b < batch && offsets[b] >= offsets[b - 1] && offsets[b] <= feature.lookups; ++b) {
    }
  }
  stream.report("%s: features[%d].offsets[%lld] is %d; offsets must ascend from 0 to at most lookups, %lld; the feature was left out",
                function, index, static_cast<long long>(b), offsets[b], static_cast<long long>(feature.lookups));
}

}  // namespace cudamoe::cpu
