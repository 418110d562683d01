// cudamoe_loss against the double-precision reference, its derivative against finite differences, and its rules.
#include "reference/loss.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/buffer.h"
#include "support/compare.h"
#include "support/random.h"
#include "support/rows.h"

namespace cudamoe::test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Task {
  int32_t kind = CUDAMOE_LOSS_BINARY;
  int32_t classes = 1;
  float scale = 1;
  bool weighted = false;
  bool gradient = true;
  int64_t logits_stride = 1, labels_stride = 1, weights_stride = 1, gradient_stride = 1;
  std::vector<float> logits, labels, weights;  // logits [rows, classes], others [rows]
};

struct Result {
  std::vector<double> losses, weight_sums;
  std::vector<std::vector<float>> dlogits;  // [rows, classes] each
  cudamoe_status report = CUDAMOE_OK;
};

Result run(TestDevice& device, const std::vector<Task>& tasks, int64_t rows) {
  std::vector<Buffer<float>> memory;
  memory.reserve(4 * tasks.size());
  std::vector<cudamoe_loss_task> descriptions;
  for (const Task& task : tasks) {
    cudamoe_loss_task t{};
    t.kind = task.kind;
    t.classes = task.classes;
    t.scale = task.scale;
    t.logits = memory.emplace_back(device, spread(task.logits, rows, task.classes, task.logits_stride), 1).data();
    t.logits_row_stride = task.logits_stride;
    t.labels = memory.emplace_back(device, spread(task.labels, rows, 1, task.labels_stride)).data();
    t.labels_stride = task.labels_stride;
    if (task.weighted) t.weights = memory.emplace_back(device, spread(task.weights, rows, 1, task.weights_stride), 3).data();
    t.weights_stride = task.weights_stride;
    if (task.gradient) t.dlogits = memory.emplace_back(device, rows > 0 ? (rows - 1) * task.gradient_stride + task.classes : 0).data();
    t.dlogits_row_stride = task.gradient_stride;
    descriptions.push_back(t);
  }
  const auto count = static_cast<int32_t>(tasks.size());
  Buffer<double> losses(device, count), sums(device, count);
  cudamoe_loss_args args{};
  args.struct_size = sizeof args;
  args.task_count = count;
  args.rows = rows;
  args.tasks = descriptions.data();
  int64_t bytes = -1;
  CUDAMOE_EXPECT_OK(cudamoe_loss_workspace(device.stream(), &args, &bytes));
  Workspace workspace(device, bytes);
  args.losses = losses.data();
  args.weight_sums = sums.data();
  args.workspace = workspace.data();
  args.workspace_bytes = bytes;
  CUDAMOE_EXPECT_OK(cudamoe_loss(device.stream(), &args));
  Result result;
  result.report = cudamoe_stream_synchronize(device.stream());
  result.losses = losses.get();
  result.weight_sums = sums.get();
  EXPECT_TRUE(losses.guards_intact() && sums.guards_intact() && workspace.guards_intact());
  size_t next = 0;
  for (const Task& task : tasks) {
    next += task.weighted ? 3 : 2;
    std::vector<float> gradient;
    if (task.gradient) {
      const std::vector<float> raw = memory[next++].get();
      for (int64_t b = 0; b < rows; ++b) {
        for (int64_t c = 0; c < task.gradient_stride && b * task.gradient_stride + c < static_cast<int64_t>(raw.size()); ++c) {
          const float value = raw[b * task.gradient_stride + c];
          if (c < task.classes) {
            gradient.push_back(value);
          } else {
            EXPECT_TRUE(std::isnan(value)) << "written between rows";
          }
        }
      }
    }
    result.dlogits.push_back(gradient);
  }
  for (const auto& buffer : memory) EXPECT_TRUE(buffer.guards_intact());
  return result;
}

Task random_task(Random& random, int64_t rows, int32_t kind) {
  Task task;
  task.kind = kind;
  task.classes = kind == CUDAMOE_LOSS_SOFTMAX ? static_cast<int32_t>(random.integer(2, 40)) : 1;
  task.scale = static_cast<float>(random.real(-2, 3));
  task.weighted = random.coin();
  task.logits_stride = task.classes + random.integer(0, 3);
  task.labels_stride = random.integer(1, 3);
  task.weights_stride = random.integer(1, 3);
  task.gradient_stride = task.classes + random.integer(0, 3);
  task.logits = random.reals(rows * task.classes, -12, 12);
  for (int64_t b = 0; b < rows; ++b) {
    float label = static_cast<float>(random.real(0, 1));
    if (kind == CUDAMOE_LOSS_BINARY && random.coin()) label = random.coin() ? 1.0f : 0.0f;
    if (kind == CUDAMOE_LOSS_SQUARED) label *= 100;
    if (kind == CUDAMOE_LOSS_SOFTMAX) label = static_cast<float>(random.integer(0, task.classes - 1));
    task.labels.push_back(random.integer(0, 4) == 0 ? kNan : label);
    task.weights.push_back(!task.weighted ? 1.0f : random.integer(0, 4) == 0 ? 0.0f : static_cast<float>(random.real(0.1, 3)));
  }
  return task;
}

