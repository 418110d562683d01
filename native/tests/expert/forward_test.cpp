// cudamoe_expert_forward against double precision, against two calls of cudamoe_gemm_forward, and with wrong arguments and data.
#include <gtest/gtest.h>

#include "expert/expert_case.h"
#include "support/trials.h"

namespace cudamoe::test {
namespace {

struct Rows {
  GemmShape shape;  // groups, rows, ragged, gather
  bool h = false, before = false, shared_x = false;
};

void check_forward(TestDevice& device, Random& random, const ExpertShape& experts, Rows rows, const ExpertOptions& options) {
  GemmShape& shape = rows.shape;
  shape.groups = experts.experts;
  shape.choose_rows(random);
  SCOPED_TRACE(experts.text() + ", " + shape.text() + ", " + options.text() + (rows.h ? ", h" : "") + (rows.before ? ", before" : ""));
  const Experts own(device, random, experts, options);
  const Matrix x = own.make_x(device, random, rows.shared_x ? 1 : shape.strided_groups(), shape.x_rows);
  Matrix y(device, options.y_dtype, Matrix::loose(random, shape.strided_groups(), shape.rows, experts.n), random.integer(0, 3));
  Matrix h(device, options.h_dtype, Matrix::loose(random, shape.strided_groups(), shape.rows, experts.hidden), random.integer(0, 3));
  Matrix before(device, options.h_dtype, h.layout(), random.integer(0, 3));
  const Buffer<int64_t> offsets(device, shape.offsets);
  const Buffer<int32_t> gather(device, shape.sources);

  cudamoe_expert_forward_args args{};
  own.describe(args);
  args.groups = static_cast<int32_t>(shape.groups);
  args.rows = shape.rows;
  args.offsets = shape.ragged ? offsets.data() : nullptr;
  args.gather = shape.gather ? gather.data() : nullptr;
  args.x_rows = shape.x_rows;
  args.x = x.data();
  args.x_row_stride = x.layout().row_stride;
  args.x_group_stride = rows.shared_x ? 0 : x.layout().group_stride;
  args.h_dtype = options.h_dtype;
  args.h = rows.h ? h.data() : nullptr;
  args.h_preactivation = rows.h && rows.before ? before.data() : nullptr;
  args.h_row_stride = h.layout().row_stride;
  args.h_group_stride = h.layout().group_stride;
  args.y = y.data();
  args.y_row_stride = y.layout().row_stride;
  args.y_group_stride = y.layout().group_stride;
  const Workspace workspace = make_workspace(device, args, cudamoe_expert_forward_workspace);
  CUDAMOE_ASSERT_OK(cudamoe_expert_forward(device.stream(), &args));
  CUDAMOE_ASSERT_OK(cudamoe_stream_synchronize(device.stream()));
  y.refresh();
  h.refresh();
  before.refresh();

  const reference::Operand x_values = x.operand(own.rounds());
  Compared y_all, h_all, before_all;
  for (const reference::GemmRow& row : shape.all_rows()) {
    const Experts::Values want = own.run(row.group, x_values.row(row.group, row.source));
    for (int64_t j = 0; j < experts.n; ++j) {
      const auto at = static_cast<size_t>(j);
      y_all.add(y.at(row.group, row.row, j), as_stored(want.y[at], options.y_dtype), want.y_scale[at]);
      y.expect_written(row.group, row.row, j);
    }
    for (int64_t i = 0; i < experts.hidden && rows.h; ++i) {
      const auto at = static_cast<size_t>(i);
      h_all.add(h.at(row.group, row.row, i), as_stored(want.h[at], options.h_dtype), want.h_scale[at]);
      h.expect_written(row.group, row.row, i);
      if (!rows.before) continue;
      before_all.add(before.at(row.group, row.row, i), as_stored(want.before[at], options.h_dtype), want.h_scale[at]);
      before.expect_written(row.group, row.row, i);
    }
  }
  const double bound = options.bound(experts.k + experts.hidden);
  EXPECT_LE(y_all.error(), bound);
  EXPECT_LE(h_all.error(), bound);
  EXPECT_LE(before_all.error(), options.data == Data::kIntegers ? 0 : bound);
  EXPECT_TRUE(y.others_unchanged() && h.others_unchanged() && before.others_unchanged());
  EXPECT_TRUE(x.guards_intact() && y.guards_intact() && h.guards_intact() && before.guards_intact() && workspace.guards_intact());
}

ExpertShape random_experts(Random& random, int64_t most) {
  return {random.integer(1, 5), random.integer(1, most), random.integer(1, most), random.integer(1, most)};
}
Rows random_rows(Random& random, int64_t most) {
  Rows rows;
  rows.shape.rows = random.integer(0, most);
  rows.shape.ragged = random.coin();
  rows.shape.gather = rows.shape.ragged && random.coin();
  rows.h = random.coin();
  rows.before = random.coin();
  return rows;
}

TEST(ExpertForward, SmallIntegersAreExactInEveryCombination) {
  Random random(31);
  for (const std::string& spec : expert_device_specs(3)) {
    TestDevice device(spec);
    for (int i = 0; i < random_cases(300); ++i) {
      check_forward(device, random, random_experts(random, 40), random_rows(random, 40), ExpertOptions::random(random, Data::kIntegers));
    }
  }
}

// The first call of a kind holds the fused kernel and the products against plain sums.
TEST(ExpertForward, OnTrialBothWaysAreRight) {
  const Variable on("CUDAMOE_TRIALS", "on"), no_log("CUDAMOE_CACHE", "off");
  Random random(36);
  for (const std::string& spec : expert_device_specs(1)) {
    TestDevice device(spec);
    for (const Data data : {Data::kIntegers, Data::kReals}) {
      for (int i = 0; i < random_cases(16); ++i) {
        ExpertOptions options = ExpertOptions::random(random, data);
        options.packed_dtype = CUDAMOE_BF16;
        check_forward(device, random, random_experts(random, 70), random_rows(random, 40), options);
      }
    }
    EXPECT_EQ(notes(device), "") << spec;
  }
}

TEST(ExpertForward, RealsAreWithinTheBound) {
  Random random(32);
  for (const std::string& spec : expert_device_specs(2)) {
    TestDevice device(spec);
    for (int i = 0; i < random_cases(60); ++i) {
      check_forward(device, random, random_experts(random, 100), random_rows(random, test_device_is_slow() ? 60 : 150),
                    ExpertOptions::random(random, Data::kReals));
    }
  }
}

// Widths at the edges of what a GPU takes at once, in every way that it copies rows of x.
TEST(ExpertForward, EdgesOfSlicesAndTiles) {
  Random random(33);
  for (const std::string& spec : expert_device_specs(2)) {
    TestDevice device(spec);
    ExpertOptions options;
    options.packed_dtype = CUDAMOE_BF16;
    options.bias = true;
    options.hidden_activation = CUDAMOE_ACTIVATION_RELU;
    options.data = Data::kIntegers;
    Rows rows{{.rows = 20, .ragged = true, .gather = true}, true, true};
    const auto check = [&](int64_t k, int64_t hidden, int64_t n) {
      options.x_dtype = options.y_dtype = options.h_dtype = static_cast<int32_t>(random.integer(0, 1));
      options.aligned = random.coin();
      rows.shape.offsets.clear();
      rows.shape.sources.clear();
      check_forward(device, random, {2, k, hidden, n}, rows, options);
    };
    for (const int64_t k : {1, 15, 16, 17, 48}) check(k, 5, 3);
    for (const int64_t hidden : {1, 63, 64, 65, 130}) check(9, hidden, 3);
    for (const int64_t n : {1, 7, 63, 64, 65, 127, 128, 129}) check(9, 20, n);
    // Both layers wide, with slices that are whole and not.
    for (const int64_t hidden : {65, 128, 130}) check(70, hidden, 128);
    for (const int64_t hidden : {64, 128}) check(64, hidden, 64);
    check(330, 3, 2);  // rows of x and two units fill the shared memory of an H100
    check(600, 3, 2);  // and no longer fit
  }
}

// Many row tiles for few blocks: weights stay, change, and go round.
TEST(ExpertForward, ManyTilesOfFewBlocks) {
  Random random(34);
  for (const std::string& spec : expert_device_specs(2)) {
    TestDevice device(spec);
    ExpertOptions options;
    options.packed_dtype = options.x_dtype = CUDAMOE_BF16;
    options.bias = options.aligned = true;
    options.data = Data::kIntegers;
    for (const int64_t hidden : {20, 70}) {
      for (const bool ragged : {true, false}) {
        Rows rows{{.rows = ragged ? 1400 : 300, .ragged = ragged, .gather = ragged}, true};
        check_forward(device, random, {3, 10, hidden, 6}, rows, options);
      }
    }
    // Weights that do not fit as a whole.
    check_forward(device, random, {2, 130, 520, 5}, {{.rows = 280, .ragged = true}}, options);
  }
}

TEST(ExpertForward, AllRowsInOneGroupAndEmptyGroups) {
  Random random(35);
  for (const std::string& spec : expert_device_specs(2)) {
    TestDevice device(spec);
    ExpertOptions options;
    options.data = Data::kIntegers;
    options.bias = true;
    for (const int32_t dtype : {CUDAMOE_F32, CUDAMOE_BF16}) {
      options.packed_dtype = dtype;
      for (const std::vector<int64_t>& offsets : {std::vector<int64_t>{0, 0, 0, 40, 40, 40},
                                                  {0, 0, 0, 0, 0, 0},
                                                  {0, 40, 40, 40, 40, 40},
                                                  {0, 1, 2, 3, 4, 5},
                                                  {0, 13, 27, 28, 28, 39}}) {
        check_forward(device, random, {5, 7, 6, 9}, {{.rows = 40, .ragged = true, .offsets = offsets}, true}, options);
      }
      check_forward(device, random, {5, 7, 6, 9}, {{.rows = 0, .ragged = true, .offsets = {0, 0, 0, 0, 0, 0}}, true}, options);
      check_forward(device, random, {4, 7, 6, 9}, {{.rows = 33}, true, false, true}, options);
      check_forward(device, random, {1, 1, 1, 1}, {{.rows = 1}, true, true}, options);
    }
  }
}

// The same bits as two products with the hidden rows in memory between them.
TEST(ExpertForward, EqualsTwoProducts) {
  Random random(36);
  for (const std::string& spec : expert_device_specs(2)) {
    TestDevice device(spec);
    for (const int32_t dtype : {CUDAMOE_F32, CUDAMOE_BF16}) {
      for (const int32_t activation : {CUDAMOE_ACTIVATION_RELU, CUDAMOE_ACTIVATION_GELU}) {
        const ExpertShape shape{3, 50, 90, 20};
        ExpertOptions options;
        options.packed_dtype = options.h_dtype = options.x_dtype = dtype;
        options.hidden_activation = activation;
        options.bias = true;
        constexpr int64_t kRows = 60;
        const Experts experts(device, random, shape, options);
        const Matrix x = experts.make_x(device, random, 1, kRows);
        const Buffer<int64_t> offsets(device, random.ragged_offsets(3, kRows));
        const int64_t bytes = dtype == CUDAMOE_BF16 ? 2 : 4;
        const Workspace h(device, kRows * shape.hidden * bytes), h_two(device, kRows * shape.hidden * bytes);
        const Buffer<float> y(device, kRows * shape.n), y_two(device, kRows * shape.n);

        cudamoe_expert_forward_args args{};
        experts.describe(args);
        args.groups = 3;
        args.rows = kRows;
        args.offsets = offsets.data();
        args.x = x.data();
        args.x_row_stride = x.layout().row_stride;
        args.h = h.data();
        args.h_dtype = dtype;
        args.h_row_stride = shape.hidden;
        args.y = y.data();
        args.y_row_stride = shape.n;
        const Workspace workspace = make_workspace(device, args, cudamoe_expert_forward_workspace);
        CUDAMOE_ASSERT_OK(cudamoe_expert_forward(device.stream(), &args));

        const auto product = [&](const PackedWeights& weights, const Matrix& bias, const void* from, int64_t from_stride, void* to,
                                 int64_t n, int64_t k, int32_t act, int32_t to_dtype) {
          cudamoe_gemm_forward_args one{};
          one.struct_size = sizeof one;
          one.groups = 3;
          one.rows = kRows;
          one.n = n;
          one.k = k;
          one.offsets = offsets.data();
          one.x = from;
          one.x_row_stride = from_stride;
          one.packed = weights.data();
          one.bias = static_cast<const float*>(bias.data());
          one.bias_group_stride = bias.layout().group_stride;
          one.y = to;
          one.y_row_stride = n;
          one.x_dtype = one.packed_dtype = dtype;
          one.y_dtype = to_dtype;
          one.activation = act;
          const Workspace space = make_workspace(device, one, cudamoe_gemm_forward_workspace);
          CUDAMOE_ASSERT_OK(cudamoe_gemm_forward(device.stream(), &one));
          CUDAMOE_ASSERT_OK(cudamoe_stream_synchronize(device.stream()));
        };
        product(experts.first(), experts.bias1(), x.data(), x.layout().row_stride, h_two.data(), shape.hidden, shape.k, activation, dtype);
        product(experts.second(), experts.bias2(), h_two.data(), shape.hidden, y_two.data(), shape.n, shape.hidden, 0, CUDAMOE_F32);
        const std::vector<int64_t> rows = offsets.get();
        const auto used = [&](auto values, int64_t width) {
          values.resize(static_cast<size_t>(rows.back() * width));
          return values;
        };
        EXPECT_EQ(used(h.get(), shape.hidden * bytes), used(h_two.get(), shape.hidden * bytes));
        EXPECT_EQ(used(y.get(), shape.n), used(y_two.get(), shape.n));
      }
    }
  }
}

struct Small {
  explicit Small(TestDevice& device) : x(device, std::vector<float>(6 * 4, 1.0f)), h(device, 6 * 3), y(device, 6 * 5) {
    options.packed_dtype = CUDAMOE_BF16;
    Random random(37);
    experts.emplace(device, random, ExpertShape{2, 4, 3, 5}, options);
    offsets.emplace(device, std::vector<int64_t>{0, 3, 6});
    gather.emplace(device, std::vector<int32_t>{0, 1, 5, 3, 4, 5});
    experts->describe(args);
    args.groups = 2;
    args.rows = args.x_rows = 6;
    args.offsets = offsets->data();
    args.gather = gather->data();
    args.x = x.data();
    args.x_row_stride = 4;
    args.h = h.data();
    args.h_row_stride = 3;
    args.y = y.data();
    args.y_row_stride = 5;
    workspace.emplace(make_workspace(device, args, cudamoe_expert_forward_workspace));
  }

