// The balance operations against plain double sums.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "support/buffer.h"
#include "support/compare.h"
#include "support/random.h"
#include "support/test_device.h"

namespace cudamoe::test {
namespace {

// Where the element (t, b, j) of a [tasks, rows, width] array lies.
struct Layout {
  int32_t tasks;
  int64_t rows, width, task_stride, row_stride;

  static Layout dense(int32_t tasks, int64_t rows, int64_t width) { return {tasks, rows, width, rows * width, width}; }
  // Tasks beside each other within a row.
  static Layout interleaved(int32_t tasks, int64_t rows, int64_t width) { return {tasks, rows, width, width, tasks * width}; }
  static Layout padded(int32_t tasks, int64_t rows, int64_t width) { return {tasks, rows, width, rows * (width + 3) + 5, width + 3}; }

  int64_t size() const { return (tasks - 1) * task_stride + (rows > 0 ? (rows - 1) * row_stride + width : 0) + 1; }
  size_t at(int64_t t, int64_t b, int64_t j) const { return static_cast<size_t>(t * task_stride + b * row_stride + j); }
};

std::vector<double> reference_gram(const Layout& layout, const std::vector<float>& gradients) {
  std::vector<double> gram(static_cast<size_t>(layout.tasks * layout.tasks), 0.0);
  for (int32_t i = 0; i < layout.tasks; ++i) {
    for (int32_t k = 0; k < layout.tasks; ++k) {
      for (int64_t b = 0; b < layout.rows; ++b) {
        for (int64_t j = 0; j < layout.width; ++j) {
          gram[static_cast<size_t>(i * layout.tasks + k)] +=
              static_cast<double>(gradients[layout.at(i, b, j)]) * static_cast<double>(gradients[layout.at(k, b, j)]);
        }
      }
    }
  }
  return gram;
}

std::vector<double> gram(TestDevice& device, const Layout& layout, const std::vector<float>& gradients) {
  const Buffer<float> buffer(device, gradients, layout.width % 3);
  Buffer<double> result(device, layout.tasks * layout.tasks);
  cudamoe_balance_gram_args args{};
  args.struct_size = sizeof args;
  args.tasks = layout.tasks;
  args.rows = layout.rows;
  args.width = layout.width;
  args.task_stride = layout.task_stride;
  args.row_stride = layout.row_stride;
  CUDAMOE_EXPECT_OK(cudamoe_balance_gram_workspace(device.stream(), &args, &args.workspace_bytes));
  const Workspace workspace(device, args.workspace_bytes);
  args.gradients = buffer.data();
  args.gram = result.data();
  args.workspace = workspace.data();
  CUDAMOE_EXPECT_OK(cudamoe_balance_gram(device.stream(), &args));
  EXPECT_TRUE(workspace.guards_intact() && result.guards_intact() && buffer.guards_intact());
  return result.get();
}

TEST(BalanceGram, IntegerDataIsExact) {
  TestDevice device;
  Random random;
  for (const int32_t tasks : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 64}) {
    for (const auto& [rows, width] :
         {std::pair<int64_t, int64_t>{1, 1}, {3, 5}, {40, 16}, {7, 129}, {1, 9001}, {600, 33}, {90, 24}, {0, 4}, {4, 0}}) {
      if (tasks > (test_device_is_slow() ? 5 : 13) && rows * width > 5000) continue;
      for (const Layout& layout :
           {Layout::dense(tasks, rows, width), Layout::interleaved(tasks, rows, width), Layout::padded(tasks, rows, width)}) {
        const std::vector<float> gradients = random.integers(layout.size());
        EXPECT_EQ(gram(device, layout, gradients), reference_gram(layout, gradients)) << tasks << " tasks, " << rows << " x " << width;
      }
    }
  }
}

TEST(BalanceGram, RandomDataAgreesToDoublePrecision) {
  TestDevice device;
  Random random(1);
  const Layout layout = Layout::dense(3, 512, 128);
  const std::vector<float> gradients = random.reals(layout.size());
  EXPECT_LE(relative_error(gram(device, layout, gradients), reference_gram(layout, gradients)), 1e-13);
}

// Three gradients whose Gram matrix is known.
TEST(BalanceGram, KnownValues) {
  TestDevice device;
  const std::vector<float> gradients{1, 0, 2, -1, -2, 1, 0, 0.5f, 0.5f, -1, 1, 3, 0};
  EXPECT_EQ(gram(device, Layout::dense(3, 1, 4), gradients), (std::vector<double>{6, -2.5, -0.5, -2.5, 5.25, -0.5, -0.5, -0.5, 11.25}));
}

TEST(BalanceGram, ANanShowsInTheProductsOfItsTaskOnly) {
  TestDevice device;
  Random random(2);
  const Layout layout = Layout::dense(3, 10, 20);
  std::vector<float> gradients = random.integers(layout.size());
  gradients[layout.at(1, 9, 19)] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<double> result = gram(device, layout, gradients);
  for (size_t i = 0; i < 3; ++i) {
    for (size_t k = 0; k < 3; ++k) EXPECT_EQ(std::isnan(result[i * 3 + k]), i == 1 || k == 1);
  }
}

TEST(BalanceGram, SameBitsForAnyOrder) {
  for (const int32_t tasks : {5, 11}) {
    std::vector<double> first;
    for (const std::string& spec : repeated_device_specs()) {
      TestDevice device(spec);
      Random random(3);
      const Layout layout = Layout::dense(tasks, test_device_is_slow() ? 70 : 700, 100);
      const std::vector<double> result = gram(device, layout, random.reals(layout.size()));
      if (first.empty()) first = result;
      EXPECT_EQ(std::memcmp(first.data(), result.data(), result.size() * sizeof(double)), 0) << spec;
    }
  }
}

// gradient_t = dZ_t * W_t formed, against the products of the factors.
TEST(BalanceFactoredGram, EqualsTheGramOfTheFormedGradients) {
  TestDevice device;
  Random random(4);
  for (const std::vector<int64_t>& heights : {std::vector<int64_t>{1}, {3, 5}, {16, 1, 33}, {4, 0, 7, 20}, {70, 40}}) {
    const int64_t rows = 9, width = 21;
    const auto tasks = static_cast<int32_t>(heights.size());
    std::vector<int64_t> starts{0};
    for (const int64_t height : heights) starts.push_back(starts.back() + height);
    const int64_t h = starts.back(), stride = h + 2;
    const std::vector<float> dz = random.integers(rows * h, -2, 2), w = random.integers(h * width, -2, 2);
    const Layout layout = Layout::dense(tasks, rows, width);
    std::vector<float> gradients(static_cast<size_t>(layout.size()), 0.0f), dz_products(static_cast<size_t>(h * stride)),
        w_products(static_cast<size_t>(h * stride));
    for (int32_t t = 0; t < tasks; ++t) {
      for (int64_t b = 0; b < rows; ++b) {
        for (int64_t a = starts[static_cast<size_t>(t)]; a < starts[static_cast<size_t>(t) + 1]; ++a) {
          for (int64_t j = 0; j < width; ++j)
            gradients[layout.at(t, b, j)] += dz[static_cast<size_t>(b * h + a)] * w[static_cast<size_t>(a * width + j)];
        }
      }
    }
    for (int64_t a = 0; a < h; ++a) {
      for (int64_t c = 0; c < h; ++c) {
        float& dz_product = dz_products[static_cast<size_t>(a * stride + c)];
        float& w_product = w_products[static_cast<size_t>(a * stride + c)];
        for (int64_t b = 0; b < rows; ++b) dz_product += dz[static_cast<size_t>(b * h + a)] * dz[static_cast<size_t>(b * h + c)];
        for (int64_t j = 0; j < width; ++j) w_product += w[static_cast<size_t>(a * width + j)] * w[static_cast<size_t>(c * width + j)];
      }
    }
    const Buffer<float> dz_buffer(device, dz_products), w_buffer(device, w_products);
    Buffer<double> result(device, tasks * tasks);
    cudamoe_balance_factored_gram_args args{};
    args.struct_size = sizeof args;
    args.tasks = tasks;
    args.starts = starts.data();
    args.gradient_products = dz_buffer.data();
    args.weight_products = w_buffer.data();
    args.gradient_products_row_stride = args.weight_products_row_stride = stride;
    args.gram = result.data();
    CUDAMOE_EXPECT_OK(cudamoe_balance_factored_gram(device.stream(), &args));
    EXPECT_TRUE(result.guards_intact());
    EXPECT_EQ(result.get(), gram(device, layout, gradients));
  }
}

std::vector<float> combine(TestDevice& device, const Layout& layout, const std::vector<float>& gradients, const std::vector<float>& weights,
                           bool accumulate) {
  const Buffer<float> buffer(device, gradients), weight_buffer(device, weights);
  const int64_t stride = layout.width + 2;
  Buffer<float> output(device, std::vector<float>(static_cast<size_t>(layout.rows * stride), 7.0f));
  cudamoe_balance_combine_args args{};
  args.struct_size = sizeof args;
  args.tasks = layout.tasks;
  args.rows = layout.rows;
  args.width = layout.width;
  args.gradients = buffer.data();
  args.task_stride = layout.task_stride;
  args.row_stride = layout.row_stride;
  args.weights = weight_buffer.data();
  args.output = output.data();
  args.output_row_stride = stride;
  args.accumulate = accumulate ? 1 : 0;
  CUDAMOE_EXPECT_OK(cudamoe_balance_combine(device.stream(), &args));
  EXPECT_TRUE(output.guards_intact() && buffer.guards_intact() && weight_buffer.guards_intact());
  return output.get();
}

TEST(BalanceCombine, IntegerDataIsExact) {
  TestDevice device;
  Random random(5);
  for (const int32_t tasks : {1, 2, 3, 7, 64}) {
    for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{1, 1}, {5, 3}, {40, 64}, {3, 129}, {2, 9001}, {0, 4}}) {
      for (const Layout& layout :
           {Layout::dense(tasks, rows, width), Layout::interleaved(tasks, rows, width), Layout::padded(tasks, rows, width)}) {
        for (const bool accumulate : {false, true}) {
          const std::vector<float> gradients = random.integers(layout.size()), weights = random.integers(tasks, -2, 2);
          const std::vector<float> output = combine(device, layout, gradients, weights, accumulate);
          for (int64_t b = 0; b < rows; ++b) {
            for (int64_t j = 0; j < width + 2; ++j) {
              double expected = accumulate || j >= width ? 7 : 0;
              for (int64_t t = 0; t < tasks && j < width; ++t)
                expected += static_cast<double>(weights[static_cast<size_t>(t)] * gradients[layout.at(t, b, j)]);
              ASSERT_EQ(static_cast<double>(output[static_cast<size_t>(b * (width + 2) + j)]), expected);
            }
          }
        }
      }
    }
  }
}

