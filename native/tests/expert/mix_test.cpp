// cudamoe_expert_mix against double precision, against experts and combine in memory, and with wrong arguments and data.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "expert/expert_case.h"
#include "support/trials.h"

namespace cudamoe::test {
namespace {

struct Mixture {
  int64_t rows = 1;
  int32_t tasks = 1;
  int32_t choices = 0;  // 0: dense
  bool residual = false, tasks_outside = false;
  int bad_every = 0;  // so many chosen numbers apart one is no expert
};

// Multiples of 1/4 keep sums of integers exact.
std::vector<float> gate_values(Random& random, Data data, int64_t count) {
  std::vector<float> values = data == Data::kIntegers ? random.integers(count, -4, 4) : random.reals(count);
  if (data == Data::kIntegers) {
    for (float& value : values) value /= 4;
  }
  return values;
}

void check_mix(TestDevice& device, Random& random, const ExpertShape& shape, const Mixture& mixture, const ExpertOptions& options) {
  SCOPED_TRACE(shape.text() + ", " + std::to_string(mixture.rows) + " rows, " + std::to_string(mixture.tasks) + " tasks, " +
               std::to_string(mixture.choices) + " choices, " + options.text() + (mixture.residual ? ", residual" : ""));
  const bool dense = mixture.choices == 0;
  const int32_t choices = dense ? static_cast<int32_t>(shape.experts) : mixture.choices;
  const Experts experts(device, random, shape, options);
  const Matrix x = experts.make_x(device, random, 1, mixture.rows);
  const int64_t pairs = mixture.rows * mixture.tasks * choices;
  const std::vector<float> gate = gate_values(random, options.data, pairs),
                           native = gate_values(random, options.data, mixture.tasks * shape.experts);
  std::vector<int32_t> chosen(static_cast<size_t>(dense ? 0 : pairs));
  for (size_t i = 0; i < chosen.size(); ++i) chosen[i] = static_cast<int32_t>(random.integer(0, shape.experts - 1));
  int64_t first_bad = -1;
  for (size_t i = 3; mixture.bad_every > 0 && i < chosen.size(); i += static_cast<size_t>(mixture.bad_every)) {
    chosen[i] =
        random.coin() ? -1 - static_cast<int32_t>(random.integer(0, 9)) : static_cast<int32_t>(shape.experts + random.integer(0, 1 << 30));
    if (first_bad < 0) first_bad = static_cast<int64_t>(i);
  }
  const Buffer<float> gates(device, gate), residual(device, native);
  const Buffer<int32_t> chosen_on_device(device, chosen);
  // Tasks are the groups of y: side by side in a row, or one matrix after the other.
  const int64_t width = shape.n + random.integer(0, 3), of_row = mixture.tasks * width + random.integer(0, 5);
  const Matrix::Layout layout = mixture.tasks_outside ? Matrix::Layout{mixture.tasks, mixture.rows, shape.n, width,
                                                                       std::max<int64_t>(mixture.rows, 1) * width + random.integer(0, 7)}
                                                      : Matrix::Layout{mixture.tasks, mixture.rows, shape.n, of_row, width};
  Matrix y(device, options.y_dtype, layout, random.integer(0, 3));

  cudamoe_expert_mix_args args{};
  experts.describe(args);
  args.experts = static_cast<int32_t>(shape.experts);
  args.tasks = mixture.tasks;
  args.choices = choices;
  args.rows = mixture.rows;
  args.x = x.data();
  args.x_row_stride = x.layout().row_stride;
  args.gates = gates.data();
  args.residual = mixture.residual ? residual.data() : nullptr;
  args.chosen = dense ? nullptr : chosen_on_device.data();
  args.y = y.data();
  args.y_row_stride = layout.row_stride;
  args.y_task_stride = layout.group_stride;
  const Workspace workspace = make_workspace(device, args, cudamoe_expert_mix_workspace);
  CUDAMOE_ASSERT_OK(cudamoe_expert_mix(device.stream(), &args));
  const cudamoe_status status = cudamoe_stream_synchronize(device.stream());
  if (first_bad < 0) {
    ASSERT_EQ(status, CUDAMOE_OK) << last_error();
  } else {
    EXPECT_EQ(status, CUDAMOE_ERROR_REPORTED);
    const std::string words =
        "cudamoe_expert_mix: chosen[" + std::to_string(first_bad) + "] is " + std::to_string(chosen[static_cast<size_t>(first_bad)]) + ";";
    EXPECT_NE(last_error().find(words), std::string::npos) << last_error() << " instead of " << words;
  }
  y.refresh();

  const reference::Operand x_values = x.operand(experts.rounds());
  Compared all;
  for (int64_t b = 0; b < mixture.rows; ++b) {
    std::vector<Experts::Values> outputs;
    for (int64_t e = 0; e < shape.experts; ++e) outputs.push_back(experts.run(e, x_values.row(0, b)));
    for (int32_t t = 0; t < mixture.tasks; ++t) {
      for (int64_t j = 0; j < shape.n; ++j) {
        double sum = 0, scale = 0;
        for (int32_t c = 0; c < choices; ++c) {
          const auto pair = static_cast<size_t>((b * mixture.tasks + t) * choices + c);
          const int64_t e = dense ? c : chosen[pair];
          if (e < 0 || e >= shape.experts) continue;
          const double weight = static_cast<double>(gate[pair]) +
                                (mixture.residual ? static_cast<double>(native[static_cast<size_t>(t * choices + c)]) : 0.0);
          sum += weight * outputs[static_cast<size_t>(e)].y[static_cast<size_t>(j)];
          scale += std::abs(weight) * outputs[static_cast<size_t>(e)].y_scale[static_cast<size_t>(j)];
        }
        all.add(y.at(t, b, j), as_stored(sum, options.y_dtype), scale);
        y.expect_written(t, b, j);
      }
    }
  }
  EXPECT_LE(all.error(), options.bound(shape.k + shape.hidden + choices));
  EXPECT_TRUE(y.others_unchanged());
  EXPECT_TRUE(x.guards_intact() && y.guards_intact() && workspace.guards_intact());
}

Mixture random_mixture(Random& random, int64_t most_rows) {
  Mixture mixture;
  mixture.rows = random.integer(0, most_rows);
  mixture.tasks = static_cast<int32_t>(random.integer(1, 5));
  mixture.choices = static_cast<int32_t>(random.integer(-2, 3));
  if (mixture.choices < 0) mixture.choices = 0;
  mixture.residual = mixture.choices == 0 && random.coin();
  mixture.tasks_outside = random.coin();
  mixture.bad_every = mixture.choices > 0 && random.integer(0, 3) == 0 ? 7 : 0;
  return mixture;
}

TEST(ExpertMix, SmallIntegersAreExactInEveryCombination) {
  Random random(41);
  for (const std::string& spec : expert_device_specs(3)) {
    TestDevice device(spec);
    for (int i = 0; i < random_cases(300); ++i) {
      const ExpertShape shape{random.integer(1, 6), random.integer(1, 24), random.integer(1, 30), random.integer(1, 40)};
      check_mix(device, random, shape, random_mixture(random, 40), ExpertOptions::random(random, Data::kIntegers));
    }
  }
}

// The first call of a kind holds the fused kernel and the products against plain sums.
TEST(ExpertMix, OnTrialBothWaysAreRight) {
  const Variable on("CUDAMOE_TRIALS", "on"), no_log("CUDAMOE_CACHE", "off");
  Random random(49);
  for (const std::string& spec : expert_device_specs(1)) {
    TestDevice device(spec);
    for (const Data data : {Data::kIntegers, Data::kReals}) {
      for (int i = 0; i < random_cases(16); ++i) {
        const ExpertShape shape{random.integer(1, 6), random.integer(1, 40), random.integer(1, 70), random.integer(1, 70)};
        ExpertOptions options = ExpertOptions::random(random, data);
        options.packed_dtype = CUDAMOE_BF16;
        check_mix(device, random, shape, random_mixture(random, 40), options);
      }
    }
    EXPECT_EQ(notes(device), "") << spec;
  }
}

// A verdict that the fused kernel is wrong here, as an earlier process left it: products serve, to the same bits.
TEST(ExpertMix, WithoutTheFusedKernelProductsServe) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(testing::TempDir()) / "cudamoe-expert-trials";
  fs::remove_all(folder);
  const Variable on("CUDAMOE_TRIALS", "on"), log("CUDAMOE_CACHE", folder.string().c_str());
  const auto run = [](std::string* noted) {
    TestDevice device;
    Random random(50);
    ExpertOptions options;
    options.packed_dtype = CUDAMOE_BF16;
    options.bias = true;
    const Experts experts(device, random, {3, 20, 70, 9}, options);
    constexpr int64_t kRows = 40;
    const Matrix x = experts.make_x(device, random, 1, kRows);
    const Buffer<float> gates(device, random.reals(kRows * 2 * 3)), y(device, kRows * 2 * 9);
    cudamoe_expert_mix_args args{};
    experts.describe(args);
    args.experts = args.choices = 3;
    args.tasks = 2;
    args.rows = kRows;
    args.x = x.data();
    args.x_row_stride = x.layout().row_stride;
    args.gates = gates.data();
    args.y = y.data();
    args.y_row_stride = 18;
    args.y_task_stride = 9;
    const Workspace workspace = make_workspace(device, args, cudamoe_expert_mix_workspace);
    EXPECT_EQ(cudamoe_expert_mix(device.stream(), &args), CUDAMOE_OK) << last_error();
    EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_OK) << last_error();
    *noted = notes(device);
    return y.get();
  };
  std::string noted;
  const std::vector<float> fused = run(&noted);
  EXPECT_EQ(noted, "");
  if (test_device_spec() == "cpu") {
    EXPECT_FALSE(fs::exists(folder)) << "the cpu has one kernel, and nothing to try";
    return;
  }
  int verdicts = 0;
  for (const auto& file : fs::recursive_directory_iterator(folder)) {
    if (!file.is_regular_file()) continue;
    std::ostringstream text;
    text << std::ifstream(file.path()).rdbuf();
    std::string all = text.str();
    for (size_t at = 0; (at = all.find(" fused right ", at)) != std::string::npos; ++verdicts) all.replace(at, 13, " fused wrong ");
    std::ofstream(file.path()) << all;
  }
  EXPECT_EQ(verdicts, 1);
  EXPECT_EQ(run(&noted), fused);
  EXPECT_NE(noted.find("2 mixtures of 3 experts 20 -> 70 -> 9, up to 2^6 rows: fused was struck out in an earlier run"), std::string::npos)
      << noted;
}

