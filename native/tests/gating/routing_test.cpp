// Routing against std::stable_sort, for every order and capacity.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "support/buffer.h"
#include "support/random.h"

namespace cudamoe::test {
namespace {

struct Case {
  int32_t experts = 1, choices = 1, order = CUDAMOE_ORDER_SAMPLE_MAJOR;
  int64_t samples = 0, capacity = 0;
  std::vector<int32_t> chosen;
  std::vector<float> weights;
};

struct Routed {
  std::vector<int64_t> offsets, dropped;
  std::vector<int32_t> sample_of_slot, pair_of_slot, slot_of_pair;
  bool operator==(const Routed&) const = default;
};

Routed run(TestDevice& device, const Case& c) {
  const int64_t pairs = c.samples * c.choices;
  cudamoe_routing_args a{};
  a.struct_size = sizeof a;
  a.experts = c.experts;
  a.samples = c.samples;
  a.choices = c.choices;
  a.order = c.order;
  a.capacity = c.capacity;
  int64_t bytes = -1;
  CUDAMOE_EXPECT_OK(cudamoe_routing_workspace(device.stream(), &a, &bytes));
  const Workspace workspace(device, bytes);
  const Buffer<int32_t> chosen(device, c.chosen), sample_of_slot(device, pairs), pair_of_slot(device, pairs), slot_of_pair(device, pairs);
  const Buffer<float> weights(device, c.weights);
  const Buffer<int64_t> offsets(device, c.experts + 1), dropped(device, c.experts);
  a.chosen = chosen.data();
  a.weights = c.weights.empty() ? nullptr : weights.data();
  a.offsets = offsets.data();
  a.dropped = dropped.data();
  a.sample_of_slot = sample_of_slot.data();
  a.pair_of_slot = pair_of_slot.data();
  a.slot_of_pair = slot_of_pair.data();
  a.workspace = workspace.data();
  a.workspace_bytes = bytes;
  CUDAMOE_EXPECT_OK(cudamoe_routing(device.stream(), &a));
  EXPECT_TRUE(offsets.guards_intact() && dropped.guards_intact() && sample_of_slot.guards_intact() && pair_of_slot.guards_intact());
  EXPECT_TRUE(slot_of_pair.guards_intact() && workspace.guards_intact());
  return {offsets.get(), dropped.get(), sample_of_slot.get(), pair_of_slot.get(), slot_of_pair.get()};
}

// Out-of-range experts are dropped and counted nowhere.
Routed reference(const Case& c) {
  const auto pairs = static_cast<int32_t>(c.samples * c.choices);
  std::vector<int32_t> order(pairs);
  std::iota(order.begin(), order.end(), 0);
  if (c.order == CUDAMOE_ORDER_CHOICE_MAJOR) {
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return a % c.choices < b % c.choices; });
  } else if (c.order == CUDAMOE_ORDER_PRIORITY) {
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return std::isnan(c.weights[b]) ? !std::isnan(c.weights[a]) : c.weights[a] > c.weights[b];
    });
  }
  Routed r;
  r.offsets.assign(1, 0);
  r.sample_of_slot.assign(pairs, -1);
  r.pair_of_slot.assign(pairs, -1);
  r.slot_of_pair.assign(pairs, -1);
  std::erase_if(order, [&](int32_t p) { return c.chosen[p] < 0 || c.chosen[p] >= c.experts; });
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return c.chosen[a] < c.chosen[b]; });
  size_t next = 0;
  for (int32_t e = 0; e < c.experts; ++e) {
    int64_t taken = 0, dropped = 0;
    for (; next < order.size() && c.chosen[order[next]] == e; ++next) {
      if (c.capacity > 0 && taken == c.capacity) {
        ++dropped;
        continue;
      }
      const int64_t slot = r.offsets.back() + taken++;
      r.pair_of_slot[slot] = order[next];
      r.sample_of_slot[slot] = order[next] / c.choices;
      r.slot_of_pair[order[next]] = static_cast<int32_t>(slot);
    }
    r.offsets.push_back(r.offsets.back() + taken);
    r.dropped.push_back(dropped);
  }
  return r;
}