TEST(BalanceCombine, AZeroWeightLeavesATaskOutNanAndAll) {
  TestDevice device;
  Random random(6);
  const Layout layout = Layout::dense(3, 4, 37);
  std::vector<float> gradients = random.integers(layout.size());
  for (int64_t b = 0; b < 4; ++b) {
    for (int64_t j = 0; j < 37; ++j)
      gradients[layout.at(1, b, j)] = j % 2 == 0 ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  }
  const std::vector<float> output = combine(device, layout, gradients, {2, 0, -1}, false);
  for (int64_t b = 0; b < 4; ++b) {
    for (int64_t j = 0; j < 37; ++j)
      ASSERT_EQ(output[static_cast<size_t>(b * 39 + j)], 2 * gradients[layout.at(0, b, j)] - gradients[layout.at(2, b, j)]);
  }
  const std::vector<float> none = combine(device, layout, gradients, {0, 0, 0}, false);
  for (int64_t j = 0; j < 37; ++j) EXPECT_EQ(none[static_cast<size_t>(j)], 0.0f);
}

TEST(BalanceCombine, TheOutputMayBeTheFirstGradient) {
  TestDevice device;
  Random random(7);
  for (const Layout& layout : {Layout::dense(3, 70, 130), Layout::interleaved(3, 70, 130)}) {
    const std::vector<float> gradients = random.integers(layout.size());
    const Buffer<float> buffer(device, gradients), weights(device, std::vector<float>{-1, 2, 3});
    cudamoe_balance_combine_args args{};
    args.struct_size = sizeof args;
    args.tasks = 3;
    args.rows = 70;
    args.width = 130;
    args.gradients = args.output = buffer.data();
    args.task_stride = layout.task_stride;
    args.row_stride = args.output_row_stride = layout.row_stride;
    args.weights = weights.data();
    CUDAMOE_ASSERT_OK(cudamoe_balance_combine(device.stream(), &args));
    const std::vector<float> result = buffer.get();
    for (int64_t b = 0; b < 70; ++b) {
      for (int64_t j = 0; j < 130; ++j) {
        ASSERT_EQ(result[layout.at(0, b, j)],
                  -gradients[layout.at(0, b, j)] + 2 * gradients[layout.at(1, b, j)] + 3 * gradients[layout.at(2, b, j)]);
        ASSERT_EQ(result[layout.at(2, b, j)], gradients[layout.at(2, b, j)]);
      }
    }
  }
}

