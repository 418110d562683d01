#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <utility>

#include "gemm/problem.h"

namespace cudamoe::test {
namespace {

struct Options {
  int32_t x_dtype = CUDAMOE_F32, packed_dtype = CUDAMOE_F32, y_dtype = CUDAMOE_F32;
  int32_t activation = CUDAMOE_ACTIVATION_NONE;
  bool bias = false, preactivation = false, accumulate = false, shared_x = false;
  bool aligned = false;  // rows of x, y and the values before the activation begin at multiples of 16 bytes
  Data data = Data::kReals;
};

// Rounds as the matrix that holds the result does.
double as_stored(double value, int32_t dtype) {
  return dtype == CUDAMOE_BF16 ? from_bf16(to_bf16(static_cast<float>(value))) : static_cast<float>(value);
}

// Runs the problem and compares with the reference: bitwise for integers, else within the bound of its type.
void check_forward(TestDevice& device, Random& random, GemmShape shape, const Options& options) {
  SCOPED_TRACE(shape.text() + ", types " + std::to_string(options.x_dtype) + std::to_string(options.packed_dtype) +
               std::to_string(options.y_dtype) + ", activation " + std::to_string(options.activation) + (options.bias ? ", bias" : "") +
               (options.preactivation ? ", preactivation" : "") + (options.accumulate ? ", accumulate" : ""));
  shape.choose_rows(random);
  const int64_t x_groups = options.shared_x ? 1 : shape.strided_groups();
  const auto layout = [&](int64_t groups, int64_t rows, int64_t width) {
    return options.aligned ? Matrix::tight(groups, rows, width) : Matrix::loose(random, groups, rows, width);
  };
  const auto misaligned = [&] { return options.aligned ? 0 : random.integer(0, 3); };
  Matrix x(device, options.x_dtype, layout(x_groups, shape.x_rows, shape.k), misaligned());
  x.fill(random_values(random, options.data, x.layout().elements()));
  const PackedWeights weights(device, random, shape, 0, options.packed_dtype, options.data);
  Matrix y(device, options.y_dtype, layout(shape.strided_groups(), shape.rows, shape.n), misaligned());
  if (options.accumulate) y.fill(random_values(random, options.data, y.layout().elements()));
  Matrix before(device, options.y_dtype, y.layout(), misaligned());
  Matrix bias(device, CUDAMOE_F32, {shape.groups, 1, shape.n, shape.n, shape.n + random.integer(0, 2)});
  bias.fill(random_values(random, options.data, bias.layout().elements()));
  const Buffer<int64_t> offsets(device, shape.offsets);
  const Buffer<int32_t> gather(device, shape.sources);
  std::vector<double> y_old;
  const std::vector<reference::GemmRow> rows = shape.all_rows();
  for (const auto& row : rows) {
    for (int64_t j = 0; j < shape.n; ++j) y_old.push_back(options.accumulate ? y.at(row.group, row.row, j) : 0.0);
  }

  cudamoe_gemm_forward_args args{};
  args.struct_size = sizeof args;
  args.groups = static_cast<int32_t>(shape.groups);
  args.rows = shape.rows;
  args.n = shape.n;
  args.k = shape.k;
  args.offsets = shape.ragged ? offsets.data() : nullptr;
  args.gather = shape.gather ? gather.data() : nullptr;
  args.x_rows = shape.x_rows;
  args.x = x.data();
  args.x_row_stride = x.layout().row_stride;
  args.x_group_stride = options.shared_x ? 0 : x.layout().group_stride;
  args.packed = weights.data();
  args.bias = options.bias ? static_cast<const float*>(bias.data()) : nullptr;
  args.bias_group_stride = bias.layout().group_stride;
  args.y = y.data();
  args.y_row_stride = y.layout().row_stride;
  args.y_group_stride = y.layout().group_stride;
  args.preactivation = options.preactivation ? before.data() : nullptr;
  args.x_dtype = options.x_dtype;
  args.packed_dtype = options.packed_dtype;
  args.y_dtype = options.y_dtype;
  args.activation = options.activation;
  args.activation_slope = 0.25f;
  args.accumulate = options.accumulate;
  const Workspace workspace = make_workspace(device, args, cudamoe_gemm_forward_workspace);
  CUDAMOE_ASSERT_OK(cudamoe_gemm_forward(device.stream(), &args));
  CUDAMOE_ASSERT_OK(cudamoe_stream_synchronize(device.stream()));
  y.refresh();
  before.refresh();

  // With bf16 weights f32 rows are rounded to bf16 too.
  const reference::Operand x_values = x.operand(options.packed_dtype == CUDAMOE_BF16), w_values = weights.operand();
  std::vector<double> y_want, y_have, before_want, before_have;
  const bool few = rows.size() * static_cast<size_t>(shape.n) < 100;
  double squares = 0;  // of all terms, of few outputs
  size_t at = 0;
  for (const auto& row : rows) {
    for (int64_t j = 0; j < shape.n; ++j, ++at) {
      double value = reference::forward_product(row, j, shape.k, x_values, w_values);
      if (options.bias) value += bias.at(row.group, 0, j);
      if (few) {
        squares += reference::squares_of_terms(row, j, shape.k, x_values, w_values) + y_old[at] * y_old[at];
        if (options.bias) squares += bias.at(row.group, 0, j) * bias.at(row.group, 0, j);
      }
      before_want.push_back(as_stored(value, options.y_dtype));
      before_have.push_back(before.at(row.group, row.row, j));
      y_want.push_back(as_stored(reference::activate(options.activation, value, 0.25) + y_old[at], options.y_dtype));
      y_have.push_back(y.at(row.group, row.row, j));
      y.expect_written(row.group, row.row, j);
      if (options.preactivation) before.expect_written(row.group, row.row, j);
    }
  }
  const bool exact = options.data == Data::kIntegers && options.activation <= CUDAMOE_ACTIVATION_LEAKY_RELU;
  const double bound = exact                                                                     ? 0
                       : options.y_dtype == CUDAMOE_BF16 || options.packed_dtype == CUDAMOE_BF16 ? kBf16Bound
                                                                                                 : f32_bound(shape.k);
  EXPECT_LE(relative_error(y_have, y_want, std::sqrt(squares)), bound);
  if (options.preactivation) {
    EXPECT_LE(relative_error(before_have, before_want, std::sqrt(squares)), options.data == Data::kIntegers ? 0 : bound);
  }
  EXPECT_TRUE(y.others_unchanged());
  EXPECT_TRUE(before.others_unchanged());
  EXPECT_TRUE(x.guards_intact() && y.guards_intact() && before.guards_intact() && workspace.guards_intact());
}

GemmShape random_shape(Random& random, int64_t most) {
  GemmShape shape;
  shape.groups = random.integer(1, 5);
  shape.rows = random.integer(0, most);
  shape.n = random.integer(1, most);
  shape.k = random.integer(1, most);
  shape.ragged = random.coin();
  shape.gather = shape.ragged && random.coin();
  return shape;
}

Options random_options(Random& random, Data data) {
  Options options;
  options.x_dtype = static_cast<int32_t>(random.integer(0, 1));
  options.packed_dtype = static_cast<int32_t>(random.integer(0, 1));
  options.y_dtype = static_cast<int32_t>(random.integer(0, 1));
  options.accumulate = random.integer(0, 3) == 0;
  options.activation = options.accumulate ? 0 : static_cast<int32_t>(random.integer(0, 6));
  options.bias = random.coin();
  options.preactivation = !options.accumulate && random.coin();
  options.data = data;
  return options;
}

TEST(GemmForward, SmallIntegersAreExactInEveryCombination) {
  Random random(11);
  for (const std::string& spec : gemm_device_specs(3)) {
    TestDevice device(spec);
    for (int i = 0; i < random_cases(400); ++i)
      check_forward(device, random, random_shape(random, 40), random_options(random, Data::kIntegers));
  }
}

TEST(GemmForward, EveryHeightAndWidthOfATile) {
  Random random(12);
  for (const std::string& spec : gemm_device_specs(1)) {
    TestDevice device(spec);
    Options options;
    options.data = Data::kIntegers;
    options.bias = true;
    for (int64_t rows = 0; rows <= 30; rows += test_device_is_slow() ? 5 : 1) {
      for (int64_t n : test_device_is_slow() ? std::vector<int64_t>{1, 7, 8, 33, 64, 129}
                                             : std::vector<int64_t>{1, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 127, 129, 200}) {
        GemmShape shape{.groups = 1, .rows = rows, .n = n, .k = 5};
        options.activation = rows % 2 == 0 ? CUDAMOE_ACTIVATION_RELU : CUDAMOE_ACTIVATION_NONE;
        options.packed_dtype = n % 2 == 0 ? CUDAMOE_F32 : CUDAMOE_BF16;
        check_forward(device, random, shape, options);
      }
    }
  }
}

TEST(GemmForward, RealsAreWithinTheBound) {
  Random random(13);
  for (const std::string& spec : gemm_device_specs(2)) {
    TestDevice device(spec);
    for (int i = 0; i < random_cases(60); ++i)
      check_forward(device, random, random_shape(random, test_device_is_slow() ? 90 : 150), random_options(random, Data::kReals));
  }
}

TEST(GemmForward, DeepProductsAreCutIntoBlocks) {
  Random random(14);
  for (const std::string& spec : gemm_device_specs(2)) {
    TestDevice device(spec);
    for (int64_t k :
         test_device_is_slow() ? std::vector<int64_t>{33, 257} : std::vector<int64_t>{255, 256, 257, 512, 513, 1100, 2051, 4100}) {
      for (const Data data : {Data::kIntegers, Data::kReals}) {
        Options options = random_options(random, data);
        check_forward(device, random, {.groups = 2, .rows = 131, .n = 37, .k = k}, options);
        options.accumulate = false;
        options.packed_dtype = CUDAMOE_BF16;
        check_forward(device, random, {.groups = 3, .rows = 131, .n = 70, .k = k, .ragged = true, .gather = true}, options);
        check_forward(device, random, {.groups = 1, .rows = 2, .n = 530, .k = k}, random_options(random, data));
        check_forward(device, random, {.groups = 1, .rows = 1, .n = 600, .k = k}, random_options(random, data));
      }
    }
  }
}

// Several tiles on one thread, and panels of more than half a mebibyte.
// Of the cpu alone, whatever device the suite is run for.
TEST(CpuProducts, WideAndDeepOnesGoInPasses) {
  Random random(21);
  TestDevice device("cpu:threads=1");
  for (const Data data : {Data::kIntegers, Data::kReals}) {
    Options plain;
    plain.data = data;
    for (const bool gather : {false, true}) {
      check_forward(device, random, {.groups = 2, .rows = 63, .n = 430, .k = 330, .ragged = true, .gather = gather}, plain);
      check_forward(device, random, {.groups = 2, .rows = 63, .n = 430, .k = 330, .ragged = true, .gather = gather},
                    random_options(random, data));
    }
    check_forward(device, random, {.groups = 1, .rows = 31, .n = 300, .k = 1030}, plain);
    check_forward(device, random, {.groups = 1, .rows = 31, .n = 300, .k = 1030}, random_options(random, data));
    // Rows of bf16, read where they lie when their stride allows pairs, else copied.
    Options bf16 = plain;
    bf16.x_dtype = bf16.packed_dtype = CUDAMOE_BF16;
    for (const bool aligned : {false, true}) {
      bf16.aligned = aligned;
      for (const auto& [rows, k] : {std::pair<int64_t, int64_t>{63, 660}, {17, 2060}, {9, 2061}})
        check_forward(device, random, {.groups = 2, .rows = rows, .n = 300, .k = k}, bf16);
    }
  }
}

// Rows 4 KiB and more apart, which fall into one set of the first-level cache.
TEST(CpuProducts, RowsWholePagesApart) {
  Random random(25);
  TestDevice device("cpu:threads=2");
  for (const int64_t k : {1024, 2048}) {
    for (const Data data : {Data::kIntegers, Data::kReals}) {
      Options plain;
      plain.data = data;
      for (Options options : {plain, random_options(random, data)}) {
        options.aligned = true;
        check_forward(device, random, {.groups = 2, .rows = 45, .n = 40, .k = k}, options);
        check_forward(device, random, {.groups = 1, .rows = 3, .n = 300, .k = k}, options);
        check_forward(device, random, {.groups = 3, .rows = 70, .n = 33, .k = k, .ragged = true}, options);
      }
    }
  }
}

TEST(GemmForward, OneColumnIsADotProduct) {
  Random random(22);
  TestDevice device("cpu:threads=2");
  for (int64_t k : {1, 15, 16, 17, 64, 429, 1024, 1025}) {
    for (int64_t rows : {1, 7, 8, 9, 65, 600}) {
      for (const Data data : {Data::kIntegers, Data::kReals}) {
        check_forward(device, random, {.groups = 2, .rows = rows, .n = 1, .k = k}, random_options(random, data));
        check_forward(device, random, {.groups = 3, .rows = rows, .n = 1, .k = k, .ragged = true, .gather = true},
                      random_options(random, data));
      }
    }
  }
}

// What a GPU copies into its tiles as it lies: few rows, some, many.
TEST(GemmForward, OperandsInPlaceInEveryTile) {
  Random random(23);
  for (const std::string& spec : gemm_device_specs(2)) {
    TestDevice device(spec);
    for (const auto& [x_dtype, packed_dtype] :
         {std::pair{CUDAMOE_F32, CUDAMOE_F32}, {CUDAMOE_F32, CUDAMOE_BF16}, {CUDAMOE_BF16, CUDAMOE_BF16}}) {
      for (const Data data : {Data::kIntegers, Data::kReals}) {
        Options options;
        options.x_dtype = options.y_dtype = x_dtype;
        options.packed_dtype = packed_dtype;
        options.bias = options.aligned = true;
        options.data = data;
        check_forward(device, random, {.groups = 2, .rows = 16, .n = 70, .k = 75}, options);
        check_forward(device, random, {.groups = 1, .rows = 50, .n = 33, .k = 64}, options);
        check_forward(device, random, {.groups = 2, .rows = 260, .n = 136, .k = 40}, options);
        check_forward(device, random, {.groups = 3, .rows = 700, .n = 66, .k = 23, .ragged = true, .gather = true}, options);
      }
    }
  }
}

// Row tiles of every kind, whole and partial column tiles, with all that may be done to the sums, in rows that allow wide accesses.
TEST(GemmForward, AlignedRowsInEveryTile) {
  Random random(24);
  for (const std::string& spec : gemm_device_specs(2)) {
    TestDevice device(spec);
    for (int i = 0; i < random_cases(60); ++i) {
      Options options = random_options(random, i % 2 == 0 ? Data::kIntegers : Data::kReals);
      options.aligned = true;
      if (i % 3 != 0) {
        options.packed_dtype = CUDAMOE_BF16;
        options.activation = options.accumulate ? 0 : static_cast<int32_t>(random.integer(0, 2));
        options.preactivation = options.preactivation && random.coin();
      }
      const int64_t n = 64 * random.integer(1, 3) + random.integer(0, 2) * 8;
      const GemmShape few{.groups = 1, .rows = 150, .n = n, .k = 96};
      const GemmShape deep{.groups = 3, .rows = 260, .n = n, .k = 8 * random.integer(1, 45), .ragged = true, .gather = i % 4 == 1};
      check_forward(device, random, i % 2 == 0 ? few : deep, options);
    }
    // Low tiles and, where there are as many rows as make them the best ones, tall ones, narrow and wide; depths that a ring of slabs
    // holds, that it does not, and that end within 16 bytes.
    for (const int32_t x_dtype : {CUDAMOE_F32, CUDAMOE_BF16}) {
      Options options;
      options.x_dtype = x_dtype;
      options.packed_dtype = CUDAMOE_BF16;
      options.aligned = true;
      const int64_t part = x_dtype == CUDAMOE_F32 ? 4 : 8;
      check_forward(device, random, {.groups = 1, .rows = 1000, .n = 48, .k = 32 + part}, options);
      check_forward(device, random, {.groups = 1, .rows = 1000, .n = 136, .k = 32 + part, .ragged = true, .gather = true}, options);
      check_forward(device, random, {.groups = 2, .rows = 100, .n = 48, .k = 256 + part, .ragged = true, .gather = true}, options);
      check_forward(device, random, {.groups = 2, .rows = 100, .n = 136, .k = 64}, options);
    }
  }
}

TEST(GemmForward, GroupsMayShareX) {
  Random random(15);
  TestDevice device;
  Options options;
  options.shared_x = true;
  options.data = Data::kIntegers;
  check_forward(device, random, {.groups = 4, .rows = 33, .n = 20, .k = 18}, options);
}

TEST(GemmForward, AllRowsInOneGroupAndEmptyGroups) {
  Random random(16);
  for (const std::string& spec : gemm_device_specs(2)) {
    TestDevice device(spec);
    Options options;
    options.data = Data::kIntegers;
    options.bias = true;
    GemmShape shape{.groups = 5, .rows = 40, .n = 9, .k = 7, .ragged = true};
    for (const std::vector<int64_t>& offsets : {std::vector<int64_t>{0, 0, 0, 40, 40, 40},
                                                {0, 0, 0, 0, 0, 0},
                                                {0, 40, 40, 40, 40, 40},
                                                {0, 1, 2, 3, 4, 5},
                                                {0, 13, 27, 28, 28, 39}}) {
      shape.offsets = offsets;
      check_forward(device, random, shape, options);
    }
    shape = {.groups = 3, .rows = 0, .n = 9, .k = 7, .ragged = true};
    shape.offsets = {0, 0, 0, 0};
    check_forward(device, random, shape, options);
  }
}

// y of one row of x, for each way of finishing.
std::vector<float> one_row(TestDevice& device, const std::vector<float>& x_values, int32_t activation, const PackedWeights& weights,
                           int64_t n, int64_t rows) {
  const auto k = static_cast<int64_t>(x_values.size()) / rows;
  const Buffer<float> x(device, x_values);
  const Buffer<float> y(device, rows * n);
  cudamoe_gemm_forward_args args{};
  args.struct_size = sizeof args;
  args.groups = 1;
  args.rows = rows;
  args.n = n;
  args.k = k;
  args.x = x.data();
  args.x_row_stride = k;
  args.packed = weights.data();
  args.y = y.data();
  args.y_row_stride = n;
  args.activation = activation;
  args.activation_slope = 0.1f;
  const Workspace workspace = make_workspace(device, args, cudamoe_gemm_forward_workspace);
  EXPECT_EQ(cudamoe_gemm_forward(device.stream(), &args), CUDAMOE_OK) << last_error();
  return y.get();
}

TEST(GemmForward, NanAndInfinityPropagate) {
  Random random(17);
  TestDevice device;
  const GemmShape shape{.groups = 1, .rows = 3, .n = 35, .k = 20};
  const PackedWeights weights(device, random, shape, 0, CUDAMOE_F32, Data::kReals);
  for (int32_t activation = CUDAMOE_ACTIVATION_NONE; activation <= CUDAMOE_ACTIVATION_TANH; ++activation) {
    std::vector<float> x = random.reals(3 * 20);
    x[20 + 7] = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> y = one_row(device, x, activation, weights, 35, 3);
    for (size_t j = 0; j < 35; ++j) {
      EXPECT_FALSE(std::isnan(y[j])) << activation;
      EXPECT_TRUE(std::isnan(y[35 + j])) << activation;
      EXPECT_FALSE(std::isnan(y[70 + j])) << activation;
    }
  }
}

TEST(GemmForward, ARowDoesNotDependOnItsNeighbours) {
  Random random(18);
  TestDevice one(gemm_device_specs(1).back()), three(gemm_device_specs(3).back());
  for (int64_t k : {64, 300}) {
    const GemmShape shape{.groups = 1, .rows = 1, .n = 129, .k = k};
    Random same(19), also(19);
    const PackedWeights weights_one(one, same, shape, 0, CUDAMOE_F32, Data::kReals),
        weights_three(three, also, shape, 0, CUDAMOE_F32, Data::kReals);
    const std::vector<float> x = random.reals(200 * k);
    const std::vector<float> all = one_row(three, x, CUDAMOE_ACTIVATION_GELU, weights_three, 129, 200);
    for (int64_t row = 0; row < 200; row += 7) {
      for (int64_t rows : {1, 2, 3, 5}) {
        if (row + rows > 200) continue;
        const std::vector<float> some =
            one_row(one, {x.begin() + row * k, x.begin() + (row + rows) * k}, CUDAMOE_ACTIVATION_GELU, weights_one, 129, rows);
        EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin() + row * 129)) << "row " << row << " with " << rows;
      }
    }
  }
}