Case random_case(Random& random, int64_t samples, int32_t choices, int32_t experts, int32_t order) {
  Case c;
  c.samples = samples;
  c.choices = choices;
  c.experts = experts;
  c.order = order;
  for (int64_t i = 0; i < samples * choices; ++i) {
    c.chosen.push_back(static_cast<int32_t>(random.integer(0, experts - 1)));
    // Few distinct weights, so that there are ties.
    c.weights.push_back(random.coin() ? static_cast<float>(random.integer(-3, 3)) / 4 : static_cast<float>(random.real(0, 1)));
  }
  return c;
}

void expect_routed(const Routed& have, const Routed& want) {
  EXPECT_EQ(have.offsets, want.offsets);
  EXPECT_EQ(have.dropped, want.dropped);
  EXPECT_TRUE(have.sample_of_slot == want.sample_of_slot && have.pair_of_slot == want.pair_of_slot &&
              have.slot_of_pair == want.slot_of_pair);
}

TEST(Routing, IsTheStableSort) {
  TestDevice device;
  const bool slow = test_device_is_slow();
  Random random(61);
  for (int32_t order : {CUDAMOE_ORDER_SAMPLE_MAJOR, CUDAMOE_ORDER_CHOICE_MAJOR, CUDAMOE_ORDER_PRIORITY}) {
    for (int64_t samples : slow ? std::vector<int64_t>{0, 3, 683} : std::vector<int64_t>{0, 1, 2, 100, 1023, 4096, 4097, 20000}) {
      for (int32_t experts : {1, 2, 8, 257}) {
        Case c = random_case(random, samples, static_cast<int32_t>(random.integer(1, 5)), experts, order);
        for (int64_t capacity : {int64_t{0}, int64_t{1}, samples * c.choices / experts, samples * c.choices + 1}) {
          if (slow && capacity != 0 && capacity != samples * c.choices / experts) continue;
          c.capacity = capacity;
          SCOPED_TRACE("order " + std::to_string(order) + " samples " + std::to_string(samples) + " choices " + std::to_string(c.choices) +
                       " experts " + std::to_string(experts) + " capacity " + std::to_string(capacity));
          expect_routed(run(device, c), reference(c));
        }
      }
    }
  }
  const Case large = random_case(random, slow ? 3000 : 300000, 2, 8, CUDAMOE_ORDER_PRIORITY);
  expect_routed(run(device, large), reference(large));
}

TEST(Routing, AllToOneExpert) {
  TestDevice device;
  Random random(63);
  for (int32_t order : {CUDAMOE_ORDER_SAMPLE_MAJOR, CUDAMOE_ORDER_CHOICE_MAJOR, CUDAMOE_ORDER_PRIORITY}) {
    Case c = random_case(random, test_device_is_slow() ? 1500 : 5000, 2, 7, order);
    std::fill(c.chosen.begin(), c.chosen.end(), 5);
    expect_routed(run(device, c), reference(c));
    c.capacity = 77;
    expect_routed(run(device, c), reference(c));
  }
}

TEST(Routing, PriorityOfAnyWeights) {
  TestDevice device;
  Random random(64);
  Case c = random_case(random, 3000, 2, 3, CUDAMOE_ORDER_PRIORITY);
  const float special[] = {0.0f, -0.0f, NAN, -NAN, INFINITY, -INFINITY, 1e-42f, -1e-42f, 3e38f};
  for (float& w : c.weights) {
    if (random.coin()) w = special[random.integer(0, 8)];
  }
  c.capacity = 500;
  expect_routed(run(device, c), reference(c));
}