struct ColumnCase {
  Layout gradients, values;
  bool is_signed;
  int32_t parts;
};

std::vector<double> reference_columns(const ColumnCase& c, const std::vector<float>& gradients, const std::vector<float>& values) {
  const Layout& layout = c.gradients;
  std::vector<double> sums(static_cast<size_t>(c.parts * layout.tasks * layout.width), 0.0);
  for (int64_t b = 0; b < layout.rows; ++b) {
    for (int32_t t = 0; t < layout.tasks; ++t) {
      for (int64_t j = 0; j < layout.width; ++j) {
        const float value = c.is_signed ? values[c.values.at(t, b, j)] : 1;
        const double sign = value > 0 ? 1 : value < 0 ? -1 : 0;
        if (sign != 0)
          sums[static_cast<size_t>((b % c.parts * layout.tasks + t) * layout.width + j)] += sign * gradients[layout.at(t, b, j)];
      }
    }
  }
  return sums;
}

std::vector<double> columns(TestDevice& device, const ColumnCase& c, const std::vector<float>& gradients,
                            const std::vector<float>& values) {
  const Buffer<float> buffer(device, gradients, c.gradients.width % 3), value_buffer(device, values);
  Buffer<double> sums(device, c.parts * c.gradients.tasks * c.gradients.width);
  cudamoe_balance_columns_args args{};
  args.struct_size = sizeof args;
  args.tasks = c.gradients.tasks;
  args.rows = c.gradients.rows;
  args.width = c.gradients.width;
  args.task_stride = c.gradients.task_stride;
  args.row_stride = c.gradients.row_stride;
  args.parts = c.parts;
  CUDAMOE_EXPECT_OK(cudamoe_balance_columns_workspace(device.stream(), &args, &args.workspace_bytes));
  const Workspace workspace(device, args.workspace_bytes);
  args.gradients = buffer.data();
  if (c.is_signed) {
    args.values = value_buffer.data();
    args.values_task_stride = c.values.task_stride;
    args.values_row_stride = c.values.row_stride;
  }
  args.sums = sums.data();
  args.workspace = workspace.data();
  CUDAMOE_EXPECT_OK(cudamoe_balance_columns(device.stream(), &args));
  EXPECT_TRUE(sums.guards_intact() && buffer.guards_intact() && value_buffer.guards_intact() && workspace.guards_intact());
  return sums.get();
}

