// The same bits for every number of threads, in every schedule and in every repetition, in shapes that are cut in all ways.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "gemm/problem.h"

namespace cudamoe::test {
namespace {

struct Case {
  GemmShape shape;
  int32_t dtype;
};

std::vector<Case> cases() {
  Random random(71);
  std::vector<Case> all;
  for (int32_t dtype : {CUDAMOE_F32, CUDAMOE_BF16}) {
    if (test_device_is_slow()) {
      // Every tile of a product, with full and partial ones, and rows that are cut into chunks.
      all.push_back({{.groups = 1, .rows = 9, .n = 70, .k = 40}, dtype});
      all.push_back({{.groups = 5, .rows = 130, .n = 70, .k = 36, .ragged = true, .gather = true}, dtype});
      all.push_back({{.groups = 4, .rows = 150, .n = 66, .k = 35}, dtype});
      all.push_back({{.groups = 2, .rows = 530, .n = 20, .k = 17, .ragged = true, .gather = true}, dtype});
      continue;
    }
    all.push_back({{.groups = 1, .rows = 500, .n = 100, .k = 300}, dtype});
    all.push_back({{.groups = 1, .rows = 5, .n = 600, .k = 270}, dtype});
    all.push_back({{.groups = 3, .rows = 130, .n = 70, .k = 40}, dtype});
    all.push_back({{.groups = 6, .rows = 700, .n = 90, .k = 50, .ragged = true, .gather = true}, dtype});
    all.push_back({{.groups = 1, .rows = 600, .n = 300, .k = 290}, dtype});
  }
  for (Case& test : all) test.shape.choose_rows(random);
  return all;
}

// Everything that the three products of a case write, on a device, `repeats` times.
std::vector<std::vector<float>> run(const Case& test, const std::string& spec, int repeats) {
  const GemmShape& shape = test.shape;
  TestDevice device(spec);
  Random random(72);
  const int64_t groups = shape.strided_groups();
  const Buffer<float> x(device, random.reals(groups * shape.x_rows * shape.k)), dz(device, random.reals(groups * shape.rows * shape.n));
  const Buffer<int64_t> offsets(device, shape.offsets);
  const Buffer<int32_t> gather(device, shape.sources);
  const PackedWeights forward_weights(device, random, shape, 0, test.dtype, Data::kReals),
      dgrad_weights(device, random, shape, 1, test.dtype, Data::kReals);
  Buffer<float> y(device, groups * shape.rows * shape.n), dx(device, groups * shape.rows * shape.k);
  Buffer<float> dw(device, shape.groups * shape.n * shape.k), dbias(device, shape.groups * shape.n);
  std::vector<std::vector<float>> results;

  ProductCalls calls(shape, offsets, gather);
  auto& [forward, dgrad, wgrad] = calls;
  forward.x = wgrad.x = x.data();
  forward.packed = forward_weights.data();
  forward.packed_dtype = dgrad.packed_dtype = wgrad.compute_dtype = test.dtype;
  forward.y = y.data();
  forward.activation = CUDAMOE_ACTIVATION_TANH;
  dgrad.dz = wgrad.dz = dz.data();
  dgrad.packed = dgrad_weights.data();
  dgrad.dx = dx.data();
  wgrad.dw = dw.data();
  wgrad.dbias = dbias.data();
  const Workspace forward_space = make_workspace(device, forward, cudamoe_gemm_forward_workspace);
  const Workspace dgrad_space = make_workspace(device, dgrad, cudamoe_gemm_dgrad_workspace);
  const Workspace wgrad_space = make_workspace(device, wgrad, cudamoe_gemm_wgrad_workspace);
  for (int i = 0; i < repeats; ++i) {
    for (Buffer<float>* output : {&y, &dx, &dw, &dbias}) output->poison();
    EXPECT_EQ(cudamoe_gemm_forward(device.stream(), &forward), CUDAMOE_OK) << last_error();
    EXPECT_EQ(cudamoe_gemm_dgrad(device.stream(), &dgrad), CUDAMOE_OK) << last_error();
    EXPECT_EQ(cudamoe_gemm_wgrad(device.stream(), &wgrad), CUDAMOE_OK) << last_error();
    for (const Buffer<float>* output : {&y, &dx, &dw, &dbias}) results.push_back(output->get());
  }
  return results;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(GemmDeterminism, SameBitsInEveryEquivalentDevice) {
  for (const Case& test : cases()) {
    SCOPED_TRACE(test.shape.text());
    // Twenty schedules of the executor for products that take it little time.
    const std::vector<std::string> specs = test.shape.rows * test.shape.n < 1000 ? repeated_device_specs() : equivalent_device_specs();
    const auto want = run(test, specs[0], 1);
    for (size_t s = 1; s < specs.size(); ++s) {
      const auto have = run(test, specs[s], 1);
      for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(same_bits(want[i], have[i])) << "output " << i << " on " << specs[s];
    }
  }
}

// What a row becomes does not depend on how many others there are, which decides how the product is tiled.
TEST(GemmDeterminism, ARowHasTheSameBitsInEveryProduct) {
  constexpr int64_t kRows = 300, kN = 72, kK = 168;
  for (const std::string& spec : gemm_device_specs(2)) {
    for (const int32_t dtype : {CUDAMOE_F32, CUDAMOE_BF16}) {
      TestDevice device(spec);
      Random random(73);
      Matrix x(device, dtype, Matrix::tight(1, kRows, kK));
      x.fill(random.reals(x.layout().elements()));
      const GemmShape all{.groups = 1, .rows = kRows, .n = kN, .k = kK};
      const PackedWeights weights(device, random, all, 0, dtype, Data::kReals);
      const auto product = [&](int64_t rows) {
        Matrix y(device, CUDAMOE_F32, Matrix::tight(1, rows, kN));
        cudamoe_gemm_forward_args args{};
        args.struct_size = sizeof args;
        args.groups = 1;
        args.rows = args.x_rows = rows;
        args.n = kN;
        args.k = kK;
        args.x = x.data();
        args.x_row_stride = x.layout().row_stride;
        args.packed = weights.data();
        args.y = y.data();
        args.y_row_stride = y.layout().row_stride;
        args.x_dtype = args.packed_dtype = dtype;
        args.y_dtype = CUDAMOE_F32;
        const Workspace workspace = make_workspace(device, args, cudamoe_gemm_forward_workspace);
        EXPECT_EQ(cudamoe_gemm_forward(device.stream(), &args), CUDAMOE_OK);
        EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_OK);
        y.refresh();
        return y;
      };
      const Matrix most = product(kRows);
      for (const int64_t rows : {1, 16, 100}) {
        const Matrix some = product(rows);
        int64_t different = 0;
        for (int64_t row = 0; row < rows; ++row) {
          for (int64_t j = 0; j < kN; ++j) different += some.at(0, row, j) != most.at(0, row, j);
        }
        EXPECT_EQ(different, 0) << "of " << rows * kN << " elements, type " << dtype << ", " << spec;
      }
    }
  }
}

TEST(GemmDeterminism, SameBitsInEveryRepetition) {
  for (const Case& test : cases()) {
    SCOPED_TRACE(test.shape.text());
    const auto have = run(test, gemm_device_specs(2)[0], std::max(2, repetitions_of_a_spec()));
    for (size_t i = 4; i < have.size(); ++i)
      EXPECT_TRUE(same_bits(have[i % 4], have[i])) << "output " << i % 4 << " in repetition " << i / 4;
  }
}

}  // namespace
}  // namespace cudamoe::test