TEST(Routing, ExpertsOutOfRangeAreReportedAndDropped) {
  TestDevice device;
  Random random(65);
  for (int32_t order : {CUDAMOE_ORDER_SAMPLE_MAJOR, CUDAMOE_ORDER_CHOICE_MAJOR, CUDAMOE_ORDER_PRIORITY}) {
    Case c = random_case(random, 6000, 2, 4, order);
    c.chosen[17] = -1;
    c.chosen[4000] = 4;
    c.chosen[11999] = std::numeric_limits<int32_t>::min();
    expect_routed(run(device, c), reference(c));
    EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_ERROR_REPORTED);
    EXPECT_NE(last_error().find("chosen[17] is -1"), std::string::npos) << last_error();
    EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_OK);
  }
}

TEST(Routing, SameForAnyOrder) {
  Random random(66);
  const Case c = [&] {
    Case made = random_case(random, test_device_is_slow() ? 1100 : 40000, 2, 16, CUDAMOE_ORDER_PRIORITY);
    made.capacity = made.samples / 10;
    return made;
  }();
  const Routed want = reference(c);
  for (const std::string& spec : repeated_device_specs()) {
    TestDevice device(spec);
    for (int repeat = 0; repeat < repetitions_of_a_spec(); ++repeat) ASSERT_TRUE(run(device, c) == want);
  }
}

TEST(Routing, RefusesBadArguments) {
  TestDevice device;
  const Buffer<int32_t> data(device, std::vector<int32_t>(4096, 0));
  const Workspace workspace(device, 1 << 16);
  int32_t* p = data.data();
  const auto refused = [&](auto&& change, const char* words) {
    cudamoe_routing_args a{};
    a.struct_size = sizeof a;
    a.experts = 4;
    a.samples = 5;
    a.choices = 2;
    a.chosen = p;
    a.weights = reinterpret_cast<const float*>(p + 64);
    a.offsets = reinterpret_cast<int64_t*>(p + 128);
    a.dropped = reinterpret_cast<int64_t*>(p + 192);
    a.sample_of_slot = p + 256;
    a.pair_of_slot = p + 320;
    a.slot_of_pair = p + 384;
    a.workspace = workspace.data();
    a.workspace_bytes = workspace.size();
    change(a);
    CUDAMOE_EXPECT_REFUSED(cudamoe_routing(device.stream(), &a), words);
  };
  refused([](auto& a) { a.struct_size = 1; }, "struct_size");
  refused([](auto& a) { a.experts = 0; }, "experts is 0");
  refused([](auto& a) { a.experts = 65536; }, "experts is 65536");
  refused([](auto& a) { a.samples = -1; }, "samples is -1");
  refused([](auto& a) { a.choices = 0; }, "choices is 0");
  refused([](auto& a) { a.samples = int64_t{1} << 31; }, "samples is 2147483648");
  refused([](auto& a) { a.order = 3; }, "order is 3");
  refused([](auto& a) { a.capacity = -1; }, "capacity is -1");
  refused([](auto& a) { a.chosen = nullptr; }, "chosen is null");
  refused([](auto& a) { a.order = CUDAMOE_ORDER_PRIORITY, a.weights = nullptr; }, "weights is null");
  refused([](auto& a) { a.offsets = nullptr; }, "offsets is null");
  refused([](auto& a) { a.sample_of_slot = nullptr; }, "sample_of_slot is null");
  refused([](auto& a) { a.pair_of_slot = nullptr; }, "pair_of_slot is null");
  refused([](auto& a) { a.slot_of_pair = nullptr; }, "slot_of_pair is null");
  refused([](auto& a) { a.slot_of_pair = a.pair_of_slot; }, "overlaps");
  refused([](auto& a) { a.slot_of_pair = const_cast<int32_t*>(a.chosen); }, "overlaps");
  refused([](auto& a) { a.workspace_bytes = 1; }, "workspace_bytes is 1");
  refused([](auto& a) { a.workspace = nullptr; }, "workspace is null");
}

}  // namespace
}  // namespace cudamoe::test