TEST(BalanceColumns, IntegerDataIsExact) {
  TestDevice device;
  Random random(9);
  for (const int32_t tasks : {1, 3, 64}) {
    for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{1, 1},
                                      {2, 3},
                                      {9, 32},
                                      {40, 33},
                                      {255, 2},
                                      {257, 70},
                                      {1030, 5},
                                      {20000, 3},
                                      {3, 1000},
                                      {0, 4},
                                      {4, 0}}) {
      if (tasks * rows * width > (test_device_is_slow() ? 60000 : 500000)) continue;
      for (const Layout& layout :
           {Layout::dense(tasks, rows, width), Layout::interleaved(tasks, rows, width), Layout::padded(tasks, rows, width)}) {
        Layout common = Layout::padded(1, rows, width);
        common.tasks = tasks, common.task_stride = 0;
        for (const int32_t parts : {1, 2}) {
          for (const ColumnCase& c : {ColumnCase{layout, common, false, parts},
                                      {layout, common, true, parts},
                                      {layout, Layout::interleaved(tasks, rows, width), true, parts}}) {
            const std::vector<float> gradients = random.integers(layout.size());
            std::vector<float> values = random.integers(std::max(c.values.size(), Layout::padded(1, rows, width).size()));
            values[0] = std::numeric_limits<float>::quiet_NaN();
            ASSERT_EQ(columns(device, c, gradients, values), reference_columns(c, gradients, values))
                << tasks << " tasks, " << rows << " x " << width << ", " << parts << " parts, signed " << c.is_signed;
          }
        }
      }
    }
  }
}

