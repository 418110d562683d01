// Routing: a stable sort of the pairs (sample, choice) by expert, by counting.
//
// Places in the order of `order` are cut into blocks fixed by the shape. Each block counts its pairs per expert; the counts are summed
// over experts and, within an expert, over blocks, which gives each block its first slot in each expert; each block then places its
// pairs in order. Integers only, so the result is the stable sort whatever the threads do. By priority the pairs are sorted by
// weight first, with the same three steps on kDigitBits of the key at a time, lowest digit first.
//
// Floor: chosen read twice and the three results written once, 20 bytes a pair; by priority 48 more for each of three digits.
#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "cpu/common/first_offender.h"
#include "cpu/gating/gating.h"
#include "cpu/gemm/layout.h"

namespace cudamoe::cpu {
namespace {

constexpr int64_t kSmallestBlock = 16384, kMostBlocks = 16;
constexpr int kDigitBits = 11, kDigits = 3;
constexpr double kNanosecondsAPair = 2;

struct Blocks {
  int64_t size, count;
};

Blocks blocks_of(int64_t pairs) {
  const int64_t size = std::max(kSmallestBlock, divide_up(pairs, kMostBlocks));
  return {size, divide_up(pairs, size)};
}

int64_t pairs_of(const cudamoe_routing_args& args) { return args.samples * args.choices; }

// A pair with the complement of its weight's order, so that ascending keys are descending weights.
struct KeyedPair {
  uint32_t key;
  int32_t pair;
};

// NaN after all others, -0 equal to +0.
uint32_t descending_key(float weight) {
  if (std::isnan(weight)) return ~uint32_t{0};
  const auto bits = std::bit_cast<uint32_t>(weight + 0.0f);
  const uint32_t ascending = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return ~ascending;
}

// The work space: counts [blocks, buckets], and two arrays of keyed pairs for ORDER_PRIORITY.
struct Space {
  int32_t* counts;
  KeyedPair* from;
  KeyedPair* to;
};

int64_t counts_bytes(const cudamoe_routing_args& args) {
  const int64_t buckets = std::max<int64_t>(args.experts, args.order == CUDAMOE_ORDER_PRIORITY ? int64_t{1} << kDigitBits : 0);
  return round_up(blocks_of(pairs_of(args)).count * buckets * static_cast<int64_t>(sizeof(int32_t)), 64);
}

int64_t keyed_bytes(const cudamoe_routing_args& args) {
  return args.order == CUDAMOE_ORDER_PRIORITY ? round_up(pairs_of(args) * static_cast<int64_t>(sizeof(KeyedPair)), 64) : 0;
}

Space space_of(const cudamoe_routing_args& args) {
  char* at = static_cast<char*>(args.workspace);
  if (at == nullptr) return {};
  char* keyed = at + counts_bytes(args);
  return {reinterpret_cast<int32_t*>(at), reinterpret_cast<KeyedPair*>(keyed), reinterpret_cast<KeyedPair*>(keyed + keyed_bytes(args))};
}

// Calls body(block, first place, places) for all blocks, in parallel.
template <class Body>
void for_blocks(Device& device, int64_t pairs, Body&& body) {
  const Blocks blocks = blocks_of(pairs);
  device.for_tiles(blocks.count, kNanosecondsAPair * static_cast<double>(pairs), [&](int64_t block) {
    const int64_t first = block * blocks.size;
    body(block, first, std::min(blocks.size, pairs - first));
  });
}

// Leaves the pairs in descending order of their weights in space.from.
void sort_by_weight(Device& device, const cudamoe_routing_args& args, Space& space) {
  constexpr int64_t kBuckets = int64_t{1} << kDigitBits;
  const int64_t pairs = pairs_of(args), block_count = blocks_of(pairs).count;
  for_blocks(device, pairs, [&](int64_t, int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; ++i) space.from[i] = {descending_key(args.weights[i]), static_cast<int32_t>(i)};
  });
  for (int digit = 0; digit < kDigits; ++digit) {
    const auto bucket_of = [digit](KeyedPair p) { return (p.key >> (digit * kDigitBits)) & (kBuckets - 1); };
    for_blocks(device, pairs, [&](int64_t block, int64_t first, int64_t count) {
      int32_t* counts = space.counts + block * kBuckets;
      std::fill_n(counts, kBuckets, 0);
      for (int64_t i = first; i < first + count; ++i) ++counts[bucket_of(space.from[i])];
    });
    int32_t next = 0;
    for (int64_t bucket = 0; bucket < kBuckets; ++bucket) {
      for (int64_t block = 0; block < block_count; ++block) next += std::exchange(space.counts[block * kBuckets + bucket], next);
    }
    for_blocks(device, pairs, [&](int64_t block, int64_t first, int64_t count) {
      int32_t* slots = space.counts + block * kBuckets;
      for (int64_t i = first; i < first + count; ++i) space.to[slots[bucket_of(space.from[i])]++] = space.from[i];
    });
    std::swap(space.from, space.to);
  }
}

// Calls body(pair) for the places first .. first + count - 1 of the order.
template <class Body>
void for_places(const cudamoe_routing_args& args, const Space& space, int64_t first, int64_t count, Body&& body) {
  switch (args.order) {
    case CUDAMOE_ORDER_SAMPLE_MAJOR:
      for (int64_t i = first; i < first + count; ++i) body(i);
      break;
    case CUDAMOE_ORDER_CHOICE_MAJOR: {
      int64_t choice = first / args.samples, sample = first % args.samples;
      for (int64_t i = 0; i < count; ++i) {
        body(sample * args.choices + choice);
        if (++sample == args.samples) {
          sample = 0;
          ++choice;
        }
      }
      break;
    }
    default:
      for (int64_t i = first; i < first + count; ++i) body(space.from[i].pair);
  }
}

// Counts pairs per expert and block; returns the lowest pair whose expert is out of range, or -1.
int64_t count_experts(Device& device, const cudamoe_routing_args& args, const Space& space) {
  FirstOffender offender;
  const auto experts = static_cast<uint32_t>(args.experts);
  for_blocks(device, pairs_of(args), [&](int64_t block, int64_t first, int64_t count) {
    int32_t* counts = space.counts + block * args.experts;
    std::fill_n(counts, args.experts, 0);
    for_places(args, space, first, count, [&](int64_t pair) {
      const auto expert = static_cast<uint32_t>(args.chosen[pair]);
      if (expert < experts) {
        ++counts[expert];
      } else {
        offender.note(pair);
      }
    });
  });
  return offender.index();
}

// Turns the counts into the rank of each block's first pair within its expert, and fills offsets and dropped.
void rank_blocks(const cudamoe_routing_args& args, const Space& space) {
  const int64_t block_count = blocks_of(pairs_of(args)).count;
  args.offsets[0] = 0;
  for (int64_t expert = 0; expert < args.experts; ++expert) {
    int32_t total = 0;
    for (int64_t block = 0; block < block_count; ++block) total += std::exchange(space.counts[block * args.experts + expert], total);
    const int64_t kept = args.capacity > 0 ? std::min<int64_t>(total, args.capacity) : total;
    args.offsets[expert + 1] = args.offsets[expert] + kept;
    if (args.dropped != nullptr) args.dropped[expert] = total - kept;
  }
}

void place_pairs(Device& device, const cudamoe_routing_args& args, const Space& space) {
  const auto experts = static_cast<uint32_t>(args.experts);
  for_blocks(device, pairs_of(args), [&](int64_t block, int64_t first, int64_t count) {
    int32_t* ranks = space.counts + block * args.experts;
    for_places(args, space, first, count, [&](int64_t pair) {
      const auto expert = static_cast<uint32_t>(args.chosen[pair]);
      if (expert >= experts) {
        args.slot_of_pair[pair] = -1;
        return;
      }
      const int64_t slot = args.offsets[expert] + ranks[expert]++;
      if (slot >= args.offsets[expert + 1]) {
        args.slot_of_pair[pair] = -1;
        return;
      }
      args.slot_of_pair[pair] = static_cast<int32_t>(slot);
      args.pair_of_slot[slot] = static_cast<int32_t>(pair);
      args.sample_of_slot[slot] = static_cast<int32_t>(static_cast<uint32_t>(pair) / static_cast<uint32_t>(args.choices));
    });
  });
}

}  // namespace

int64_t routing_workspace(void*, const cudamoe_routing_args& args) { return counts_bytes(args) + 2 * keyed_bytes(args); }

cudamoe_status routing(void* handle, const cudamoe_routing_args& args) {
  Stream& stream = stream_of(handle);
  Device& device = stream.device();
  Space space = space_of(args);
  if (args.order == CUDAMOE_ORDER_PRIORITY) sort_by_weight(device, args, space);
  const int64_t bad = count_experts(device, args, space);
  rank_blocks(args, space);
  place_pairs(device, args, space);
  const int64_t routed = args.offsets[args.experts], rest = pairs_of(args) - routed;
  if (rest > 0) {
    std::fill_n(args.sample_of_slot + routed, rest, -1);
    std::fill_n(args.pair_of_slot + routed, rest, -1);
  }
  if (bad >= 0) {
    stream.report("cudamoe_routing: chosen[%lld] is %d; it must be at least 0 and below experts (%d); such pairs are dropped",
                  static_cast<long long>(bad), args.chosen[bad], args.experts);
  }
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