  ExpertOptions options;
  Buffer<float> x, h, y;
  std::optional<Experts> experts;
  std::optional<Buffer<int64_t>> offsets;
  std::optional<Buffer<int32_t>> gather;
  cudamoe_expert_forward_args args{};
  std::optional<Workspace> workspace;
};

TEST(ExpertForward, BadGatherAndOffsetsAreReported) {
  TestDevice device;
  Small small(device);
  small.gather->set({0, 1, 6, 3, 4, 5});
  CUDAMOE_EXPECT_OK(cudamoe_expert_forward(device.stream(), &small.args));
  EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_ERROR_REPORTED);
  EXPECT_NE(last_error().find("cudamoe_expert_forward: gather[2] is 6; x has 6 rows"), std::string::npos) << last_error();
  for (const std::vector<int64_t>& bad : {std::vector<int64_t>{1, 3, 6}, {0, 4, 3}, {0, 3, 7}, {0, -1, 6}}) {
    small.offsets->set(bad);
    small.y.poison();
    CUDAMOE_EXPECT_OK(cudamoe_expert_forward(device.stream(), &small.args));
    EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_ERROR_REPORTED);
    EXPECT_NE(last_error().find("cudamoe_expert_forward: offsets["), std::string::npos) << last_error();
    for (const float value : small.y.get()) EXPECT_TRUE(std::isnan(value));
  }
}