TEST(BalanceColumns, RandomDataAgreesToDoublePrecision) {
  TestDevice device;
  Random random(10);
  const ColumnCase c{Layout::interleaved(3, 700, 50), Layout::interleaved(3, 700, 50), true, 2};
  const std::vector<float> gradients = random.reals(c.gradients.size()), values = random.reals(c.values.size());
  EXPECT_LE(relative_error(columns(device, c, gradients, values), reference_columns(c, gradients, values)), 1e-13);
}

TEST(BalanceColumns, ANanShowsInItsColumnOnly) {
  TestDevice device;
  Random random(11);
  const ColumnCase c{Layout::dense(3, 300, 40), {}, false, 1};
  std::vector<float> gradients = random.integers(c.gradients.size());
  gradients[c.gradients.at(1, 299, 39)] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<double> sums = columns(device, c, gradients, {0});
  for (size_t i = 0; i < sums.size(); ++i) EXPECT_EQ(std::isnan(sums[i]), i == 79) << i;
}

TEST(BalanceColumns, SameBitsForAnyOrder) {
  std::vector<double> first;
  for (const std::string& spec : repeated_device_specs()) {
    TestDevice device(spec);
    Random random(12);
    const ColumnCase c{Layout::interleaved(3, 600, 70), Layout::interleaved(3, 600, 70), true, 2};
    const std::vector<float> gradients = random.reals(c.gradients.size()), values = random.reals(c.values.size());
    const std::vector<double> result = columns(device, c, gradients, values);
    if (first.empty()) first = result;
    EXPECT_EQ(std::memcmp(first.data(), result.data(), result.size() * sizeof(double)), 0) << spec;
  }
}

TEST(BalanceScale, MultipliesColumnsAndNothingElse) {
  TestDevice device;
  Random random(13);
  for (const int32_t tasks : {1, 3, 64}) {
    for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{1, 1}, {5, 3}, {70, 64}, {3, 1001}, {0, 4}, {4, 0}}) {
      for (const Layout& layout :
           {Layout::dense(tasks, rows, width), Layout::interleaved(tasks, rows, width), Layout::padded(tasks, rows, width)}) {
        const std::vector<float> gradients = random.reals(layout.size()), factors = random.reals(tasks * width);
        const Buffer<float> buffer(device, gradients), factor_buffer(device, factors);
        cudamoe_balance_scale_args args{};
        args.struct_size = sizeof args;
        args.tasks = tasks;
        args.rows = rows;
        args.width = width;
        args.gradients = buffer.data();
        args.task_stride = layout.task_stride;
        args.row_stride = layout.row_stride;
        args.factors = factor_buffer.data();
        CUDAMOE_ASSERT_OK(cudamoe_balance_scale(device.stream(), &args));
        EXPECT_TRUE(buffer.guards_intact() && factor_buffer.guards_intact());
        std::vector<float> expected = gradients;
        for (int32_t t = 0; t < tasks; ++t) {
          for (int64_t b = 0; b < rows; ++b) {
            for (int64_t j = 0; j < width; ++j) expected[layout.at(t, b, j)] *= factors[static_cast<size_t>(t * width + j)];
          }
        }
        ASSERT_EQ(buffer.get(), expected) << tasks << " tasks, " << rows << " x " << width;
      }
    }
  }
}

