// Kernels that are tried before they are used (CUDAMOE_TRIALS, as on a GPU): each passes its trial on the executor, as every kind of GPU,
// and the product has the bits that it has without trials. What happens to a kernel that is wrong: tests/simt/trials_test.cpp.
#include "support/trials.h"

#include <gtest/gtest.h>

#include <cstring>

#include "gemm/problem.h"

namespace cudamoe::test {
namespace {

struct Case {
  GemmShape shape;
  int32_t x_dtype, dtype;
  bool accumulate;
};

// What the three products write, twice over: the first calls are trials.
std::vector<std::vector<float>> run(const Case& test, const std::string& spec) {
  const GemmShape& shape = test.shape;
  TestDevice device(spec);
  Random random(82);
  const int64_t groups = shape.strided_groups();
  const auto matrix = [&](int64_t rows, int64_t width) {
    Matrix made(device, test.x_dtype, Matrix::tight(groups, rows, width));
    made.fill(random.reals(made.layout().elements()));
    return made;
  };
  const Matrix x = matrix(shape.x_rows, shape.k), dz = matrix(shape.rows, shape.n);
  const Buffer<int64_t> offsets(device, shape.offsets);
  const Buffer<int32_t> gather(device, shape.sources);
  const PackedWeights forward_weights(device, random, shape, 0, test.dtype, Data::kReals),
      dgrad_weights(device, random, shape, 1, test.dtype, Data::kReals);
  const int64_t rows = groups * shape.rows;
  std::vector<std::vector<float>> results;
  for (int repeat = 0; repeat < 2; ++repeat) {
    // Values that accumulation starts from; poison to what it does not.
    const std::vector<float> start(static_cast<size_t>(std::max(rows * std::max(shape.n, shape.k), shape.groups * shape.n * shape.k)),
                                   0.5f);
    const auto output = [&](int64_t count) { return Buffer<float>(device, {start.begin(), start.begin() + count}); };
    const Buffer<float> y = output(rows * shape.n), before = output(rows * shape.n), dx = output(rows * shape.k),
                        dw = output(shape.groups * shape.n * shape.k), dbias = output(shape.groups * shape.n);
    ProductCalls calls(shape, offsets, gather);
    auto& [forward, dgrad, wgrad] = calls;
    forward.accumulate = dgrad.accumulate = wgrad.accumulate = test.accumulate ? 1 : 0;
    forward.x = wgrad.x = x.data();
    forward.x_dtype = wgrad.x_dtype = dgrad.dz_dtype = wgrad.dz_dtype = test.x_dtype;
    forward.packed = forward_weights.data();
    forward.packed_dtype = dgrad.packed_dtype = wgrad.compute_dtype = test.dtype;
    forward.y = y.data();
    forward.preactivation = test.accumulate ? nullptr : before.data();
    forward.activation = test.accumulate ? CUDAMOE_ACTIVATION_NONE : CUDAMOE_ACTIVATION_RELU;
    dgrad.dz = wgrad.dz = dz.data();
    dgrad.packed = dgrad_weights.data();
    dgrad.dx = dx.data();
    wgrad.dw = dw.data();
    wgrad.dbias = dbias.data();
    const Workspace forward_space = make_workspace(device, forward, cudamoe_gemm_forward_workspace);
    const Workspace dgrad_space = make_workspace(device, dgrad, cudamoe_gemm_dgrad_workspace);
    const Workspace wgrad_space = make_workspace(device, wgrad, cudamoe_gemm_wgrad_workspace);
    EXPECT_EQ(cudamoe_gemm_forward(device.stream(), &forward), CUDAMOE_OK) << last_error();
    EXPECT_EQ(cudamoe_gemm_dgrad(device.stream(), &dgrad), CUDAMOE_OK) << last_error();
    EXPECT_EQ(cudamoe_gemm_wgrad(device.stream(), &wgrad), CUDAMOE_OK) << last_error();
    for (const Buffer<float>* each : {&y, &before, &dx, &dw, &dbias}) results.push_back(each->get());
  }
  EXPECT_EQ(notes(device), "");
  return results;
}

TEST(GemmTrials, EveryKernelPassesAndTheBitsAreThoseOfUntriedOnes) {
  std::vector<std::string> specs = gemm_device_specs(2);
  specs.push_back(test_device_spec_of("cpu", "simt:arch=90"));
  Random random(81);
  std::vector<Case> cases = {
      {{.groups = 1, .rows = 9, .n = 70, .k = 40}, CUDAMOE_F32, CUDAMOE_F32, false},
      {{.groups = 3, .rows = 130, .n = 72, .k = 40, .ragged = true, .gather = true}, CUDAMOE_F32, CUDAMOE_F32, true},
      {{.groups = 2, .rows = 530, .n = 24, .k = 16, .ragged = true, .gather = true}, CUDAMOE_BF16, CUDAMOE_BF16, true},
      {{.groups = 2, .rows = 70, .n = 136, .k = 72}, CUDAMOE_BF16, CUDAMOE_BF16, false},
      {{.groups = 1, .rows = 33, .n = 20, .k = 24}, CUDAMOE_F32, CUDAMOE_BF16, false},
  };
  const Variable no_log("CUDAMOE_CACHE", "off");
  for (Case& test : cases) {
    test.shape.choose_rows(random);
    for (const std::string& spec : specs) {
      SCOPED_TRACE(test.shape.text() + " on " + spec);
      std::vector<std::vector<float>> untried, tried;
      {
        const Variable off("CUDAMOE_TRIALS", "off");
        untried = run(test, spec);
      }
      {
        const Variable on("CUDAMOE_TRIALS", "on");
        tried = run(test, spec);
      }
      for (size_t i = 0; i < tried.size(); ++i) {
        ASSERT_EQ(untried[i].size(), tried[i].size());
        EXPECT_EQ(std::memcmp(untried[i].data(), tried[i].data(), tried[i].size() * sizeof(float)), 0) << "output " << i;
      }
    }
  }
}

}  // namespace
}  // namespace cudamoe::test