reference::Loss expected(const Task& task) {
  return reference::loss(task.kind, {task.logits.begin(), task.logits.end()}, task.labels, task.weights, task.classes,
                         static_cast<double>(task.scale));
}

TEST(Loss, AgreesWithTheReference) {
  TestDevice device;
  Random random(11);
  for (int64_t rows : {0, 1, 2, 7, 16, 255, 256, 257, 1000, 2048, 2049, 5000}) {
    std::vector<Task> tasks;
    for (int i = 0; i < 6; ++i) tasks.push_back(random_task(random, rows, i % 3));
    tasks[5].gradient = false;
    const Result result = run(device, tasks, rows);
    EXPECT_EQ(result.report, CUDAMOE_OK) << last_error();
    for (size_t t = 0; t < tasks.size(); ++t) {
      const reference::Loss want = expected(tasks[t]);
      EXPECT_NEAR(result.losses[t], want.loss, 4e-7 * std::fabs(want.loss)) << "rows " << rows << " task " << t;
      EXPECT_NEAR(result.weight_sums[t], want.weight_sum, 1e-12 * want.weight_sum);
      if (tasks[t].gradient) {
        EXPECT_LE(relative_error(result.dlogits[t], want.dlogits), 4e-7) << "rows " << rows << " task " << t;
      }
    }
  }
}

TEST(Loss, KeepsRelativeAccuracyWhereTheGradientIsTiny) {
  TestDevice device;
  Task task;
  for (float x : {-80.0f, -30.0f, -17.0f, -1e-4f, 0.0f, 1e-6f, 0.5f, 17.0f, 30.0f, 80.0f}) {
    for (float y : {0.0f, 0.25f, 1.0f}) {
      task.logits.push_back(x);
      task.labels.push_back(y);
    }
  }
  const auto rows = static_cast<int64_t>(task.labels.size());
  const Result result = run(device, {task}, rows);
  for (int64_t b = 0; b < rows; ++b) {
    const double x = static_cast<double>(task.logits[b]), y = static_cast<double>(task.labels[b]);
    // sigmoid(x) - y without cancellation.
    const double e = std::exp(-std::fabs(x));
    const double q = x >= 0 ? 1 - y : y;
    const double want = (x >= 0 ? 1.0 : -1.0) * (q - e / (1 + e)) / static_cast<double>(rows);
    EXPECT_NEAR(static_cast<double>(result.dlogits[0][b]), want, 1e-6 * std::fabs(want)) << "x " << x << " y " << y;
  }
}

// A central difference of step h is off by h² / 6 of a third derivative, which is below 1 for a mean of these losses, and by the rounding
// of the loss over h. That is some roundings of the loss and of the logits that it is the difference of, the one that is moved among them.
TEST(Loss, DerivativeOfTheReferenceIsRight) {
  constexpr double kRoundings = 32 * 0x1p-53;
  Random random(12);
  for (int32_t kind : {CUDAMOE_LOSS_BINARY, CUDAMOE_LOSS_SQUARED, CUDAMOE_LOSS_SOFTMAX}) {
    const int64_t rows = 9;
    const Task task = random_task(random, rows, kind);
    std::vector<double> logits(task.logits.begin(), task.logits.end());
    const auto at = [&] { return reference::loss(kind, logits, task.labels, task.weights, task.classes, static_cast<double>(task.scale)); };
    const reference::Loss base = at();
    double largest = 0;
    for (const double x : logits) largest = std::isnan(x) ? largest : std::max(largest, std::fabs(x));
    const double scale = static_cast<double>(task.scale), size = std::fabs(scale) * (base.loss + largest);
    for (size_t i = 0; i < logits.size(); ++i) {
      const double step = 1e-5, x = logits[i];
      const double bound = std::fabs(scale) * step * step + kRoundings * (size + std::fabs(x * base.dlogits[i])) / step;
      logits[i] = x + step;
      const double above = at().loss;
      logits[i] = x - step;
      const double below = at().loss;
      logits[i] = x;
      EXPECT_NEAR(base.dlogits[i], scale * (above - below) / (2 * step), bound);
    }
  }
}