TEST(BalanceAverage, MovesTowardsFiniteValuesOnly) {
  TestDevice device;
  Random random(8);
  for (const int64_t count : {0, 1, 5, 16, 33, 20000}) {
    std::vector<float> values = random.integers(count), averages = random.integers(count);
    const std::vector<float> before = averages;
    for (size_t i = 0; i < values.size(); i += 3)
      values[i] = i % 2 == 0 ? std::numeric_limits<float>::quiet_NaN() : -std::numeric_limits<float>::infinity();
    const Buffer<float> value_buffer(device, values), average_buffer(device, averages);
    cudamoe_balance_average_args args{};
    args.struct_size = sizeof args;
    args.rate = 0.25f;
    args.count = count;
    args.values = value_buffer.data();
    args.averages = average_buffer.data();
    CUDAMOE_ASSERT_OK(cudamoe_balance_average(device.stream(), &args));
    EXPECT_TRUE(value_buffer.guards_intact() && average_buffer.guards_intact());
    const std::vector<float> after = average_buffer.get();
    for (size_t i = 0; i < after.size(); ++i) ASSERT_EQ(after[i], i % 3 == 0 ? before[i] : before[i] + 0.25f * (values[i] - before[i]));
  }
}

class BalanceArguments : public ::testing::Test {
 protected:
  static constexpr int64_t kSize = 4096;

  BalanceArguments()
      : gradients_(device_, std::vector<float>(kSize, 1.0f)),
        weights_(device_, std::vector<float>(8, 1.0f)),
        output_(device_, kSize),
        gram_(device_, 64),
        workspace_(device_, kSize) {}

  template <class Args, class Change>
  void refused(cudamoe_status (*operation)(cudamoe_stream*, const Args*), const Args& good, const char* words, Change&& change) {
    Args args = good;
    change(args);
    CUDAMOE_EXPECT_REFUSED(operation(device_.stream(), &args), words);
  }
  template <class T>
  static T* shifted(T* pointer, int64_t bytes) {
    return reinterpret_cast<T*>(reinterpret_cast<intptr_t>(pointer) + bytes);
  }

  TestDevice device_;
  Buffer<float> gradients_, weights_, output_;
  Buffer<double> gram_;
  Workspace workspace_;
};

