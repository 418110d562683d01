// Stable radix sort of look-ups by row, least significant digit first, in as few passes as digits of at most 11 bits allow.
//
// Floor: per pass one read and one write of 8 bytes a key. The first pass makes the keys from the ids; a table's keys stay in the
// second-level cache in most cases. A table is sorted by one thread, all tables side by side; one that is too large a share of
// the whole is sorted by all threads: each pass counts the digits of chunks, turns the counts into places in (digit, chunk) order
// and moves the chunks. Both ways give the same result, a stable sort, so the choice may depend on the number of threads.
//
// No vectors here, but the later instruction sets shift by a variable count in one step, so this is compiled for each of them too.
#include "cpu/embedding/sort.h"

#include <algorithm>
#include <bit>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/embedding/sort.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu::HWY_NAMESPACE {
namespace {

constexpr int kMaxDigitBits = 11;

struct Digits {
  explicit Digits(int64_t rows) {
    const auto row_bits = static_cast<int>(std::bit_width(static_cast<uint64_t>(rows - 1)));
    passes = std::max(1, (row_bits + kMaxDigitBits - 1) / kMaxDigitBits);
    bits = std::max(1, (row_bits + passes - 1) / passes);
    mask = (1u << bits) - 1;
  }
  uint32_t of_row(uint32_t row, int pass) const { return (row >> (pass * bits)) & mask; }
  uint32_t of_key(uint64_t key, int pass) const { return static_cast<uint32_t>(key >> (32 + pass * bits)) & mask; }
  int64_t values() const { return int64_t{1} << bits; }

  int passes, bits;
  uint32_t mask;
};

// Calls use(position, bag) for the look-ups of bags begin .. end.
template <class Use>
HWY_INLINE void for_lookups(const FeaturePlan& feature, int64_t begin, int64_t end, Use&& use) {
  if (!feature.good) return;
  if (feature.offsets != nullptr) {
    for (int64_t b = begin; b < end; ++b) {
      for (int64_t i = feature.offsets[b]; i < feature.offsets[b + 1]; ++i) use(i, b);
    }
  } else if (feature.bag_size == 1) {
    for (int64_t b = begin; b < end; ++b) use(b, b);
  } else {
    int64_t i = begin * feature.bag_size;
    for (int64_t b = begin; b < end; ++b) {
      for (const int64_t stop = i + feature.bag_size; i < stop; ++i) use(i, b);
    }
  }
}

class TableSort {
 public:
  TableSort(const LookupPlan& plan, TablePlan& table, BadIds& bad, int worker)
      : table_(table),
        scratch_(plan.scratch + worker * plan.scratch_stride),
        bad_(bad),
        batch_(plan.batch),
        clamp_(plan.clamp),
        rows_(static_cast<uint32_t>(table.table->rows)),
        digits_(table.table->rows) {}

  void run() {
    switch (digits_.passes) {
      case 1:
        return run_passes<1>();
      case 2:
        return run_passes<2>();
      default:
        return run_passes<3>();
    }
  }

  void run_in_parallel(Device& device, uint32_t* counters, int64_t chunks) {
    const Digits digits = digits_;
    const int64_t values = digits.values(), units = table_.feature_count * batch_;
    const double pass_cost = 2.0 * static_cast<double>(table_.lookups);
    const auto unit = [&](int64_t chunk) { return units * chunk / chunks; };
    device.for_tiles(chunks, pass_cost, [&](int64_t c) {
      uint32_t* counts = counters + c * values;
      std::memset(counts, 0, static_cast<size_t>(values) * sizeof *counts);
      for_units(unit(c), unit(c + 1), [&](const FeaturePlan& feature, int64_t, int64_t begin, int64_t end) {
        const Lookups lookups(*this, feature);
        for_lookups(feature, begin, end, [counts, lookups, digits](int64_t i, int64_t) HWY_ATTR {
          uint32_t row;
          if (lookups.row<true>(i, &row)) ++counts[digits.of_row(row, 0)];
        });
      });
    });
    table_.keys = to_places(counters, chunks);
    device.for_tiles(chunks, pass_cost, [&](int64_t c) {
      for_units(unit(c), unit(c + 1), [&](const FeaturePlan& feature, int64_t f, int64_t begin, int64_t end) {
        make_keys(feature, f, begin, end, counters + c * values);
      });
    });
    for (int pass = 1; pass < digits.passes; ++pass) {
      const uint64_t* from = written_by(pass - 1);
      uint64_t* to = written_by(pass);
      const auto key = [&](int64_t chunk) { return table_.keys * chunk / chunks; };
      device.for_tiles(chunks, pass_cost, [&](int64_t c) {
        uint32_t* counts = counters + c * values;
        std::memset(counts, 0, static_cast<size_t>(values) * sizeof *counts);
        for (int64_t i = key(c); i < key(c + 1); ++i) ++counts[digits.of_key(from[i], pass)];
      });
      to_places(counters, chunks);
      device.for_tiles(chunks, pass_cost, [&](int64_t c) { move(from, to, key(c), key(c + 1), pass, counters + c * values); });
    }
  }

 private:
  // A feature's ids with what decides which row they read. Kept by value in the loops, where stores to keys and counters might otherwise
  // be taken for stores to it.
  class Lookups {
   public:
    Lookups(const TableSort& sort, const FeaturePlan& feature)
        : ids_(feature.ids), bad_(&sort.bad_), index_(feature.index), rows_(sort.rows_), clamp_(sort.clamp_) {}

    // False when look-up i is left out. Bad ids are noted in the counting pass only.
    template <bool kNote>
    HWY_INLINE bool row(int64_t i, uint32_t* row) const {
      *row = static_cast<uint32_t>(ids_[i]);
      if (*row < rows_) [[likely]]
        return true;
      *row = 0;
      if (kNote && !clamp_) bad_->note(index_, i);
      return clamp_;
    }