TEST(ExpertMix, RealsAreWithinTheBound) {
  Random random(42);
  for (const std::string& spec : expert_device_specs(2)) {
    TestDevice device(spec);
    for (int i = 0; i < random_cases(60); ++i) {
      const ExpertShape shape{random.integer(1, 6), random.integer(1, 90), random.integer(1, 90), random.integer(1, 70)};
      Mixture mixture = random_mixture(random, test_device_is_slow() ? 40 : 150);
      ExpertOptions options = ExpertOptions::random(random, Data::kReals);
      check_mix(device, random, shape, mixture, options);
    }
  }
}

// Tasks and columns at the edges of what a GPU holds in registers.
TEST(ExpertMix, EdgesOfTasksAndColumns) {
  Random random(43);
  for (const std::string& spec : expert_device_specs(2)) {
    TestDevice device(spec);
    ExpertOptions options;
    options.packed_dtype = options.x_dtype = CUDAMOE_BF16;
    options.bias = options.aligned = true;
    options.data = Data::kIntegers;
    for (const int32_t tasks : {1, 2, 3, 4, 5, 9}) check_mix(device, random, {3, 10, 12, 5}, {.rows = 20, .tasks = tasks}, options);
    for (const int64_t n : {63, 64, 65, 128, 129, 300}) check_mix(device, random, {3, 10, 12, n}, {.rows = 20}, options);
    for (const int64_t n : {65, 130}) check_mix(device, random, {2, 10, 12, n}, {.rows = 20, .tasks = 2, .residual = true}, options);
    check_mix(device, random, {2, 10, 70, 5}, {.rows = 300, .tasks = 2}, options);
    check_mix(device, random, {4, 10, 300, 5}, {.rows = 140, .tasks = 2}, options);
    for (const int64_t hidden : {64, 65, 128, 129})
      check_mix(device, random, {3, 70, hidden, 64}, {.rows = 150, .tasks = 3, .residual = true}, options);
    for (const int64_t hidden : {64, 130}) check_mix(device, random, {2, 10, hidden, 64}, {.rows = 20}, options);
    check_mix(device, random, {2, 600, 5, 4}, {.rows = 20, .tasks = 2}, options);
  }
}