TEST_F(BalanceArguments, Gram) {
  cudamoe_balance_gram_args good{};
  good.struct_size = sizeof good;
  good.tasks = 3;
  good.rows = 4;
  good.width = 5;
  good.gradients = gradients_.data();
  good.task_stride = 20;
  good.row_stride = 5;
  good.gram = gram_.data();
  good.workspace = workspace_.data();
  good.workspace_bytes = kSize;
  CUDAMOE_ASSERT_OK(cudamoe_balance_gram(device_.stream(), &good));
  const auto bad = [&](const char* words, auto&& change) { refused(cudamoe_balance_gram, good, words, change); };
  CUDAMOE_EXPECT_REFUSED(cudamoe_balance_gram(nullptr, &good), "stream is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_balance_gram(device_.stream(), nullptr), "args is null");
  bad("struct_size", [](auto& a) { a.struct_size = 4; });
  bad("tasks is 0", [](auto& a) { a.tasks = 0; });
  bad("tasks is 65", [](auto& a) { a.tasks = 65; });
  bad("rows is -1", [](auto& a) { a.rows = -1; });
  bad("width is -1", [](auto& a) { a.width = -1; });
  bad("row_stride is 4", [](auto& a) { a.row_stride = 4; });
  bad("task_stride is -1", [](auto& a) { a.task_stride = -1; });
  bad("exceed", [](auto& a) { a.rows = int64_t{1} << 40, a.row_stride = int64_t{1} << 40; });
  bad("gradients is null", [](auto& a) { a.gradients = nullptr; });
  bad("gradients is 0x", [](auto& a) { a.gradients = shifted(a.gradients, 1); });
  bad("gram is null", [](auto& a) { a.gram = nullptr; });
  bad("gram is 0x", [](auto& a) { a.gram = shifted(a.gram, 4); });
  bad("workspace is null", [](auto& a) { a.workspace = nullptr; });
  bad("workspace_bytes is 3", [](auto& a) { a.workspace_bytes = 3; });
  bad("overlaps", [&](auto& a) { a.gram = reinterpret_cast<double*>(gradients_.data()); });
  bad("overlaps", [&](auto& a) { a.workspace = gradients_.data(); });
  int64_t bytes = 0;
  CUDAMOE_EXPECT_REFUSED(cudamoe_balance_gram_workspace(device_.stream(), &good, nullptr), "bytes is null");
  good.tasks = -1;
  CUDAMOE_EXPECT_REFUSED(cudamoe_balance_gram_workspace(device_.stream(), &good, &bytes), "tasks is -1");
}

TEST_F(BalanceArguments, FactoredGram) {
  const std::vector<int64_t> starts{0, 3, 5};
  cudamoe_balance_factored_gram_args good{};
  good.struct_size = sizeof good;
  good.tasks = 2;
  good.starts = starts.data();
  good.gradient_products = gradients_.data();
  good.gradient_products_row_stride = 5;
  good.weight_products = gradients_.data();
  good.weight_products_row_stride = 6;
  good.gram = gram_.data();
  CUDAMOE_ASSERT_OK(cudamoe_balance_factored_gram(device_.stream(), &good));
  const auto bad = [&](const char* words, auto&& change) { refused(cudamoe_balance_factored_gram, good, words, change); };
  const std::vector<int64_t> late{1, 3, 5}, descending{0, 6, 5}, huge{0, 1, int64_t{1} << 50};
  bad("struct_size", [](auto& a) { a.struct_size = 4; });
  bad("tasks is 65", [](auto& a) { a.tasks = 65; });
  bad("starts is null", [](auto& a) { a.starts = nullptr; });
  bad("starts[0] is 1", [&](auto& a) { a.starts = late.data(); });
  bad("starts[2] is 5 after 6", [&](auto& a) { a.starts = descending.data(); });
  bad("starts[2] is", [&](auto& a) { a.starts = huge.data(); });
  bad("gradient_products_row_stride is 4", [](auto& a) { a.gradient_products_row_stride = 4; });
  bad("weight_products_row_stride is 4", [](auto& a) { a.weight_products_row_stride = 4; });
  bad("gradient_products is null", [](auto& a) { a.gradient_products = nullptr; });
  bad("weight_products is 0x", [](auto& a) { a.weight_products = shifted(a.weight_products, 2); });
  bad("gram is null", [](auto& a) { a.gram = nullptr; });
  bad("overlaps", [&](auto& a) { a.gram = reinterpret_cast<double*>(gradients_.data()); });
}

TEST_F(BalanceArguments, Combine) {
  cudamoe_balance_combine_args good{};
  good.struct_size = sizeof good;
  good.tasks = 3;
  good.rows = 4;
  good.width = 5;
  good.gradients = gradients_.data();
  good.task_stride = 20;
  good.row_stride = 5;
  good.weights = weights_.data();
  good.output = output_.data();
  good.output_row_stride = 5;
  CUDAMOE_ASSERT_OK(cudamoe_balance_combine(device_.stream(), &good));
  const auto bad = [&](const char* words, auto&& change) { refused(cudamoe_balance_combine, good, words, change); };
  bad("struct_size", [](auto& a) { a.struct_size = 4; });
  bad("tasks is 0", [](auto& a) { a.tasks = 0; });
  bad("accumulate is 2", [](auto& a) { a.accumulate = 2; });
  bad("reserved is 1", [](auto& a) { a.reserved = 1; });
  bad("weights is null", [](auto& a) { a.weights = nullptr; });
  bad("output is null", [](auto& a) { a.output = nullptr; });
  bad("output is 0x", [](auto& a) { a.output = shifted(a.output, 3); });
  bad("output_row_stride is 4", [](auto& a) { a.output_row_stride = 4; });
  bad("row_stride is 4", [](auto& a) { a.row_stride = 4; });
  bad("gradients is null", [](auto& a) { a.gradients = nullptr; });
  bad("overlaps", [&](auto& a) { a.output = gradients_.data() + 20; });
  bad("overlaps weights", [&](auto& a) { a.output = weights_.data(); });
  bad("output_row_stride is 6; it must be row_stride, 5", [&](auto& a) { a.output = gradients_.data(), a.output_row_stride = 6; });
  bad("accumulate is 1", [&](auto& a) { a.output = gradients_.data(), a.accumulate = 1; });
  bad("overlaps those of other tasks", [&](auto& a) { a.output = gradients_.data(), a.task_stride = 7; });
}

TEST_F(BalanceArguments, Columns) {
  cudamoe_balance_columns_args good{};
  good.struct_size = sizeof good;
  good.tasks = 3;
  good.rows = 600;
  good.width = 2;
  good.gradients = gradients_.data();
  good.task_stride = 2;
  good.row_stride = 6;
  good.values = output_.data();
  good.values_row_stride = 2;
  good.parts = 2;
  good.sums = gram_.data();
  good.workspace = workspace_.data();
  good.workspace_bytes = kSize;
  CUDAMOE_ASSERT_OK(cudamoe_balance_columns(device_.stream(), &good));
  const auto bad = [&](const char* words, auto&& change) { refused(cudamoe_balance_columns, good, words, change); };
  bad("struct_size", [](auto& a) { a.struct_size = 4; });
  bad("tasks is 65", [](auto& a) { a.tasks = 65; });
  bad("rows is -1", [](auto& a) { a.rows = -1; });
  bad("row_stride is 1", [](auto& a) { a.row_stride = 1; });
  bad("parts is 0", [](auto& a) { a.parts = 0; });
  bad("parts is 3", [](auto& a) { a.parts = 3; });
  bad("reserved is 1", [](auto& a) { a.reserved = 1; });
  bad("gradients is null", [](auto& a) { a.gradients = nullptr; });
  bad("sums is null", [](auto& a) { a.sums = nullptr; });
  bad("sums is 0x", [](auto& a) { a.sums = shifted(a.sums, 4); });
  bad("values is 0x", [](auto& a) { a.values = shifted(a.values, 2); });
  bad("values_row_stride is 1", [](auto& a) { a.values_row_stride = 1; });
  bad("values_task_stride is -1", [](auto& a) { a.values_task_stride = -1; });
  bad("overlaps", [&](auto& a) { a.sums = reinterpret_cast<double*>(gradients_.data()); });
  bad("overlaps", [&](auto& a) { a.sums = reinterpret_cast<double*>(output_.data()); });
  good.parts = 0;
  int64_t bytes = 0;
  CUDAMOE_EXPECT_REFUSED(cudamoe_balance_columns_workspace(device_.stream(), &good, &bytes), "parts is 0");
}

TEST_F(BalanceArguments, Scale) {
  cudamoe_balance_scale_args good{};
  good.struct_size = sizeof good;
  good.tasks = 3;
  good.rows = 4;
  good.width = 2;
  good.gradients = gradients_.data();
  good.task_stride = 8;
  good.row_stride = 2;
  good.factors = weights_.data();
  CUDAMOE_ASSERT_OK(cudamoe_balance_scale(device_.stream(), &good));
  const auto bad = [&](const char* words, auto&& change) { refused(cudamoe_balance_scale, good, words, change); };
  bad("struct_size", [](auto& a) { a.struct_size = 4; });
  bad("tasks is 0", [](auto& a) { a.tasks = 0; });
  bad("gradients is null", [](auto& a) { a.gradients = nullptr; });
  bad("factors is null", [](auto& a) { a.factors = nullptr; });
  bad("task_stride is 7; the gradients of the tasks must not overlap", [](auto& a) { a.task_stride = 7; });
  bad("overlaps", [&](auto& a) { a.factors = gradients_.data() + 3; });
}

TEST_F(BalanceArguments, Average) {
  cudamoe_balance_average_args good{};
  good.struct_size = sizeof good;
  good.rate = 0.5f;
  good.count = 8;
  good.values = gradients_.data();
  good.averages = weights_.data();
  CUDAMOE_ASSERT_OK(cudamoe_balance_average(device_.stream(), &good));
  const auto bad = [&](const char* words, auto&& change) { refused(cudamoe_balance_average, good, words, change); };
  bad("struct_size", [](auto& a) { a.struct_size = 4; });
  bad("rate is 1.5", [](auto& a) { a.rate = 1.5f; });
  bad("rate is nan", [](auto& a) { a.rate = std::numeric_limits<float>::quiet_NaN(); });
  bad("count is -1", [](auto& a) { a.count = -1; });
  bad("values is null", [](auto& a) { a.values = nullptr; });
  bad("averages is null", [](auto& a) { a.averages = nullptr; });
  bad("overlaps", [&](auto& a) { a.averages = gradients_.data() + 7; });
}

}  // namespace
}  // namespace cudamoe::test