   private:
    const int32_t* ids_;
    BadIds* bad_;
    int32_t index_;
    uint32_t rows_;
    bool clamp_;
  };

  // The passes write by turns to the scratch and to the table's own keys, the last one to the latter.
  uint64_t* written_by(int pass) const { return (digits_.passes - 1 - pass) % 2 == 0 ? table_.sorted : scratch_; }

  // Splits the range of (feature, bag) units into ranges of bags of one feature.
  template <class Use>
  void for_units(int64_t begin, int64_t end, Use&& use) {
    for (int64_t at = begin; at < end;) {
      const int64_t f = at / batch_, stop = std::min(end, (f + 1) * batch_);
      use(table_.features[f], f, at - f * batch_, stop - f * batch_);
      at = stop;
    }
  }

  void make_keys(const FeaturePlan& feature, int64_t f, int64_t begin, int64_t end, uint32_t* places) {
    const uint64_t slot = static_cast<uint64_t>(f) << table_.bag_bits;
    uint64_t* const keys = written_by(0);
    const Lookups lookups(*this, feature);
    const Digits digits = digits_;
    for_lookups(feature, begin, end, [=](int64_t i, int64_t bag) HWY_ATTR {
      uint32_t row;
      if (lookups.row<false>(i, &row)) [[likely]] {
        keys[places[digits.of_row(row, 0)]++] = (uint64_t{row} << 32) | slot | static_cast<uint64_t>(bag);
      }
    });
  }

  void move(const uint64_t* from, uint64_t* to, int64_t begin, int64_t end, int pass, uint32_t* places) {
    const Digits digits = digits_;
    for (int64_t i = begin; i < end; ++i) to[places[digits.of_key(from[i], pass)]++] = from[i];
  }

  // Counts [chunks][values] become first places in (value, chunk) order; returns their sum.
  int64_t to_places(uint32_t* counters, int64_t chunks) const {
    uint32_t place = 0;
    for (int64_t v = 0; v < digits_.values(); ++v) {
      for (int64_t c = 0; c < chunks; ++c) {
        uint32_t& counter = counters[c * digits_.values() + v];
        const uint32_t count = counter;
        counter = place;
        place += count;
      }
    }
    return place;
  }

  template <int kPasses>
  void run_passes() {
    uint32_t counters[kPasses][1 << kMaxDigitBits];
    const Digits digits = digits_;
    for (int p = 0; p < kPasses; ++p) std::memset(counters[p], 0, static_cast<size_t>(digits_.values()) * sizeof counters[p][0]);
    for (int32_t f = 0; f < table_.feature_count; ++f) {
      const FeaturePlan& feature = table_.features[f];
      const Lookups lookups(*this, feature);
      for_lookups(feature, 0, batch_, [&counters, lookups, digits](int64_t i, int64_t) HWY_ATTR {
        uint32_t row;
        if (!lookups.row<true>(i, &row)) [[unlikely]]
          return;
        for (int p = 0; p < kPasses; ++p) ++counters[p][digits.of_row(row, p)];
      });
    }
    for (int p = 0; p < kPasses; ++p) table_.keys = to_places(counters[p], 1);
    for (int32_t f = 0; f < table_.feature_count; ++f) make_keys(table_.features[f], f, 0, batch_, counters[0]);
    for (int p = 1; p < kPasses; ++p) move(written_by(p - 1), written_by(p), 0, table_.keys, p, counters[p]);
  }

  TablePlan& table_;
  uint64_t* scratch_;
  BadIds& bad_;
  int64_t batch_;
  bool clamp_;
  uint32_t rows_;
  Digits digits_;
};

void SortTable(const LookupPlan& plan, TablePlan& table, BadIds& bad, int worker) { TableSort(plan, table, bad, worker).run(); }

void SortTableInParallel(Device& device, const LookupPlan& plan, TablePlan& table, BadIds& bad, int64_t chunks) {
  TableSort(plan, table, bad, 0).run_in_parallel(device, plan.counters, chunks);
}

}  // namespace
}  // namespace cudamoe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cudamoe::cpu {
namespace {

HWY_EXPORT(SortTable);
HWY_EXPORT(SortTableInParallel);

constexpr int64_t kParallelFrom = 32768;
constexpr int kCounterBits = 11;  // of a digit

int64_t parallel_chunks(const Device& device) { return device.threads() == 1 ? 0 : std::min(64, 4 * device.threads()); }

}  // namespace

int64_t parallel_sort_counters(const Device& device) { return parallel_chunks(device) << kCounterBits; }

void sort_lookups(Device& device, const LookupPlan& plan, BadIds& bad) {
  int64_t lookups = 0;
  for (int32_t t = 0; t < plan.table_count; ++t) lookups += plan.tables[t].lookups;
  const int64_t chunks = parallel_chunks(device);
  const auto is_large = [&](const TablePlan& table) {
    return chunks > 0 && table.lookups >= kParallelFrom && table.lookups * 4 * device.threads() > lookups;
  };
  for (int32_t t = 0; t < plan.table_count; ++t) {
    if (is_large(plan.tables[t])) HWY_DYNAMIC_DISPATCH(SortTableInParallel)(device, plan, plan.tables[t], bad, chunks);
  }
  device.for_tiles(plan.table_count, 5.0 * static_cast<double>(lookups), [&](int64_t t, int worker) {
    if (!is_large(plan.tables[t])) HWY_DYNAMIC_DISPATCH(SortTable)(plan, plan.tables[t], bad, worker);
  });
}

}  // namespace cudamoe::cpu
#endif  // HWY_ONCE
