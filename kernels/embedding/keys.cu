// The look-ups of a group of tables as keys to sort:
//   keys[first_lookup_f + p] = row << 32 | slot,  row = first row of the table + ids_f[p],  slot = feature of the table << bag_bits | bag
// A bad id, an id behind the last bag and those of a feature that is left out have row `sentinel`, which sorts behind all others.
//
// Floor: ids read, keys (8 bytes) written. Tiling: a block of 256 threads per tile of the sort; its first digit is counted on the way.
// The bag of a look-up is found by bisection in the offsets, between the bags of the tile's ends where the tile lies in one feature.
// Shared memory: 1 KiB of counts. No sums of floats.
#include "embedding/bags.cuh"
#include "embedding/search.cuh"
#include "embedding/sort.cuh"

namespace cudamoe::kernels {
namespace {

CUDAMOE_DEVICE int feature_of_lookup(const EmbeddingGroup& group, int64_t lookup) {
  return static_cast<int>(last_at_most(0, group.feature_count - 1, lookup, [&](int64_t f) { return group.features[f].first_lookup; }));
}

// The bag of a look-up of a feature whose offsets are good.
CUDAMOE_DEVICE int64_t bag_of(const EmbeddingBags& bags, int64_t position, int64_t low, int64_t high) {
  return last_at_most(low, high, position, [&](int64_t b) { return load_constant(bags.offsets + b); });
}

template <int kItems>
CUDAMOE_KERNEL(kEmbeddingThreads, 4)
keys_kernel(const CUDAMOE_GRID_CONSTANT EmbeddingGroup group, const CUDAMOE_GRID_CONSTANT EmbeddingBatch batch, uint64_t* keys,
            const CUDAMOE_GRID_CONSTANT SortPass pass) {
  constexpr int64_t kTile = kItems * kEmbeddingThreads;
  const int64_t tile = block_x(), begin = tile * kTile;
  const int64_t end = begin + kTile < group.lookups ? begin + kTile : group.lookups;
  const int first_feature = feature_of_lookup(group, begin), last_feature = feature_of_lookup(group, end - 1);
  // Between which bags those of the tile lie, when it has one feature.
  int64_t low = 0, high = batch.batch - 1;
  if (first_feature == last_feature && batch.batch > 0) {
    const KeyFeature& feature = group.features[first_feature];
    if (feature.bags.offsets != nullptr && !left_out(batch, feature.bags, first_feature)) {
      low = bag_of(feature.bags, begin - feature.first_lookup, low, high);
      high = bag_of(feature.bags, end - 1 - feature.first_lookup, low, high);
    }
  }
  const auto make_key = [&](int64_t lookup) -> uint64_t {
    const uint64_t sentinel = static_cast<uint64_t>(group.sentinel) << 32;
    const auto f =
        static_cast<int>(last_at_most(first_feature, last_feature, lookup, [&](int64_t i) { return group.features[i].first_lookup; }));
    const KeyFeature& feature = group.features[f];
    const int64_t position = lookup - feature.first_lookup;
    int64_t bag;
    if (feature.bags.offsets == nullptr) {
      bag = static_cast<uint32_t>(position) / static_cast<uint32_t>(feature.bags.bag_size);
    } else {
      if (left_out(batch, feature.bags, f) || position >= load_constant(feature.bags.offsets + batch.batch)) return sentinel;
      bag = bag_of(feature.bags, position, low, high);
    }
    const int32_t row = row_of_id(batch, feature.bags, load_constant(feature.bags.ids + position));
    if (row == kBadRow) {
      note_bad_id(batch, feature.bags, position);
      return sentinel;
    }
    return static_cast<uint64_t>(feature.first_row + static_cast<uint32_t>(row)) << 32 | (feature.first_slot | static_cast<uint32_t>(bag));
  };
  count_digits<kItems>(pass, tile, [&](int i) {
    const uint64_t key = make_key(begin + i);
    keys[begin + i] = key;
    return key;
  });
}

}  // namespace

cudaError_t embedding_keys(const EmbeddingGroup& group, const EmbeddingBatch& batch, uint64_t* keys, const SortPass& pass,
                           cudaStream_t stream) {
  return with_sort_items(pass.keys, [&](auto items, int tiles) {
    return launch({.name = "embedding_keys", .grid = {tiles}, .block = {kEmbeddingThreads}, .stream = stream},
                  keys_kernel<decltype(items)::value>, group, batch, keys, pass);
  });
}

}  // namespace cudamoe::kernels