// So many experts or choices that samples are sorted by all they have chosen, or not.
TEST(ExpertMix, FewAndManyLists) {
  Random random(44);
  for (const std::string& spec : expert_device_specs(2)) {
    TestDevice device(spec);
    ExpertOptions options;
    options.packed_dtype = options.x_dtype = CUDAMOE_BF16;
    options.bias = options.aligned = true;
    options.data = Data::kIntegers;
    check_mix(device, random, {1, 10, 12, 5}, {.rows = 150, .choices = 1}, options);
    check_mix(device, random, {3, 10, 12, 5}, {.rows = 400, .choices = 2}, options);
    check_mix(device, random, {3, 10, 70, 70}, {.rows = 60, .choices = 2}, options);
    // Several blocks that sort, lists of many row tiles, rows whose experts have several slices.
    check_mix(device, random, {2, 3, 4, 5}, {.rows = 1300, .choices = 1, .bad_every = 8}, options);
    check_mix(device, random, {5, 3, 4, 5}, {.rows = 700, .tasks = 2, .choices = 2, .bad_every = 13}, options);
    check_mix(device, random, {3, 70, 130, 64}, {.rows = 50, .choices = 2, .bad_every = 4}, options);
    check_mix(device, random, {16, 4, 5, 6}, {.rows = 50, .choices = 2, .bad_every = 9}, options);
    check_mix(device, random, {5, 4, 5, 6}, {.rows = 30, .tasks = 2, .choices = 3}, options);
    check_mix(device, random, {64, 4, 3, 2}, {.rows = 40, .choices = 2, .bad_every = 11}, options);
    check_mix(device, random, {5, 4, 5, 6}, {.rows = 10, .tasks = 2, .choices = 8, .bad_every = 5}, options);
    check_mix(device, random, {300, 2, 3, 2}, {.rows = 30, .choices = 1}, options);
    check_mix(device, random, {3, 4, 5, 6}, {.rows = 10, .choices = 3, .bad_every = 1}, options);
    check_mix(device, random, {3, 4, 5, 6}, {.rows = 0, .choices = 2}, options);
    check_mix(device, random, {3, 4, 5, 6}, {.rows = 0}, options);
    options.packed_dtype = CUDAMOE_F32;
    check_mix(device, random, {7, 4, 5, 6}, {.rows = 50, .tasks = 2, .choices = 2, .bad_every = 9}, options);
  }
}

