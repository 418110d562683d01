// A capacity within groups of neighbouring samples. Each pair counts the pairs of its group before it that have its expert.
//
// Floor: 8 bytes a pair read and 8 written. Tiling: a task is some groups. Integers only; the order of the tasks is not seen.
#include <algorithm>
#include <atomic>

#include "cpu/gating/gating.h"

namespace cudamoe::cpu {
namespace {

constexpr int64_t kTaskPairs = 4096;
constexpr double kNanosecondsAComparison = 0.5;

// Pairs first .. first + count - 1 are a group.
void limit_group(const cudamoe_group_capacity_args& args, int64_t first, int64_t count) {
  const auto experts = static_cast<uint32_t>(args.experts);
  for (int64_t pair = first; pair < first + count; ++pair) {
    const int32_t expert = args.chosen[pair];
    const bool limited =
        static_cast<uint32_t>(expert) < experts && std::count(args.chosen + first, args.chosen + pair, expert) >= args.capacity;
    const bool drops = limited && args.slot_of_pair[pair] >= 0;
    if (drops) args.slot_of_pair[pair] = -1;
    if (args.dropped_pairs != nullptr) args.dropped_pairs[pair] = drops ? static_cast<int32_t>(pair) : -1;
    if (drops && args.dropped != nullptr) std::atomic_ref(args.dropped[expert]).fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace

cudamoe_status group_capacity(void* handle, const cudamoe_group_capacity_args& args) {
  if (args.dropped != nullptr) std::fill_n(args.dropped, args.experts, 0);
  const int64_t size = int64_t{args.group} * args.choices, groups = args.samples / args.group;
  const int64_t at_once = std::max<int64_t>(1, kTaskPairs / size);
  const double comparisons = 0.5 * static_cast<double>(groups) * static_cast<double>(size) * static_cast<double>(size + 1);
  stream_of(handle).device().for_tiles((groups + at_once - 1) / at_once, kNanosecondsAComparison * comparisons, [&](int64_t task) {
    const int64_t last = std::min(groups, (task + 1) * at_once);
    for (int64_t group = task * at_once; group < last; ++group) limit_group(args, group * size, size);
  });
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