TEST(GemmForward, BadGatherAndOffsetsAreReported) {
  Random random(20);
  TestDevice device;
  const GemmShape shape{.groups = 2, .rows = 6, .n = 5, .k = 4};
  const PackedWeights weights(device, random, shape, 0, CUDAMOE_F32, Data::kReals);
  const Buffer<float> x(device, random.reals(6 * 4)), y(device, 6 * 5);
  Buffer<int64_t> offsets(device, std::vector<int64_t>{0, 3, 6});
  Buffer<int32_t> gather(device, std::vector<int32_t>{0, 1, 6, 3, 4, 5});
  cudamoe_gemm_forward_args args{};
  args.struct_size = sizeof args;
  args.groups = 2;
  args.rows = 6;
  args.n = 5;
  args.k = 4;
  args.offsets = offsets.data();
  args.gather = gather.data();
  args.x_rows = 6;
  args.x = x.data();
  args.x_row_stride = 4;
  args.packed = weights.data();
  args.y = y.data();
  args.y_row_stride = 5;
  const Workspace workspace = make_workspace(device, args, cudamoe_gemm_forward_workspace);
  CUDAMOE_EXPECT_OK(cudamoe_gemm_forward(device.stream(), &args));
  EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_ERROR_REPORTED);
  EXPECT_NE(last_error().find("gather[2] is 6; x has 6 rows"), std::string::npos) << last_error();
  EXPECT_EQ(y.get()[10], 0.0f);
  for (const std::vector<int64_t>& bad : {std::vector<int64_t>{1, 3, 6}, {0, 4, 3}, {0, 3, 7}, {0, -1, 6}}) {
    offsets.set(bad);
    CUDAMOE_EXPECT_OK(cudamoe_gemm_forward(device.stream(), &args));
    EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_ERROR_REPORTED);
    EXPECT_NE(last_error().find("offsets["), std::string::npos) << last_error();
  }
}

}  // namespace
}  // namespace cudamoe::test