TEST(Loss, TaskWithoutValidRowsIsZero) {
  TestDevice device;
  Task missing;
  missing.labels = {kNan, kNan, kNan};
  missing.logits = {kNan, 1, kInfinity};
  Task unweighted;
  unweighted.weighted = true;
  unweighted.labels = {0, 1, 0};
  unweighted.logits = {1, kNan, 3};
  unweighted.weights = {0, 0, 0};
  Task softmax = missing;
  softmax.kind = CUDAMOE_LOSS_SOFTMAX;
  softmax.logits_stride = softmax.gradient_stride = softmax.classes = 2;
  softmax.logits = {1, 2, kNan, 4, 5, 6};
  const Result result = run(device, {missing, unweighted, softmax}, 3);
  EXPECT_EQ(result.report, CUDAMOE_OK);
  EXPECT_EQ(result.losses, (std::vector<double>{0, 0, 0}));
  EXPECT_EQ(result.weight_sums, (std::vector<double>{0, 0, 0}));
  EXPECT_EQ(result.dlogits[0], (std::vector<float>{0, 0, 0}));
  EXPECT_EQ(result.dlogits[1], (std::vector<float>{0, 0, 0}));
  EXPECT_EQ(result.dlogits[2], std::vector<float>(6, 0.0f));
}

TEST(Loss, ExactOnSmallIntegers) {
  TestDevice device;
  Task task;
  task.kind = CUDAMOE_LOSS_SQUARED;
  task.scale = 8;
  task.logits = {1, -2, 3, 4};
  task.labels = {2, 2, kNan, 0};
  task.weighted = true;
  task.weights = {1, 1, 5, 2};
  const Result result = run(device, {task}, 4);
  EXPECT_EQ(result.losses[0], (1 + 16 + 2 * 16) / 4.0);
  EXPECT_EQ(result.weight_sums[0], 4.0);
  EXPECT_EQ(result.dlogits[0], (std::vector<float>{-4, -16, 0, 32}));
}

TEST(Loss, NanLogitOfAValidRowShows) {
  TestDevice device;
  Task binary;
  binary.logits = {1, kNan};
  binary.labels = {1, 0};
  Task softmax;
  softmax.kind = CUDAMOE_LOSS_SOFTMAX;
  softmax.logits_stride = softmax.gradient_stride = softmax.classes = 2;
  softmax.logits = {1, 2, kNan, 1};
  softmax.labels = {0, 1};
  const Result result = run(device, {binary, softmax}, 2);
  EXPECT_TRUE(std::isnan(result.losses[0]) && std::isnan(result.losses[1]));
  EXPECT_FALSE(std::isnan(result.dlogits[0][0]));
  EXPECT_TRUE(std::isnan(result.dlogits[0][1]));
  EXPECT_TRUE(std::isnan(result.dlogits[1][2]) && std::isnan(result.dlogits[1][3]));
}

TEST(Loss, InfiniteLogitsHaveLimits) {
  TestDevice device;
  Task task;
  task.logits = {kInfinity, -kInfinity};
  task.labels = {1, 0};
  const Result result = run(device, {task}, 2);
  EXPECT_EQ(result.losses[0], 0.0);
  EXPECT_EQ(result.dlogits[0][0], 0.0f);
  EXPECT_EQ(result.dlogits[0][1], 0.0f);
}

TEST(Loss, BadLabelsAndWeightsAreReportedAndLeftOut) {
  TestDevice device;
  const auto one = [&](int32_t kind, float label, float weight) {
    Task task;
    task.kind = kind;
    task.classes = kind == CUDAMOE_LOSS_SOFTMAX ? 3 : 1;
    task.logits_stride = task.gradient_stride = task.classes;
    task.weighted = true;
    task.labels = {1, label};
    task.weights = {1, weight};
    task.logits.assign(2 * task.classes, 0.5f);
    const Result result = run(device, {task}, 2);
    EXPECT_EQ(result.report, CUDAMOE_ERROR_REPORTED) << label << " " << weight;
    EXPECT_NE(last_error().find("row 1"), std::string::npos) << last_error();
    EXPECT_EQ(result.weight_sums[0], 1.0);
    for (int32_t c = 0; c < task.classes; ++c) EXPECT_EQ(result.dlogits[0][task.classes + c], 0.0f);
  };
  one(CUDAMOE_LOSS_BINARY, 1.5f, 1);
  one(CUDAMOE_LOSS_BINARY, -0.1f, 1);
  one(CUDAMOE_LOSS_SQUARED, kInfinity, 1);
  for (float label : {3.0f, -1.0f, 0.5f, 1e9f}) one(CUDAMOE_LOSS_SOFTMAX, label, 1);
  for (float weight : {-1.0f, kNan, kInfinity}) one(CUDAMOE_LOSS_BINARY, 1, weight);
}

