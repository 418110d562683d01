#include <gtest/gtest.h>

#include <limits>

#include "gemm/problem.h"

namespace cudamoe::test {
namespace {

struct Options {
  int32_t dz_dtype = CUDAMOE_F32, x_dtype = CUDAMOE_F32, compute_dtype = CUDAMOE_F32;
  bool bias = false, accumulate = false, shared_x = false;
  Data data = Data::kReals;
  int64_t dz_row_stride = 0, x_row_stride = 0;  // not 0: aligned matrices with these strides
};

Matrix::Layout layout_of(Random& random, int64_t groups, int64_t rows, int64_t width, int64_t row_stride) {
  return row_stride == 0 ? Matrix::loose(random, groups, rows, width) : Matrix::Layout{groups, rows, width, row_stride, rows * row_stride};
}

void check_wgrad(TestDevice& device, Random& random, GemmShape shape, const Options& options) {
  SCOPED_TRACE(shape.text() + ", types " + std::to_string(options.dz_dtype) + std::to_string(options.x_dtype) +
               std::to_string(options.compute_dtype) + (options.bias ? ", bias" : "") + (options.accumulate ? ", accumulate" : ""));
  shape.choose_rows(random);
  Matrix dz(device, options.dz_dtype, layout_of(random, shape.strided_groups(), shape.rows, shape.n, options.dz_row_stride),
            options.dz_row_stride == 0 ? random.integer(0, 3) : 0);
  dz.fill(random_values(random, options.data, dz.layout().elements()));
  Matrix x(device, options.x_dtype,
           layout_of(random, options.shared_x ? 1 : shape.strided_groups(), shape.x_rows, shape.k, options.x_row_stride),
           options.x_row_stride == 0 ? random.integer(0, 3) : 0);
  x.fill(random_values(random, options.data, x.layout().elements()));
  const int64_t row_stride = shape.k + random.integer(0, 3);
  Matrix dw(device, CUDAMOE_F32, {shape.groups, shape.n, shape.k, row_stride, shape.n * row_stride + random.integer(0, 3)},
            random.integer(0, 3));
  Matrix dbias(device, CUDAMOE_F32, {shape.groups, 1, shape.n, shape.n, shape.n + random.integer(0, 3)}, random.integer(0, 3));
  if (options.accumulate) {
    dw.fill(random_values(random, options.data, dw.layout().elements()));
    dbias.fill(random_values(random, options.data, dbias.layout().elements()));
  }
  const Buffer<int64_t> offsets(device, shape.offsets);
  const Buffer<int32_t> gather(device, shape.sources);
  const std::vector<reference::GemmRow> rows = shape.all_rows();

  const bool round = options.compute_dtype == CUDAMOE_BF16;
  const reference::Operand dz_values = dz.operand(round), x_values = x.operand(round);
  std::vector<double> dw_want, dw_have, dbias_want, dbias_have;
  for (int64_t group = 0; group < shape.groups; ++group) {
    for (int64_t j = 0; j < shape.n; ++j) {
      for (int64_t t = 0; t < shape.k; ++t) {
        const double old = options.accumulate ? dw.at(group, j, t) : 0;
        dw_want.push_back(old + reference::wgrad_sum(rows, group, j, t, dz_values, &x_values));
      }
      dbias_want.push_back((options.accumulate ? dbias.at(group, 0, j) : 0) + reference::wgrad_sum(rows, group, j, 0, dz_values, nullptr));
    }
  }

  cudamoe_gemm_wgrad_args args{};
  args.struct_size = sizeof args;
  args.groups = static_cast<int32_t>(shape.groups);
  args.rows = shape.rows;
  args.n = shape.n;
  args.k = shape.k;
  args.offsets = shape.ragged ? offsets.data() : nullptr;
  args.gather = shape.gather ? gather.data() : nullptr;
  args.x_rows = shape.x_rows;
  args.dz = dz.data();
  args.dz_row_stride = dz.layout().row_stride;
  args.dz_group_stride = dz.layout().group_stride;
  args.x = x.data();
  args.x_row_stride = x.layout().row_stride;
  args.x_group_stride = options.shared_x ? 0 : x.layout().group_stride;
  args.dw = static_cast<float*>(dw.data());
  args.dw_row_stride = dw.layout().row_stride;
  args.dw_group_stride = dw.layout().group_stride;
  args.dbias = options.bias ? static_cast<float*>(dbias.data()) : nullptr;
  args.dbias_group_stride = dbias.layout().group_stride;
  args.dz_dtype = options.dz_dtype;
  args.x_dtype = options.x_dtype;
  args.compute_dtype = options.compute_dtype;
  args.accumulate = options.accumulate;
  const Workspace workspace = make_workspace(device, args, cudamoe_gemm_wgrad_workspace);
  CUDAMOE_ASSERT_OK(cudamoe_gemm_wgrad(device.stream(), &args));
  CUDAMOE_ASSERT_OK(cudamoe_stream_synchronize(device.stream()));
  dw.refresh();
  dbias.refresh();
  for (int64_t group = 0; group < shape.groups; ++group) {
    for (int64_t j = 0; j < shape.n; ++j) {
      for (int64_t t = 0; t < shape.k; ++t) {
        dw_have.push_back(dw.at(group, j, t));
        dw.expect_written(group, j, t);
      }
      if (!options.bias) continue;
      dbias_have.push_back(dbias.at(group, 0, j));
      dbias.expect_written(group, 0, j);
    }
  }
  const double bound = options.data == Data::kIntegers ? 0 : f32_bound(shape.rows);
  EXPECT_LE(relative_error(dw_have, dw_want), bound);
  if (options.bias) {
    EXPECT_LE(relative_error(dbias_have, dbias_want), bound);
  }
  EXPECT_TRUE(dw.others_unchanged());
  EXPECT_TRUE(dbias.others_unchanged());
  EXPECT_TRUE(dz.guards_intact() && x.guards_intact() && dw.guards_intact() && dbias.guards_intact() && workspace.guards_intact());
}

GemmShape random_shape(Random& random, int64_t most) {
  GemmShape shape{
      .groups = random.integer(1, 5), .rows = random.integer(0, most), .n = random.integer(1, most), .k = random.integer(1, most)};
  shape.ragged = random.coin();
  shape.gather = shape.ragged && random.coin();
  return shape;
}

Options random_options(Random& random, Data data) {
  Options options;
  options.dz_dtype = static_cast<int32_t>(random.integer(0, 1));
  options.x_dtype = static_cast<int32_t>(random.integer(0, 1));
  options.compute_dtype = static_cast<int32_t>(random.integer(0, 1));
  options.bias = random.coin();
  options.accumulate = random.coin();
  options.data = data;
  return options;
}

TEST(GemmWgrad, SmallIntegersAreExactInEveryCombination) {
  Random random(41);
  for (const std::string& spec : gemm_device_specs(3)) {
    TestDevice device(spec);
    for (int i = 0; i < random_cases(300); ++i)
      check_wgrad(device, random, random_shape(random, 40), random_options(random, Data::kIntegers));
  }
}

TEST(GemmWgrad, RealsAreWithinTheBound) {
  Random random(42);
  for (const std::string& spec : gemm_device_specs(2)) {
    TestDevice device(spec);
    for (int i = 0; i < random_cases(30); ++i)
      check_wgrad(device, random, random_shape(random, test_device_is_slow() ? 60 : 80), random_options(random, Data::kReals));
  }
}

TEST(GemmWgrad, RowsAreCutIntoChunks) {
  Random random(43);
  for (const std::string& spec : gemm_device_specs(2)) {
    TestDevice device(spec);
    for (int64_t rows : test_device_is_slow() ? std::vector<int64_t>{512, 513, 700}
                                              : std::vector<int64_t>{255, 256, 257, 511, 512, 513, 700, 1024, 1025}) {
      for (const Data data : {Data::kIntegers, Data::kReals}) {
        GemmShape shape{.groups = 2, .rows = rows, .n = random.integer(1, 40), .k = random.integer(1, 70)};
        check_wgrad(device, random, shape, random_options(random, data));
        shape.ragged = shape.gather = true;
        check_wgrad(device, random, shape, random_options(random, data));
      }
    }
  }
}

TEST(GemmWgrad, BlocksOfALargeGradient) {
  Random random(44);
  std::vector<std::string> specs = gemm_device_specs(1);
  if (!test_device_is_slow()) specs.insert(specs.end(), {gemm_device_specs(2)[0], gemm_device_specs(8)[0]});
  for (const std::string& spec : specs) {
    TestDevice device(spec);
    for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{{300, 290}, {1, 300}, {300, 1}, {24, 256}, {3, 600}}) {
      Options options = random_options(random, Data::kIntegers);
      options.bias = true;
      check_wgrad(device, random, {.groups = 1, .rows = 9, .n = n, .k = k}, options);
    }
  }
}

TEST(GemmWgrad, GroupsWithoutRowsGetZerosOrKeepTheirSum) {
  Random random(45);
  TestDevice device;
  for (const bool accumulate : {false, true}) {
    Options options;
    options.data = Data::kIntegers;
    options.bias = true;
    options.accumulate = accumulate;
    GemmShape shape{.groups = 4, .rows = 20, .n = 17, .k = 33, .ragged = true};
    for (const std::vector<int64_t>& offsets : {std::vector<int64_t>{0, 0, 20, 20, 20}, {0, 0, 0, 0, 0}, {0, 5, 5, 6, 11}}) {
      shape.offsets = offsets;
      check_wgrad(device, random, shape, options);
    }
    check_wgrad(device, random, {.groups = 2, .rows = 0, .n = 17, .k = 33}, options);
  }
}

TEST(GemmWgrad, OperandsInPlaceAndCopied) {
  Random random(48);
  for (const std::string& spec : gemm_device_specs(2)) {
    TestDevice device(spec);
    for (int64_t dz_stride : test_device_is_slow() ? std::vector<int64_t>{32, 528} : std::vector<int64_t>{32, 48, 512, 528}) {
      for (int64_t x_stride : test_device_is_slow() ? std::vector<int64_t>{64, 528} : std::vector<int64_t>{64, 80, 512, 528, 1024, 1040}) {
        for (const Data data : {Data::kIntegers, Data::kReals}) {
          Options options;
          options.data = data;
          options.bias = true;
          options.accumulate = data == Data::kIntegers;
          options.dz_row_stride = dz_stride;
          options.x_row_stride = x_stride;
          const int64_t n = random.integer(1, 32);
          check_wgrad(device, random, {.groups = 2, .rows = 261, .n = n, .k = 64}, options);
          check_wgrad(device, random, {.groups = 1, .rows = 261, .n = n, .k = 63}, options);
          check_wgrad(device, random, {.groups = 3, .rows = 300, .n = n, .k = 32, .ragged = true}, options);
        }
      }
    }
  }
}

// What a GPU copies into its tiles as it lies, in both tiles.
TEST(GemmWgrad, OperandsInPlaceInEveryTile) {
  Random random(49);
  for (const std::string& spec : gemm_device_specs(2)) {
    TestDevice device(spec);
    for (const auto& [dtype, compute_dtype] :
         {std::pair{CUDAMOE_F32, CUDAMOE_F32}, {CUDAMOE_F32, CUDAMOE_BF16}, {CUDAMOE_BF16, CUDAMOE_BF16}}) {
      Options options;
      options.dz_dtype = options.x_dtype = dtype;
      options.compute_dtype = compute_dtype;
      options.bias = true;
      options.data = Data::kIntegers;
      options.dz_row_stride = options.x_row_stride = 144;
      check_wgrad(device, random, {.groups = 2, .rows = 100, .n = 131, .k = 140}, options);
      check_wgrad(device, random, {.groups = 3, .rows = 150, .n = 60, .k = 70, .ragged = true, .gather = true}, options);
      for (const int64_t n : {56, 72}) {
        options.dz_row_stride = n;
        for (const int64_t k : {48, 136}) {
          options.x_row_stride = k;
          check_wgrad(device, random, {.groups = 2, .rows = 90, .n = n, .k = k, .ragged = true}, options);
        }
      }
    }
  }
}

TEST(GemmWgrad, GroupsMayShareX) {
  Random random(46);
  TestDevice device;
  Options options;
  options.shared_x = true;
  options.data = Data::kIntegers;
  check_wgrad(device, random, {.groups = 3, .rows = 33, .n = 20, .k = 18}, options);
}

TEST(GemmWgrad, NanPropagatesToItsRowAndColumnOnly) {
  Random random(47);
  TestDevice device;
  std::vector<float> dz_values = random.reals(10 * 3), x_values = random.reals(10 * 5);
  dz_values[4 * 3 + 1] = std::numeric_limits<float>::quiet_NaN();
  x_values[7 * 5 + 2] = std::numeric_limits<float>::quiet_NaN();
  const Buffer<float> dz(device, dz_values), x(device, x_values), dw(device, 15), dbias(device, 3);
  cudamoe_gemm_wgrad_args args{};
  args.struct_size = sizeof args;
  args.groups = 1;
  args.rows = 10;
  args.n = 3;
  args.k = 5;
  args.dz = dz.data();
  args.dz_row_stride = 3;
  args.x = x.data();
  args.x_row_stride = 5;
  args.dw = dw.data();
  args.dw_row_stride = 5;
  args.dbias = dbias.data();
  const Workspace workspace = make_workspace(device, args, cudamoe_gemm_wgrad_workspace);
  CUDAMOE_ASSERT_OK(cudamoe_gemm_wgrad(device.stream(), &args));
  for (size_t j = 0; j < 3; ++j) {
    EXPECT_EQ(std::isnan(dbias.get()[j]), j == 1);
    for (size_t t = 0; t < 5; ++t) EXPECT_EQ(std::isnan(dw.get()[j * 5 + t]), j == 1 || t == 2);
  }
}

}  // namespace
}  // namespace cudamoe::test