// The same bits as experts' outputs in memory and cudamoe_combine_forward.
TEST(ExpertMix, EqualsExpertsAndCombine) {
  Random random(45);
  for (const std::string& spec : expert_device_specs(2)) {
    TestDevice device(spec);
    for (const int32_t dtype : {CUDAMOE_F32, CUDAMOE_BF16}) {
      const ExpertShape shape{4, 30, 70, 20};
      ExpertOptions options;
      options.packed_dtype = options.x_dtype = dtype;
      options.hidden_activation = CUDAMOE_ACTIVATION_RELU;
      options.output_activation = CUDAMOE_ACTIVATION_SIGMOID;
      options.bias = true;
      constexpr int64_t kRows = 50;
      constexpr int32_t kTasks = 3;
      const Experts experts(device, random, shape, options);
      const Matrix x = experts.make_x(device, random, 1, kRows);
      const Buffer<float> gates(device, random.reals(kRows * kTasks * shape.experts)),
          residual(device, random.reals(kTasks * shape.experts));
      const Buffer<float> outputs(device, shape.experts * kRows * shape.n), y(device, kRows * kTasks * shape.n), y_two(device, y.size());

      cudamoe_expert_mix_args args{};
      experts.describe(args);
      args.experts = args.choices = static_cast<int32_t>(shape.experts);
      args.tasks = kTasks;
      args.rows = kRows;
      args.x = x.data();
      args.x_row_stride = x.layout().row_stride;
      args.gates = gates.data();
      args.residual = residual.data();
      args.y = y.data();
      args.y_row_stride = kTasks * shape.n;
      args.y_task_stride = shape.n;
      const Workspace workspace = make_workspace(device, args, cudamoe_expert_mix_workspace);
      CUDAMOE_ASSERT_OK(cudamoe_expert_mix(device.stream(), &args));

      cudamoe_expert_forward_args forward{};
      experts.describe(forward);
      forward.groups = static_cast<int32_t>(shape.experts);
      forward.rows = kRows;
      forward.x = x.data();
      forward.x_row_stride = x.layout().row_stride;
      forward.y = outputs.data();
      forward.y_row_stride = shape.n;
      forward.y_group_stride = kRows * shape.n;
      const Workspace more = make_workspace(device, forward, cudamoe_expert_forward_workspace);
      CUDAMOE_ASSERT_OK(cudamoe_expert_forward(device.stream(), &forward));
      cudamoe_combine_forward_args combine{};
      combine.struct_size = sizeof combine;
      combine.tasks = kTasks;
      combine.rows = kRows;
      combine.width = shape.n;
      combine.choices = args.choices;
      combine.gates = gates.data();
      combine.residual = residual.data();
      combine.expert = outputs.data();
      combine.expert_row_stride = shape.n;
      combine.expert_stride = kRows * shape.n;
      combine.y = y_two.data();
      combine.y_row_stride = kTasks * shape.n;
      combine.y_task_stride = shape.n;
      CUDAMOE_ASSERT_OK(cudamoe_combine_forward(device.stream(), &combine));
      CUDAMOE_ASSERT_OK(cudamoe_stream_synchronize(device.stream()));
      EXPECT_EQ(y.get(), y_two.get());
    }
  }
}

