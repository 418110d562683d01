// Routing: a stable sort of the pairs (sample, choice) by expert, by counting.
//
// Places in the order of `order` are cut into a block for each thread. Each block counts its pairs per expert; the counts are summed
// over experts and, within an expert, over blocks, which gives each block its first slot in each expert; each block then places its
// pairs in order. Integers only, so the result is the stable sort whatever the threads do. By priority the pairs are sorted by
// weight first, with the same three steps on kDigitBits of the key at a time, lowest digit first. Keys are integers in the order of the
// weights, counted from the smallest one, so that weights close to each other need fewer digits.
//
// Floor: chosen read twice and the three results written once, 20 bytes a pair; by priority 16 more, and 16 to 24 for each digit.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <utility>

#include "cpu/common/first_offender.h"
#include "cpu/gating/gating.h"
#include "cpu/gemm/layout.h"

namespace cudamoe::cpu {
namespace {

constexpr int64_t kSmallestBlock = 4096, kMostBlocks = 16;
constexpr int kDigitBits = 11, kMostDigits = 3;
constexpr int64_t kBuckets = int64_t{1} << kDigitBits;
constexpr double kNanosecondsAPair = 2;

struct Blocks {
  int64_t size, count;
};

// Any blocks give the same sort.
Blocks blocks_of(int64_t pairs, int threads) {
  const int64_t size = std::max(kSmallestBlock, divide_up(pairs, std::min<int64_t>(threads, kMostBlocks)));
  return {threads == 1 ? std::max<int64_t>(pairs, 1) : size, threads == 1 ? std::min<int64_t>(pairs, 1) : divide_up(pairs, size)};
}

int64_t pairs_of(const cudamoe_routing_args& args) { return args.samples * args.choices; }

// NaN after all others, -0 equal to +0.
uint32_t descending_key(float weight) {
  if (std::isnan(weight)) return ~uint32_t{0};
  const auto bits = std::bit_cast<uint32_t>(weight + 0.0f);
  const uint32_t ascending = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return ~ascending;
}

// The key of a pair in the upper half, its index in the lower one.
using KeyedPair = uint64_t;

// The work space: counts [blocks, experts] or [blocks, kBuckets], and two arrays of keyed pairs for ORDER_PRIORITY. If there is one block
// alone, it counts all digits at once: [kMostDigits, kBuckets].
struct Space {
  int32_t* counts;
  KeyedPair* from;
  KeyedPair* to;
};

int64_t counts_bytes(const cudamoe_routing_args& args, int threads) {
  const int64_t blocks = blocks_of(pairs_of(args), threads).count;
  const int64_t buckets = args.order == CUDAMOE_ORDER_PRIORITY ? std::max<int64_t>(blocks, kMostDigits) * kBuckets : 0;
  return round_up(std::max(blocks * args.experts, buckets) * static_cast<int64_t>(sizeof(int32_t)), 64);
}

int64_t keyed_bytes(const cudamoe_routing_args& args) {
  return args.order == CUDAMOE_ORDER_PRIORITY ? round_up(pairs_of(args) * static_cast<int64_t>(sizeof(KeyedPair)), 64) : 0;
}

Space space_of(const cudamoe_routing_args& args, int threads) {
  char* at = static_cast<char*>(args.workspace);
  if (at == nullptr) return {};
  char* keyed = at + counts_bytes(args, threads);
  return {reinterpret_cast<int32_t*>(at), reinterpret_cast<KeyedPair*>(keyed), reinterpret_cast<KeyedPair*>(keyed + keyed_bytes(args))};
}

// Calls body(block, first place, places) for all blocks, in parallel.
template <class Body>
void for_blocks(Device& device, int64_t pairs, Body&& body) {
  const Blocks blocks = blocks_of(pairs, device.threads());
  device.for_tiles(blocks.count, kNanosecondsAPair * static_cast<double>(pairs), [&](int64_t block) {
    const int64_t first = block * blocks.size;
    body(block, first, std::min(blocks.size, pairs - first));
  });
}

struct KeyRange {
  uint32_t least, most;
};

KeyRange key_range(Device& device, const cudamoe_routing_args& args) {
  const int64_t pairs = pairs_of(args);
  std::array<KeyRange, kMostBlocks> ranges;
  for_blocks(device, pairs, [&](int64_t block, int64_t first, int64_t count) {
    KeyRange range{~uint32_t{0}, 0};
    for (int64_t i = first; i < first + count; ++i) {
      const uint32_t key = descending_key(args.weights[i]);
      range = {std::min(range.least, key), std::max(range.most, key)};
    }
    ranges[static_cast<size_t>(block)] = range;
  });
  KeyRange all{~uint32_t{0}, 0};
  for (int64_t block = 0; block < blocks_of(pairs, device.threads()).count; ++block) {
    const KeyRange& range = ranges[static_cast<size_t>(block)];
    all = {std::min(all.least, range.least), std::max(all.most, range.most)};
  }
  return all;
}

template <int kDigit>
int64_t bucket_of(KeyedPair pair) {
  return static_cast<int64_t>(pair >> (32 + kDigit * kDigitBits)) & (kBuckets - 1);
}

// Writes the pairs with their keys, less the least one, to `to` and counts their buckets: of all digits, or of the lowest alone.
void make_pairs(const float* weights, uint32_t least, int64_t first, int64_t count, KeyedPair* to, int32_t* counts, bool all_digits) {
  std::fill_n(counts, (all_digits ? kMostDigits : 1) * kBuckets, 0);
  for (int64_t i = first; i < first + count; ++i) {
    const KeyedPair pair = uint64_t{descending_key(weights[i]) - least} << 32 | static_cast<uint64_t>(i);
    to[i] = pair;
    ++counts[bucket_of<0>(pair)];
    if (!all_digits) continue;
    ++counts[kBuckets + bucket_of<1>(pair)];
    ++counts[2 * kBuckets + bucket_of<2>(pair)];
  }
}

// Moves the pairs in space.from to space.to in the order of a digit. The lowest digit has been counted, and all in a block alone.
template <int kDigit>
void sort_by_digit(Device& device, int64_t pairs, const Space& space) {
  const int64_t block_count = blocks_of(pairs, device.threads()).count;
  int32_t* const counts = space.counts + (block_count == 1 ? kDigit * kBuckets : 0);
  if (kDigit > 0 && block_count > 1) {
    for_blocks(device, pairs, [&](int64_t block, int64_t first, int64_t count) {
      const KeyedPair* from = space.from;
      int32_t* own = counts + block * kBuckets;
      std::fill_n(own, kBuckets, 0);
      for (int64_t i = first; i < first + count; ++i) ++own[bucket_of<kDigit>(from[i])];
    });
  }
  int32_t next = 0;
  for (int64_t bucket = 0; bucket < kBuckets; ++bucket) {
    for (int64_t block = 0; block < block_count; ++block) next += std::exchange(counts[block * kBuckets + bucket], next);
  }
  for_blocks(device, pairs, [&](int64_t block, int64_t first, int64_t count) {
    const KeyedPair* from = space.from;
    KeyedPair* to = space.to;
    int32_t* slots = counts + block * kBuckets;
    for (int64_t i = first; i < first + count; ++i) to[slots[bucket_of<kDigit>(from[i])]++] = from[i];
  });
}

// Leaves the pairs in descending order of their weights in space.from.
void sort_by_weight(Device& device, const cudamoe_routing_args& args, Space& space) {
  const int64_t pairs = pairs_of(args);
  if (pairs == 0) return;
  const KeyRange range = key_range(device, args);
  const bool one_block = blocks_of(pairs, device.threads()).count == 1;
  for_blocks(device, pairs, [&](int64_t block, int64_t first, int64_t count) {
    make_pairs(args.weights, range.least, first, count, space.from, space.counts + block * kBuckets, one_block);
  });
  constexpr void (*kSorts[kMostDigits])(Device&, int64_t, const Space&) = {sort_by_digit<0>, sort_by_digit<1>, sort_by_digit<2>};
  const int bits = std::bit_width(range.most - range.least);
  for (int digit = 0; digit * kDigitBits < bits; ++digit) {
    kSorts[digit](device, pairs, space);
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
      for (int64_t i = first; i < first + count; ++i) body(static_cast<int64_t>(static_cast<uint32_t>(space.from[i])));
  }
}

// Counts pairs per expert and block; returns the lowest pair whose expert is out of range, or -1.
int64_t count_experts(Device& device, const cudamoe_routing_args& args, const Space& space) {
  FirstOffender offender;
  const auto experts = static_cast<uint32_t>(args.experts);
  const bool one_block = blocks_of(pairs_of(args), device.threads()).count == 1;
  for_blocks(device, pairs_of(args), [&](int64_t block, int64_t first, int64_t count) {
    int32_t* counts = space.counts + block * args.experts;
    std::fill_n(counts, args.experts, 0);
    const auto count_pair = [&](int64_t pair) {
      const auto expert = static_cast<uint32_t>(args.chosen[pair]);
      if (expert < experts) {
        ++counts[expert];
      } else {
        offender.note(pair);
      }
    };
    if (one_block) {  // which holds all pairs, so their order does not matter
      for (int64_t i = 0; i < count; ++i) count_pair(i);
    } else {
      for_places(args, space, first, count, count_pair);
    }
  });
  return offender.index();
}

// Turns the counts into the rank of each block's first pair within its expert, and fills offsets and dropped.
void rank_blocks(const Device& device, const cudamoe_routing_args& args, const Space& space) {
  const int64_t block_count = blocks_of(pairs_of(args), device.threads()).count;
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
  // Exact: (pair + 1/2) / choices is further from any integer than the rounding reaches.
  const double samples_a_pair = 1.0 / args.choices;
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
      args.sample_of_slot[slot] = static_cast<int32_t>((static_cast<double>(pair) + 0.5) * samples_a_pair);
    });
  });
}

}  // namespace

int64_t routing_workspace(void* handle, const cudamoe_routing_args& args) {
  return counts_bytes(args, stream_of(handle).device().threads()) + 2 * keyed_bytes(args);
}

cudamoe_status routing(void* handle, const cudamoe_routing_args& args) {
  Stream& stream = stream_of(handle);
  Device& device = stream.device();
  Space space = space_of(args, device.threads());
  if (args.order == CUDAMOE_ORDER_PRIORITY) sort_by_weight(device, args, space);
  const int64_t bad = count_experts(device, args, space);
  rank_blocks(device, args, space);
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
