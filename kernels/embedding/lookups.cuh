// The look-ups of a tile of a table as keys to sort:
//   key = row << 32 | slot,  row = the id,  slot = feature of the table << bag_bits | bag
// A bad id, an id behind the last bag and those of a feature that is left out have the row behind the table's last, which sorts behind all
// others.
#pragma once

#include "embedding/bags.cuh"
#include "embedding/tiles.cuh"

namespace cudamoe::kernels {

class TileLookups {
 public:
  // All threads of the block; the tile has look-ups.
  CUDAMOE_DEVICE TileLookups(const EmbeddingPlan& plan, const EmbeddingBatch& batch, const PlanTable& table, const SortTile& tile)
      : batch_(batch), features_(plan.features + table.first_feature), first_plan_feature_(table.first_feature), rows_(table.rows) {
    const int64_t last = tile.begin + tile.count - 1;
    first_ = feature_of(0, table.feature_count - 1, tile.begin);
    last_ = feature_of(first_, table.feature_count - 1, last);
  }

  // Whether all are of one feature.
  CUDAMOE_DEVICE bool alone() const { return first_ == last_; }
  CUDAMOE_DEVICE int first() const { return first_; }
  CUDAMOE_DEVICE const KeyFeature& feature(int f) const { return features_[f]; }
  // That of a look-up of the table.
  CUDAMOE_DEVICE int feature_of_lookup(int64_t lookup) const { return feature_of(first_, last_, lookup); }

  // The look-ups of a feature that have a bag, from its first on.
  CUDAMOE_DEVICE int64_t bagged(const KeyFeature& feature, int f) const {
    if (feature.bags.offsets == nullptr) return feature.bags.lookups;
    return left_out(batch_, feature.bags, first_plan_feature_ + f) ? 0 : load_constant(feature.bags.offsets + batch_.batch);
  }

  // The row of an id, that behind the table's last for a bad one, which with `notes` is noted.
  template <bool kNotes>
  CUDAMOE_DEVICE uint32_t row(const KeyFeature& feature, int64_t position, int32_t id) const {
    const int32_t row = row_of_id(batch_, feature.bags, id);
    if (row != kBadRow) return static_cast<uint32_t>(row);
    if (kNotes) note_bad_id(batch_, feature.bags, position);
    return rows_;
  }

  // The bag of a look-up of a feature whose offsets are good; it is not before bag `low`. Steps double until they pass it: where look-ups
  // are asked for in ascending order their bags are near each other.
  CUDAMOE_DEVICE int64_t bag(const KeyFeature& feature, int64_t position, int64_t low) const {
    const auto offset = [&](int64_t b) { return load_constant(feature.bags.offsets + b); };
    int64_t step = 1;
    while (low + step < batch_.batch && offset(low + step) <= position) {
      low += step;
      step *= 2;
    }
    const int64_t high = low + step < batch_.batch ? low + step - 1 : batch_.batch - 1;
    return last_at_most(low, high, position, offset);
  }

 private:
  CUDAMOE_DEVICE int feature_of(int low, int high, int64_t lookup) const {
    return static_cast<int>(last_at_most(low, high, lookup, [&](int64_t f) { return features_[f].first_lookup; }));
  }

  const EmbeddingBatch& batch_;
  const KeyFeature* features_;
  int first_plan_feature_;
  uint32_t rows_;
  int first_ = 0, last_ = 0;
};

}  // namespace cudamoe::kernels