// Whoever asks for the most rows that will come has enough for each batch.
TEST(ExpertMix, WorkSpaceForMoreRowsIsEnoughForFewer) {
  for (const std::string& spec : expert_device_specs(2)) {
    TestDevice device(spec);
    for (const int32_t experts : {3, 60}) {
      for (const int32_t choices : {2, 3}) {
        cudamoe_expert_mix_args args{};
        args.struct_size = sizeof args;
        args.experts = experts;
        args.tasks = 2;
        args.choices = choices;
        args.n = 5;
        args.hidden = 3;
        args.k = 4;
        args.packed_dtype = CUDAMOE_BF16;
        int64_t before = 0;
        for (const int64_t rows : {0, 1, 10, 300, 1000, 30000, 200000, 2000000}) {
          args.rows = rows;
          int64_t bytes = -1;
          CUDAMOE_ASSERT_OK(cudamoe_expert_mix_workspace(device.stream(), &args, &bytes));
          EXPECT_GE(bytes, before) << spec << ", " << experts << " experts, " << choices << " choices, " << rows << " rows";
          before = bytes;
        }
      }
    }
  }
}

struct Small {
  explicit Small(TestDevice& device)
      : x(device, std::vector<float>(6 * 4, 1.0f)), gates(device, std::vector<float>(6 * 2 * 2, 0.5f)), y(device, 6 * 2 * 5) {
    ExpertOptions options;
    options.packed_dtype = CUDAMOE_BF16;
    options.bias = true;
    Random random(47);
    experts.emplace(device, random, ExpertShape{2, 4, 3, 5}, options);
    experts->describe(args);
    args.experts = args.choices = args.tasks = 2;
    args.rows = 6;
    args.x = x.data();
    args.x_row_stride = 4;
    args.gates = gates.data();
    args.y = y.data();
    args.y_row_stride = 10;
    args.y_task_stride = 5;
    workspace.emplace(make_workspace(device, args, cudamoe_expert_mix_workspace));
  }

  Buffer<float> x, gates, y;
  std::optional<Experts> experts;
  cudamoe_expert_mix_args args{};
  std::optional<Workspace> workspace;
};

