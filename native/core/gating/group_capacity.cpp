// Checks of the capacity within groups.
#include "core/abi.h"
#include "core/gating/limits.h"

namespace cudamoe {
namespace {

void check_arguments(Check& check, const cudamoe_group_capacity_args& args, const cudamoe_stream*) {
  check_routed_pairs(check, args.experts, args.samples, args.choices);
  check.range("group", args.group, 1, std::numeric_limits<int32_t>::max()).count("capacity", args.capacity, 1);
  if (!check.ok()) return;
  check.require(args.samples % args.group == 0, "samples is %lld and group is %d; samples must be a multiple of group",
                static_cast<long long>(args.samples), args.group);
  const int64_t pairs = args.samples * args.choices;
  check.data("chosen", args.chosen, alignof(int32_t), pairs).data("slot_of_pair", args.slot_of_pair, alignof(int32_t), pairs);
  check.optional("dropped_pairs", args.dropped_pairs, alignof(int32_t)).optional("dropped", args.dropped, alignof(int64_t));
  struct Range {
    const char* field;
    const void* data;
    int64_t bytes;
  };
  const Range ranges[] = {{"slot_of_pair", args.slot_of_pair, pairs * 4},
                          {"dropped_pairs", args.dropped_pairs, pairs * 4},
                          {"dropped", args.dropped, int64_t{args.experts} * 8},
                          {"chosen", args.chosen, pairs * 4}};
  for (int out = 0; out < 3; ++out) {
    for (int other = out + 1; other < 4; ++other) {
      check.disjoint(ranges[out].field, ranges[out].data, ranges[out].bytes, ranges[other].field, ranges[other].data, ranges[other].bytes);
    }
  }
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" cudamoe_status cudamoe_group_capacity(cudamoe_stream* stream, const cudamoe_group_capacity_args* args) {
  return run_operation("cudamoe_group_capacity", stream, args, &Backend::group_capacity, check_arguments);
}