TEST(ExpertForward, WrongArgumentsAreRefused) {
  TestDevice device;
  Small small(device);
  const auto refused = [&](auto&& change, const char* words) {
    cudamoe_expert_forward_args args = small.args;
    change(args);
    CUDAMOE_EXPECT_REFUSED(cudamoe_expert_forward(device.stream(), &args), words);
  };
  CUDAMOE_EXPECT_OK(cudamoe_expert_forward(device.stream(), &small.args));
  refused([](auto& a) { a.hidden = 0; }, "hidden is 0");
  refused([](auto& a) { a.hidden = int64_t{1} << 60; }, "hidden is");
  refused([](auto& a) { a.n = 0; }, "n is 0");
  refused([](auto& a) { a.groups = 0; }, "groups is 0");
  refused([](auto& a) { a.x_row_stride = 3; }, "x_row_stride is 3; it must be at least 4");
  refused([](auto& a) { a.h_row_stride = 2; }, "h_row_stride is 2; it must be at least 3");
  refused([](auto& a) { a.y_row_stride = 4; }, "y_row_stride is 4; it must be at least 5");
  refused([](auto& a) { a.hidden_activation = 7; }, "hidden_activation is 7");
  refused([](auto& a) { a.output_activation = -1; }, "output_activation is -1");
  refused([](auto& a) { a.hidden_activation = CUDAMOE_ACTIVATION_LEAKY_RELU, a.activation_slope = -1; }, "activation_slope is -1");
  refused([](auto& a) { a.packed_dtype = 2; }, "packed_dtype is 2");
  refused([](auto& a) { a.packed_dtype = CUDAMOE_F32, a.h_dtype = CUDAMOE_BF16; }, "h_dtype is 1 with packed_dtype 0");
  refused([](auto& a) { a.offsets = nullptr; }, "gather is set and offsets is null");
  refused([](auto& a) { a.packed1 = nullptr; }, "packed1 is null");
  refused([](auto& a) { a.packed2 = nullptr; }, "packed2 is null");
  refused([](auto& a) { a.x = nullptr; }, "x is null");
  refused([](auto& a) { a.y = nullptr; }, "y is null");
  refused([](auto& a) { a.h_preactivation = a.h, a.h = nullptr; }, "h_preactivation is set and h is null");
  refused([](auto& a) { a.h_preactivation = a.h; }, "h_preactivation");
  refused([](auto& a) { a.y = const_cast<void*>(a.x); }, "y");
  refused([](auto& a) { a.h = a.y; }, "h");
  refused([](auto& a) { a.reserved = 1; }, "reserved is 1");
  if (small.args.workspace_bytes > 0) {
    refused([](auto& a) { a.workspace_bytes -= 1; }, "workspace_bytes is");
    refused([](auto& a) { a.workspace = nullptr; }, "workspace is null");
  }
}

