// Routing: passes of a stable radix sort by bytes of the weight (by priority) and of the expert. Up to 256 experts the pass by expert
// writes the results; with more a second pass by its upper byte follows, and the places of each expert are counted.
#include "cuda/gating/routing.h"

#include <algorithm>

#include "gating/gating.h"

namespace cudamoe::cuda {
namespace {

static_assert(static_cast<int32_t>(kernels::RoutingOrder::kChoiceMajor) == CUDAMOE_ORDER_CHOICE_MAJOR &&
              static_cast<int32_t>(kernels::RoutingOrder::kPriority) == CUDAMOE_ORDER_PRIORITY);

constexpr int64_t round_up(int64_t bytes) { return (bytes + 63) / 64 * 64; }

kernels::Routing routing_of(const cudamoe_routing_args& args) {
  kernels::Routing routing{};
  routing.experts = args.experts;
  routing.choices = args.choices;
  routing.samples = args.samples;
  routing.pairs = args.samples * args.choices;
  routing.order = static_cast<kernels::RoutingOrder>(args.order);
  routing.capacity = args.capacity;
  routing.chosen = args.chosen;
  routing.weights = args.weights;
  routing.offsets = args.offsets;
  routing.sample_of_slot = args.sample_of_slot;
  routing.pair_of_slot = args.pair_of_slot;
  routing.slot_of_pair = args.slot_of_pair;
  routing.dropped = args.dropped;
  return routing;
}

struct Sizes {
  int64_t counts, totals, pairs, rows, first;  // in bytes

  explicit Sizes(const kernels::Routing& routing)
      : counts(round_up(kernels::kRoutingBins * routing.blocks() * 4)), totals(kernels::kRoutingBins * 4), pairs(0), rows(0), first(0) {
    const bool many = routing.experts > kernels::kRoutingBins;
    if (many || routing.order == kernels::RoutingOrder::kPriority) pairs = round_up(routing.pairs * 4);
    if (many) {
      rows = round_up(int64_t{routing.experts} * 4);
      first = round_up(int64_t{routing.experts} * 8);
    }
  }
  int64_t all() const { return counts + totals + 2 * pairs + rows + first; }
};

cudaError_t run_pass(const kernels::Routing& routing, const kernels::RoutingPass& pass, cudaStream_t stream) {
  cudaError_t error = kernels::routing_count(routing, pass, stream);
  if (error == cudaSuccess) error = kernels::routing_rank(routing, pass, stream);
  if (error == cudaSuccess) error = kernels::routing_place(routing, pass, stream);
  return error;
}

}  // namespace

int64_t routing_workspace(void*, const cudamoe_routing_args& args) { return Sizes(routing_of(args)).all(); }

cudamoe_status routing(void* handle, const cudamoe_routing_args& args) {
  const Stream& stream = stream_of(handle);
  kernels::Routing sort = routing_of(args);
  const Sizes sizes(sort);
  char* at = static_cast<char*>(args.workspace);
  const auto take = [&](int64_t bytes) {
    char* taken = at;
    at += bytes;
    return taken;
  };
  sort.counts = reinterpret_cast<uint32_t*>(take(sizes.counts));
  sort.totals = reinterpret_cast<uint32_t*>(take(sizes.totals));
  sort.offender = static_cast<kernels::OffenderCell*>(stream.scratch());
  sort.report = stream.device_report();
  int32_t* lists[2] = {reinterpret_cast<int32_t*>(take(sizes.pairs)), reinterpret_cast<int32_t*>(take(sizes.pairs))};

  cudaError_t error = cudaSuccess;
  const int32_t* from = nullptr;
  int next = 0;
  const auto sort_by = [&](kernels::RoutingKey key, int32_t shift, bool last, bool reports) {
    if (error != cudaSuccess) return;
    const int32_t bins = key == kernels::RoutingKey::kExpert ? std::min(sort.experts, kernels::kRoutingBins) : kernels::kRoutingBins;
    error = run_pass(sort, {key, shift, bins, from, last ? nullptr : lists[next], reports ? 1 : 0}, stream.get());
    from = lists[next];
    next = 1 - next;
  };
  if (sort.order == kernels::RoutingOrder::kPriority) {
    for (int32_t shift = 0; shift < 32; shift += 8) sort_by(kernels::RoutingKey::kWeight, shift, false, false);
  }
  if (sort.experts <= kernels::kRoutingBins) {
    sort_by(kernels::RoutingKey::kExpert, 0, true, true);
    return stream.check(error, "cudamoe_routing");
  }
  sort_by(kernels::RoutingKey::kExpert, 0, false, true);
  sort_by(kernels::RoutingKey::kExpert, 8, false, false);
  kernels::RoutingSegments segments{};
  segments.sorted = from;
  segments.rows = reinterpret_cast<uint32_t*>(take(sizes.rows));
  segments.first = reinterpret_cast<int64_t*>(take(sizes.first));
  if (error == cudaSuccess) error = cudaMemsetAsync(segments.rows, 0, static_cast<size_t>(sort.experts) * 4, stream.get());
  if (error == cudaSuccess) error = kernels::routing_segments(sort, segments, stream.get());
  return stream.check(error, "cudamoe_routing");
}

namespace {

cudamoe_status group_capacity(void* handle, const cudamoe_group_capacity_args& args) {
  const Stream& stream = stream_of(handle);
  cudaError_t error = cudaSuccess;
  if (args.dropped != nullptr) error = cudaMemsetAsync(args.dropped, 0, static_cast<size_t>(args.experts) * 8, stream.get());
  const kernels::GroupCapacity limit{args.samples * args.choices,
                                     int64_t{args.group} * args.choices,
                                     args.capacity,
                                     args.experts,
                                     args.chosen,
                                     args.slot_of_pair,
                                     args.dropped_pairs,
                                     args.dropped};
  if (error == cudaSuccess && limit.pairs > 0) error = kernels::group_capacity(limit, stream.get());
  return stream.check(error, "cudamoe_group_capacity");
}

}  // namespace

void register_routing(Backend& table) {
  table.routing = routing;
  table.group_capacity = group_capacity;
  table.routing_workspace = routing_workspace;
}

}  // namespace cudamoe::cuda