TEST(Loss, SameBitsForAnyOrder) {
  Random random(13);
  const int64_t rows = test_device_is_slow() ? 2100 : 9001;
  std::vector<Task> tasks;
  for (int i = 0; i < 3; ++i) tasks.push_back(random_task(random, rows, i));
  Result first;
  for (const std::string& spec : repeated_device_specs()) {
    TestDevice device(spec);
    for (int repeat = 0; repeat < repetitions_of_a_spec(); ++repeat) {
      const Result result = run(device, tasks, rows);
      if (first.losses.empty()) first = result;
      ASSERT_EQ(result.losses, first.losses);
      ASSERT_EQ(result.weight_sums, first.weight_sums);
      ASSERT_EQ(result.dlogits, first.dlogits);
    }
  }
}

TEST(Loss, RefusesBadArguments) {
  TestDevice device;
  Buffer<float> data(device, std::vector<float>(64, 0.0f));
  Buffer<double> losses(device, 2), sums(device, 2);
  Workspace workspace(device, 4096);
  cudamoe_loss_task good{};
  good.logits = good.labels = data.data();
  good.dlogits = data.data() + 32;
  good.logits_row_stride = good.labels_stride = good.weights_stride = good.dlogits_row_stride = 1;
  good.classes = 1;
  good.scale = 1;
  const auto refused = [&](auto&& change, const char* words) {
    cudamoe_loss_task task = good;
    cudamoe_loss_args args{};
    args.struct_size = sizeof args;
    args.task_count = 1;
    args.rows = 4;
    args.tasks = &task;
    args.losses = losses.data();
    args.weight_sums = sums.data();
    args.workspace = workspace.data();
    args.workspace_bytes = workspace.size();
    change(args, task);
    CUDAMOE_EXPECT_REFUSED(cudamoe_loss(device.stream(), &args), words);
  };
  refused([](auto& a, auto&) { a.struct_size = 8; }, "struct_size");
  refused([](auto& a, auto&) { a.task_count = -1; }, "task_count is -1");
  refused([](auto& a, auto&) { a.rows = -1; }, "rows is -1");
  refused([](auto& a, auto&) { a.tasks = nullptr; }, "tasks is null");
  refused([](auto& a, auto&) { a.losses = nullptr; }, "losses is null");
  refused([](auto& a, auto&) { a.weight_sums = nullptr; }, "weight_sums is null");
  refused([](auto& a, auto&) { a.weight_sums = a.losses; }, "losses");
  refused([](auto& a, auto&) { a.workspace_bytes = 0; }, "workspace_bytes is 0");
  refused([](auto& a, auto&) { a.workspace = nullptr; }, "workspace is null");
  refused([](auto& a, auto&) { a.workspace = static_cast<char*>(a.workspace) + 8; }, "workspace");
  refused([](auto&, auto& t) { t.kind = 3; }, "tasks[0].kind is 3");
  refused([](auto&, auto& t) { t.classes = 2; }, "tasks[0].classes is 2");
  refused([](auto&, auto& t) { t.kind = CUDAMOE_LOSS_SOFTMAX; }, "tasks[0].classes is 1");
  refused([](auto&, auto& t) { t.reserved = 1; }, "tasks[0].reserved");
  refused([](auto&, auto& t) { t.scale = kNan; }, "tasks[0].scale");
  refused([](auto&, auto& t) { t.logits = nullptr; }, "tasks[0].logits is null");
  refused([](auto&, auto& t) { t.labels = nullptr; }, "tasks[0].labels is null");
  refused([](auto&, auto& t) { t.logits_row_stride = 0; }, "tasks[0].logits_row_stride is 0");
  refused([](auto&, auto& t) { t.labels_stride = 0; }, "tasks[0].labels_stride is 0");
  refused([](auto&, auto& t) { t.weights = t.labels, t.weights_stride = 0; }, "tasks[0].weights_stride is 0");
  refused([](auto&, auto& t) { t.dlogits_row_stride = 0; }, "tasks[0].dlogits_row_stride is 0");
  refused([](auto&, auto& t) { t.labels_stride = int64_t{1} << 50; }, "tasks[0].labels_stride");
  refused([](auto&, auto& t) { t.logits = reinterpret_cast<const float*>(reinterpret_cast<const char*>(t.logits) + 1); },
          "tasks[0].logits");
  refused([](auto&, auto& t) { t.dlogits = const_cast<float*>(t.logits); }, "tasks[0].dlogits");
  CUDAMOE_EXPECT_REFUSED(cudamoe_loss(device.stream(), nullptr), "args is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_loss(nullptr, nullptr), "stream is null");
  cudamoe_loss_args none{};
  none.struct_size = sizeof none;
  CUDAMOE_EXPECT_REFUSED(cudamoe_loss_workspace(device.stream(), &none, nullptr), "bytes is null");
  CUDAMOE_EXPECT_OK(cudamoe_loss(device.stream(), &none));
}

}  // namespace
}  // namespace cudamoe::test
