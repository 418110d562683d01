// Capacities within groups against a walk through each group, for slots that a routing gave.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "support/buffer.h"
#include "support/random.h"

namespace cudamoe::test {
namespace {

struct Case {
  int32_t experts = 1, choices = 1, group = 1;
  int64_t samples = 0, capacity = 1;
  std::vector<int32_t> chosen, slots;
};

struct Limited {
  std::vector<int32_t> slots, dropped_pairs;
  std::vector<int64_t> dropped;
  bool operator==(const Limited&) const = default;
};

Limited run(TestDevice& device, const Case& c) {
  const Buffer<int32_t> chosen(device, c.chosen, 1);
  Buffer<int32_t> slots(device, c.slots), dropped_pairs(device, c.samples * c.choices, 3);
  const Buffer<int64_t> dropped(device, c.experts);
  cudamoe_group_capacity_args a{};
  a.struct_size = sizeof a;
  a.experts = c.experts;
  a.samples = c.samples;
  a.choices = c.choices;
  a.group = c.group;
  a.capacity = c.capacity;
  a.chosen = chosen.data();
  a.slot_of_pair = slots.data();
  a.dropped_pairs = dropped_pairs.data();
  a.dropped = dropped.data();
  CUDAMOE_EXPECT_OK(cudamoe_group_capacity(device.stream(), &a));
  const Limited result{slots.get(), dropped_pairs.get(), dropped.get()};
  // Without the lists the slots are the same.
  slots.set(c.slots);
  a.dropped_pairs = nullptr;
  a.dropped = nullptr;
  CUDAMOE_EXPECT_OK(cudamoe_group_capacity(device.stream(), &a));
  EXPECT_EQ(slots.get(), result.slots);
  EXPECT_TRUE(chosen.guards_intact() && slots.guards_intact() && dropped_pairs.guards_intact() && dropped.guards_intact());
  return result;
}

Limited reference(const Case& c) {
  const int64_t pairs = c.samples * c.choices, size = int64_t{c.group} * c.choices;
  Limited r{c.slots, std::vector<int32_t>(pairs, -1), std::vector<int64_t>(c.experts, 0)};
  for (int64_t first = 0; first < pairs; first += size) {
    std::map<int32_t, int64_t> taken;
    for (int64_t pair = first; pair < first + size; ++pair) {
      const int32_t expert = c.chosen[pair];
      if (expert < 0 || expert >= c.experts) continue;
      if (++taken[expert] <= c.capacity || c.slots[pair] < 0) continue;
      r.slots[pair] = -1;
      r.dropped_pairs[pair] = static_cast<int32_t>(pair);
      ++r.dropped[expert];
    }
  }
  return r;
}

// Some pairs have lost their slots before.
Case random_case(Random& random, int64_t groups, int32_t group, int32_t choices, int32_t experts, int64_t capacity) {
  Case c{experts, choices, group, groups * group, capacity, {}, {}};
  for (int64_t i = 0; i < c.samples * choices; ++i) {
    c.chosen.push_back(static_cast<int32_t>(random.integer(0, experts - 1)));
    c.slots.push_back(random.integer(0, 5) == 0 ? -1 : static_cast<int32_t>(random.integer(0, c.samples * choices - 1)));
  }
  return c;
}

TEST(RoutingGroupCapacity, KeepsTheFirstOfEachGroup) {
  TestDevice device;
  Random random(71);
  for (int64_t groups : test_device_is_slow() ? std::vector<int64_t>{0, 3, 150} : std::vector<int64_t>{0, 1, 2, 100, 5000}) {
    for (int32_t group : {1, 2, 5}) {
      for (int32_t experts : {1, 2, 8, 300}) {
        for (int64_t capacity : {1, 2, 4, 1000}) {
          const Case c = random_case(random, groups, group, static_cast<int32_t>(random.integer(1, 4)), experts, capacity);
          SCOPED_TRACE("groups " + std::to_string(groups) + " group " + std::to_string(group) + " choices " + std::to_string(c.choices) +
                       " experts " + std::to_string(experts) + " capacity " + std::to_string(capacity));
          EXPECT_TRUE(run(device, c) == reference(c));
        }
      }
    }
  }
}

TEST(RoutingGroupCapacity, AllToOneExpert) {
  TestDevice device;
  Random random(72);
  Case c = random_case(random, 100, 5, 1, 3, 2);
  std::fill(c.chosen.begin(), c.chosen.end(), 1);
  std::iota(c.slots.begin(), c.slots.end(), 0);
  const Limited limited = run(device, c);
  EXPECT_EQ(limited.dropped, (std::vector<int64_t>{0, 300, 0}));
  EXPECT_TRUE(limited == reference(c));
}

TEST(RoutingGroupCapacity, ExpertsOutOfRangeCountForNothing) {
  TestDevice device;
  Random random(73);
  Case c = random_case(random, 50, 4, 2, 3, 1);
  c.chosen[0] = -1;
  c.chosen[9] = 3;
  c.chosen[10] = std::numeric_limits<int32_t>::min();
  c.chosen[399] = std::numeric_limits<int32_t>::max();
  c.slots[9] = -1;
  EXPECT_TRUE(run(device, c) == reference(c));
}

TEST(RoutingGroupCapacity, SameForAnyOrder) {
  Random random(74);
  const Case c = random_case(random, test_device_is_slow() ? 200 : 20000, 5, 2, 8, 2);
  const Limited want = reference(c);
  for (const std::string& spec : repeated_device_specs()) {
    TestDevice device(spec);
    for (int repeat = 0; repeat < repetitions_of_a_spec(); ++repeat) ASSERT_TRUE(run(device, c) == want);
  }
}

TEST(RoutingGroupCapacity, RefusesBadArguments) {
  TestDevice device;
  const Buffer<int32_t> data(device, std::vector<int32_t>(1024, 0));
  int32_t* p = data.data();
  const auto refused = [&](auto&& change, const char* words) {
    cudamoe_group_capacity_args a{};
    a.struct_size = sizeof a;
    a.experts = 4;
    a.samples = 6;
    a.choices = 2;
    a.group = 3;
    a.capacity = 1;
    a.chosen = p;
    a.slot_of_pair = p + 64;
    a.dropped_pairs = p + 128;
    a.dropped = reinterpret_cast<int64_t*>(p + 192);
    change(a);
    CUDAMOE_EXPECT_REFUSED(cudamoe_group_capacity(device.stream(), &a), words);
  };
  refused([](auto& a) { a.struct_size = 1; }, "struct_size");
  refused([](auto& a) { a.experts = 0; }, "experts is 0");
  refused([](auto& a) { a.samples = -1; }, "samples is -1");
  refused([](auto& a) { a.choices = 0; }, "choices is 0");
  refused([](auto& a) { a.samples = int64_t{1} << 31; }, "samples is 2147483648");
  refused([](auto& a) { a.group = 0; }, "group is 0");
  refused([](auto& a) { a.group = 4; }, "samples is 6 and group is 4");
  refused([](auto& a) { a.capacity = 0; }, "capacity is 0");
  refused([](auto& a) { a.chosen = nullptr; }, "chosen is null");
  refused([](auto& a) { a.slot_of_pair = nullptr; }, "slot_of_pair is null");
  refused([](auto& a) { a.slot_of_pair = const_cast<int32_t*>(a.chosen) + 1; }, "overlaps");
  refused([](auto& a) { a.dropped_pairs = a.slot_of_pair; }, "overlaps");
  refused([](auto& a) { a.dropped = reinterpret_cast<int64_t*>(a.dropped_pairs); }, "overlaps");
}

}  // namespace
}  // namespace cudamoe::test