TEST(ExpertMix, WrongArgumentsAreRefused) {
  TestDevice device;
  Small small(device);
  const Buffer<int32_t> chosen(device, std::vector<int32_t>(24, 0));
  const auto refused = [&](auto&& change, const char* words) {
    cudamoe_expert_mix_args args = small.args;
    change(args);
    CUDAMOE_EXPECT_REFUSED(cudamoe_expert_mix(device.stream(), &args), words);
  };
  CUDAMOE_EXPECT_OK(cudamoe_expert_mix(device.stream(), &small.args));
  refused([](auto& a) { a.experts = 0; }, "experts is 0");
  refused([](auto& a) { a.experts = 5000; }, "experts is 5000");
  refused([](auto& a) { a.tasks = 0; }, "tasks is 0");
  refused([](auto& a) { a.choices = 1; }, "choices is 1 and chosen is null; a dense mixture has all 2 experts");
  refused([](auto& a) { a.rows = int64_t{1} << 31; }, "rows is 2147483648 with 2 tasks and 2 choices");
  refused([](auto& a) { a.hidden = 0; }, "hidden is 0");
  refused([](auto& a) { a.n = int64_t{1} << 44; }, "n is");
  refused([](auto& a) { a.k = -1; }, "k is -1");
  refused([](auto& a) { a.x_row_stride = 3; }, "x_row_stride is 3");
  refused([](auto& a) { a.y_row_stride = 9; }, "y_row_stride is 9 and y_task_stride is 5");
  refused([](auto& a) { a.hidden_activation = 9; }, "hidden_activation is 9");
  refused([](auto& a) { a.y_dtype = 3; }, "y_dtype is 3");
  refused([](auto& a) { a.gates = nullptr; }, "gates is null");
  refused([](auto& a) { a.packed1 = nullptr; }, "packed1 is null");
  refused([](auto& a) { a.y = nullptr; }, "y is null");
  refused([](auto& a) { a.bias1_group_stride = 2; }, "bias1_group_stride is 2");
  refused([&](auto& a) { a.chosen = chosen.data(), a.residual = small.gates.data(); }, "residual is");
  refused([](auto& a) { a.y = const_cast<float*>(a.gates); }, "y");
  refused([](auto& a) { a.y = const_cast<void*>(a.x); }, "y");
  refused([](auto& a) { a.workspace_bytes -= 1; }, "workspace_bytes is");
}

TEST(ExpertMix, SameBitsInEveryWayToRunIt) {
  for (const int32_t choices : {0, 2}) {
    std::vector<float> expected;
    for (const std::string& spec : repeated_device_specs()) {
      TestDevice device(spec);
      Random random(48);
      ExpertOptions options;
      options.packed_dtype = CUDAMOE_BF16;
      options.hidden_activation = CUDAMOE_ACTIVATION_TANH;
      options.bias = true;
      const ExpertShape shape{3, 20, 70, 9};
      const Experts experts(device, random, shape, options);
      const int64_t rows = 150;
      const Matrix x = experts.make_x(device, random, 1, rows);
      std::vector<int32_t> ids;
      for (int64_t i = 0; i < rows * 2; ++i) ids.push_back(static_cast<int32_t>(random.integer(0, 2)));
      const Buffer<int32_t> chosen(device, ids);
      const Buffer<float> gates(device, random.reals(rows * 3)), y(device, rows * 9);
      cudamoe_expert_mix_args args{};
      experts.describe(args);
      args.experts = 3;
      args.tasks = 1;
      args.choices = choices == 0 ? 3 : choices;
      args.rows = rows;
      args.x = x.data();
      args.x_row_stride = x.layout().row_stride;
      args.gates = gates.data();
      args.chosen = choices == 0 ? nullptr : chosen.data();
      args.y = y.data();
      args.y_row_stride = 9;
      const Workspace workspace = make_workspace(device, args, cudamoe_expert_mix_workspace);
      CUDAMOE_ASSERT_OK(cudamoe_expert_mix(device.stream(), &args));
      CUDAMOE_ASSERT_OK(cudamoe_stream_synchronize(device.stream()));
      if (expected.empty()) expected = y.get();
      EXPECT_EQ(y.get(), expected) << spec;
    }
  }
}

}  // namespace
}  // namespace cudamoe::test
