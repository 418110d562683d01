#include <gtest/gtest.h>

#include "gemm/problem.h"

namespace cudamoe::test {
namespace {

struct Options {
  int32_t dz_dtype = CUDAMOE_F32, packed_dtype = CUDAMOE_F32, dx_dtype = CUDAMOE_F32;
  int32_t activation = CUDAMOE_ACTIVATION_NONE;
  bool below = false, accumulate = false;
  bool aligned = false;  // rows begin at multiples of 16 bytes
  Data data = Data::kReals;
};

void check_dgrad(TestDevice& device, Random& random, GemmShape shape, const Options& options) {
  SCOPED_TRACE(shape.text() + ", types " + std::to_string(options.dz_dtype) + std::to_string(options.packed_dtype) +
               std::to_string(options.dx_dtype) + ", activation " + std::to_string(options.activation) + (options.below ? ", below" : "") +
               (options.accumulate ? ", accumulate" : ""));
  shape.choose_rows(random);
  const auto layout = [&](int64_t width) {
    return options.aligned ? Matrix::tight(shape.strided_groups(), shape.rows, width)
                           : Matrix::loose(random, shape.strided_groups(), shape.rows, width);
  };
  const auto misaligned = [&] { return options.aligned ? 0 : random.integer(0, 3); };
  Matrix dz(device, options.dz_dtype, layout(shape.n), misaligned());
  dz.fill(random_values(random, options.data, dz.layout().elements()));
  const PackedWeights weights(device, random, shape, 1, options.packed_dtype, options.data);
  Matrix dx(device, options.dx_dtype, layout(shape.k), misaligned());
  if (options.accumulate) dx.fill(random_values(random, options.data, dx.layout().elements()));
  Matrix below(device, options.dx_dtype, layout(shape.k), misaligned());
  below.fill(random_values(random, options.data, below.layout().elements()));
  const Buffer<int64_t> offsets(device, shape.offsets);
  const std::vector<reference::GemmRow> rows = shape.all_rows();

  const reference::Operand dz_values = dz.operand(options.packed_dtype == CUDAMOE_BF16), w_values = weights.operand();
  std::vector<double> want, have;
  for (const auto& row : rows) {
    for (int64_t t = 0; t < shape.k; ++t) {
      double value = reference::dgrad_product(row, t, shape.n, dz_values, w_values);
      if (options.accumulate) value += dx.at(row.group, row.row, t);
      if (options.below) value *= reference::activation_derivative(options.activation, below.at(row.group, row.row, t), 0.25);
      want.push_back(options.dx_dtype == CUDAMOE_BF16 ? from_bf16(to_bf16(static_cast<float>(value))) : value);
    }
  }

  cudamoe_gemm_dgrad_args args{};
  args.struct_size = sizeof args;
  args.groups = static_cast<int32_t>(shape.groups);
  args.rows = shape.rows;
  args.n = shape.n;
  args.k = shape.k;
  args.offsets = shape.ragged ? offsets.data() : nullptr;
  args.dz = dz.data();
  args.dz_row_stride = dz.layout().row_stride;
  args.dz_group_stride = dz.layout().group_stride;
  args.packed = weights.data();
  args.dx = dx.data();
  args.dx_row_stride = dx.layout().row_stride;
  args.dx_group_stride = dx.layout().group_stride;
  args.below = options.below ? below.data() : nullptr;
  args.below_row_stride = below.layout().row_stride;
  args.below_group_stride = below.layout().group_stride;
  args.dz_dtype = options.dz_dtype;
  args.packed_dtype = options.packed_dtype;
  args.dx_dtype = options.dx_dtype;
  args.activation = options.activation;
  args.activation_slope = 0.25f;
  args.accumulate = options.accumulate;
  const Workspace workspace = make_workspace(device, args, cudamoe_gemm_dgrad_workspace);
  CUDAMOE_ASSERT_OK(cudamoe_gemm_dgrad(device.stream(), &args));
  CUDAMOE_ASSERT_OK(cudamoe_stream_synchronize(device.stream()));
  dx.refresh();
  for (const auto& row : rows) {
    for (int64_t t = 0; t < shape.k; ++t) {
      have.push_back(dx.at(row.group, row.row, t));
      dx.expect_written(row.group, row.row, t);
    }
  }
  const bool exact = options.data == Data::kIntegers && (!options.below || options.activation <= CUDAMOE_ACTIVATION_LEAKY_RELU);
  const double bound = exact                                                                      ? 0
                       : options.dx_dtype == CUDAMOE_BF16 || options.packed_dtype == CUDAMOE_BF16 ? kBf16Bound
                                                                                                  : f32_bound(shape.n);
  EXPECT_LE(relative_error(have, want), bound);
  EXPECT_TRUE(dx.others_unchanged());
  EXPECT_TRUE(dz.guards_intact() && dx.guards_intact() && below.guards_intact() && workspace.guards_intact());
}

GemmShape random_shape(Random& random, int64_t most) {
  return {.groups = random.integer(1, 5),
          .rows = random.integer(0, most),
          .n = random.integer(1, most),
          .k = random.integer(1, most),
          .ragged = random.coin()};
}

Options random_options(Random& random, Data data) {
  Options options;
  options.dz_dtype = static_cast<int32_t>(random.integer(0, 1));
  options.packed_dtype = static_cast<int32_t>(random.integer(0, 1));
  options.dx_dtype = static_cast<int32_t>(random.integer(0, 1));
  options.activation = static_cast<int32_t>(random.integer(0, 6));
  options.below = random.integer(0, 3) != 0;
  options.accumulate = random.coin();
  options.data = data;
  return options;
}

TEST(GemmDgrad, SmallIntegersAreExactInEveryCombination) {
  Random random(31);
  for (const std::string& spec : gemm_device_specs(3)) {
    TestDevice device(spec);
    for (int i = 0; i < random_cases(400); ++i)
      check_dgrad(device, random, random_shape(random, 40), random_options(random, Data::kIntegers));
  }
}

TEST(GemmDgrad, RealsAreWithinTheBound) {
  Random random(32);
  for (const std::string& spec : gemm_device_specs(2)) {
    TestDevice device(spec);
    for (int i = 0; i < random_cases(60); ++i)
      check_dgrad(device, random, random_shape(random, test_device_is_slow() ? 90 : 150), random_options(random, Data::kReals));
  }
}

TEST(GemmDgrad, DeepProductsAreCutIntoBlocks) {
  Random random(33);
  for (const std::string& spec : gemm_device_specs(2)) {
    TestDevice device(spec);
    for (int64_t n : test_device_is_slow() ? std::vector<int64_t>{65, 257} : std::vector<int64_t>{256, 257, 600, 2051}) {
      for (const Data data : {Data::kIntegers, Data::kReals}) {
        for (int i = 0; i < 4; ++i)
          check_dgrad(device, random, {.groups = 2, .rows = 77, .n = n, .k = 70, .ragged = i % 2 == 0}, random_options(random, data));
      }
    }
  }
}

// Row tiles of every kind, whole and partial column tiles, with all that may be done to the sums, in rows that allow wide accesses.
TEST(GemmDgrad, AlignedRowsInEveryTile) {
  Random random(35);
  for (const std::string& spec : gemm_device_specs(2)) {
    TestDevice device(spec);
    for (int i = 0; i < random_cases(60); ++i) {
      Options options = random_options(random, i % 2 == 0 ? Data::kIntegers : Data::kReals);
      options.aligned = true;
      if (i % 3 != 0) {
        options.packed_dtype = CUDAMOE_BF16;
        options.activation = static_cast<int32_t>(random.integer(0, 2));
        options.accumulate = options.accumulate && random.coin();
      }
      const int64_t k = 64 * random.integer(1, 3) + random.integer(0, 2) * 8;
      const GemmShape few{.groups = 1, .rows = 150, .n = 96, .k = k};
      const GemmShape deep{.groups = 3, .rows = 260, .n = 8 * random.integer(1, 45), .k = k, .ragged = true};
      check_dgrad(device, random, i % 2 == 0 ? few : deep, options);
    }
  }
}

TEST(GemmDgrad, OneColumnOfWeights) {
  Random random(34);
  TestDevice device;
  Options options;
  options.data = Data::kIntegers;
  options.below = true;
  options.activation = CUDAMOE_ACTIVATION_RELU;
  for (int64_t k : {1, 5, 16, 17, 64}) check_dgrad(device, random, {.groups = 1, .rows = 50, .n = 1, .k = k}, options);
}

}  // namespace
}  // namespace cudamoe::test