TEST(ExpertForward, SameBitsInEveryWayToRunIt) {
  std::vector<float> expected;
  for (const std::string& spec : repeated_device_specs()) {
    TestDevice device(spec);
    Random random(38);
    ExpertOptions options;
    options.packed_dtype = options.x_dtype = CUDAMOE_BF16;
    options.hidden_activation = CUDAMOE_ACTIVATION_SILU;
    options.aligned = options.bias = true;
    const Experts experts(device, random, {2, 20, 70, 9}, options);
    const int64_t rows = 150;
    const Matrix x = experts.make_x(device, random, 1, rows);
    const Buffer<int64_t> offsets(device, std::vector<int64_t>{0, 133, rows});
    const Buffer<float> h(device, rows * 70), y(device, rows * 9);
    cudamoe_expert_forward_args args{};
    experts.describe(args);
    args.groups = 2;
    args.rows = rows;
    args.offsets = offsets.data();
    args.x = x.data();
    args.x_row_stride = x.layout().row_stride;
    args.h = h.data();
    args.h_row_stride = 70;
    args.y = y.data();
    args.y_row_stride = 9;
    const Workspace workspace = make_workspace(device, args, cudamoe_expert_forward_workspace);
    CUDAMOE_ASSERT_OK(cudamoe_expert_forward(device.stream(), &args));
    CUDAMOE_ASSERT_OK(cudamoe_stream_synchronize(device.stream()));
    std::vector<float> values = y.get();
    const std::vector<float> more = h.get();
    values.insert(values.end(), more.begin(), more.end());
    if (expected.empty()) expected = values;
    EXPECT_EQ(values, expected) << spec;
  }
}

}  // namespace
}  // namespace cudamoe::test
