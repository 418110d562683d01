// Matrices whose last row lies more than 2^31 elements after the first, in memory of which only the touched pages exist.
#include <gtest/gtest.h>

#include "gemm/problem.h"
#include "support/sparse_memory.h"

namespace cudamoe::test {
namespace {

TEST(GemmLargeStride, RowsBeyondTwoToThe31Elements) {
  constexpr int64_t kRows = 5, kN = 3, kK = 4, kStride = (int64_t{1} << 29) + 7;  // 4 * kStride > 2^31
  TestDevice device(gemm_device_specs(2)[0]);
  if (!test_device_reaches_host_memory()) GTEST_SKIP() << "needs device memory that the host can map";
  const SparseMemory x(kRows * kStride), y(kRows * kStride), dx(kRows * kStride);
  if (!x.ok() || !y.ok() || !dx.ok()) GTEST_SKIP() << "this machine does not give that much address space";
  Random random(81);
  const GemmShape shape{.groups = 1, .rows = kRows, .n = kN, .k = kK};
  const PackedWeights forward_weights(device, random, shape, 0, CUDAMOE_F32, Data::kIntegers),
      dgrad_weights(device, random, shape, 1, CUDAMOE_F32, Data::kIntegers);
  // The values of the rows without what lies between them.
  const auto values = [](const SparseMemory& memory, int64_t width) {
    reference::Operand operand{{}, width, 0};
    for (int64_t row = 0; row < kRows; ++row)
      operand.values.insert(operand.values.end(), memory.data() + row * kStride, memory.data() + row * kStride + width);
    return operand;
  };
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t t = 0; t < kK; ++t) x.data()[row * kStride + t] = static_cast<float>(random.integer(-3, 3));
  }
  const std::vector<reference::GemmRow> rows = shape.all_rows();
  const reference::Operand x_values = values(x, kK), forward_values = forward_weights.operand(), dgrad_values = dgrad_weights.operand();

  cudamoe_gemm_forward_args forward{};
  forward.struct_size = sizeof forward;
  forward.groups = 1;
  forward.rows = kRows;
  forward.n = kN;
  forward.k = kK;
  forward.x = x.data();
  forward.x_row_stride = forward.y_row_stride = kStride;
  forward.packed = forward_weights.data();
  forward.y = y.data();
  const Workspace forward_space = make_workspace(device, forward, cudamoe_gemm_forward_workspace);
  CUDAMOE_ASSERT_OK(cudamoe_gemm_forward(device.stream(), &forward));
  CUDAMOE_ASSERT_OK(cudamoe_stream_synchronize(device.stream()));
  for (const auto& row : rows) {
    for (int64_t j = 0; j < kN; ++j)
      EXPECT_EQ(y.data()[row.row * kStride + j], reference::forward_product(row, j, kK, x_values, forward_values));
  }

  // y serves as dz.
  const reference::Operand dz_values = values(y, kN);
  cudamoe_gemm_dgrad_args dgrad{};
  dgrad.struct_size = sizeof dgrad;
  dgrad.groups = 1;
  dgrad.rows = kRows;
  dgrad.n = kN;
  dgrad.k = kK;
  dgrad.dz = y.data();
  dgrad.dz_row_stride = dgrad.dx_row_stride = dgrad.below_row_stride = kStride;
  dgrad.packed = dgrad_weights.data();
  dgrad.dx = dx.data();
  dgrad.below = x.data();
  dgrad.activation = CUDAMOE_ACTIVATION_RELU;
  const Workspace dgrad_space = make_workspace(device, dgrad, cudamoe_gemm_dgrad_workspace);
  CUDAMOE_ASSERT_OK(cudamoe_gemm_dgrad(device.stream(), &dgrad));
  CUDAMOE_ASSERT_OK(cudamoe_stream_synchronize(device.stream()));
  for (const auto& row : rows) {
    for (int64_t t = 0; t < kK; ++t) {
      const double want = reference::dgrad_product(row, t, kN, dz_values, dgrad_values) * (x_values.row(0, row.row)[t] > 0 ? 1 : 0);
      EXPECT_EQ(dx.data()[row.row * kStride + t], want);
    }
  }

  Buffer<float> dw(device, kN * kK);
  cudamoe_gemm_wgrad_args wgrad{};
  wgrad.struct_size = sizeof wgrad;
  wgrad.groups = 1;
  wgrad.rows = kRows;
  wgrad.n = kN;
  wgrad.k = kK;
  wgrad.dz = y.data();
  wgrad.x = x.data();
  wgrad.dz_row_stride = wgrad.x_row_stride = kStride;
  wgrad.dw = dw.data();
  wgrad.dw_row_stride = kK;
  const Workspace wgrad_space = make_workspace(device, wgrad, cudamoe_gemm_wgrad_workspace);
  CUDAMOE_ASSERT_OK(cudamoe_gemm_wgrad(device.stream(), &wgrad));
  for (int64_t j = 0; j < kN; ++j) {
    for (int64_t t = 0; t < kK; ++t)
      EXPECT_EQ(dw.get()[static_cast<size_t>(j * kK + t)], reference::wgrad_sum(rows, 0, j, t, dz_values, &x_values));
  }
}

}  // namespace
}  // namespace cudamoe::test
