// Checks of the routing.
#include "core/abi.h"
#include "core/gating/limits.h"

namespace cudamoe {
namespace {

void check_shape(Check& check, const cudamoe_routing_args& args) {
  check_routed_pairs(check, args.experts, args.samples, args.choices);
  check.range("order", args.order, CUDAMOE_ORDER_SAMPLE_MAJOR, CUDAMOE_ORDER_PRIORITY).count("capacity", args.capacity);
}

void check_arguments(Check& check, const cudamoe_routing_args& args, const cudamoe_stream* stream) {
  check_shape(check, args);
  if (!check.ok()) return;
  const int64_t pairs = args.samples * args.choices;
  check.data("chosen", args.chosen, alignof(int32_t), pairs);
  if (args.order == CUDAMOE_ORDER_PRIORITY) {
    check.data("weights", args.weights, alignof(float), pairs);
  } else {
    check.optional("weights", args.weights, alignof(float));
  }
  check.pointer("offsets", args.offsets, alignof(int64_t)).optional("dropped", args.dropped, alignof(int64_t));
  check.data("sample_of_slot", args.sample_of_slot, alignof(int32_t), pairs)
      .data("pair_of_slot", args.pair_of_slot, alignof(int32_t), pairs);
  check.data("slot_of_pair", args.slot_of_pair, alignof(int32_t), pairs);
  struct Range {
    const char* field;
    const void* data;
    int64_t bytes;
  };
  const int64_t experts = args.experts;
  const Range ranges[] = {{"offsets", args.offsets, (experts + 1) * 8},
                          {"dropped", args.dropped, experts * 8},
                          {"sample_of_slot", args.sample_of_slot, pairs * 4},
                          {"pair_of_slot", args.pair_of_slot, pairs * 4},
                          {"slot_of_pair", args.slot_of_pair, pairs * 4},
                          {"chosen", args.chosen, pairs * 4},
                          {"weights", args.weights, pairs * 4}};
  for (int out = 0; out < 5; ++out) {
    for (int other = out + 1; other < 7; ++other) {
      check.disjoint(ranges[out].field, ranges[out].data, ranges[out].bytes, ranges[other].field, ranges[other].data, ranges[other].bytes);
    }
  }
  if (check.ok()) check.workspace(args.workspace, args.workspace_bytes, needed_bytes(stream, &Backend::routing_workspace, args));
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_routing_workspace(cudamoe_stream* stream, const cudamoe_routing_args* args, int64_t* bytes) {
  return run_query("cudamoe_routing_workspace", stream, args, bytes, &Backend::routing_workspace, check_shape);
}

cudamoe_status cudamoe_routing(cudamoe_stream* stream, const cudamoe_routing_args* args) {
  return run_operation("cudamoe_routing", stream, args, &Backend::routing, check_arguments);
}

}  // extern "C"
