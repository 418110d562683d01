// A gemm problem with random shape, strides, types and options, and its run on a device, for all gemm tests.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gemm/matrix.h"

namespace cudamoe::test {

struct GemmShape {
  int64_t groups = 1, rows = 1, n = 1, k = 1;
  bool ragged = false, gather = false;
  std::vector<int64_t> offsets = {};  // made by choose_rows when ragged
  std::vector<int32_t> sources = {};  // and when gather
  int64_t x_rows = 0;

  // Random offsets and sources for a ragged shape. Offsets that are set already are kept.
  void choose_rows(Random& random);
  std::vector<reference::GemmRow> all_rows() const { return reference::gemm_rows(groups, rows, offsets, sources); }
  int64_t strided_groups() const { return ragged ? 1 : groups; }
  std::string text() const;
};

// Ways to open the device that this run of the tests is about: a cpu with so many threads, the executor as a GPU whose tensor cores
// multiply f32 operands and as one whose f32 units do.
std::vector<std::string> gemm_device_specs(int cpu_threads);
// Random cases of a test; the executor takes one in ten.
inline int random_cases(int count) { return test_device_is_slow() ? (count + 9) / 10 : count; }

enum class Data { kIntegers, kReals };
std::vector<float> random_values(Random& random, Data data, int64_t count);

// Weights [groups, n, k] and their pack on the device.
class PackedWeights {
 public:
  PackedWeights(TestDevice& device, Random& random, const GemmShape& shape, int32_t transposed, int32_t dtype, Data data);

  const void* data() const { return packed_->data(); }
  int32_t dtype() const { return dtype_; }
  // As the product sees them: rounded when packed as bf16.
  reference::Operand operand() const { return weights_.operand(dtype_ == CUDAMOE_BF16); }
  const Matrix& weights() const { return weights_; }

 private:
  void pack(TestDevice& device);

  GemmShape shape_;
  int32_t transposed_, dtype_;
  Matrix weights_;
  std::unique_ptr<Workspace> packed_;
};

// The three products of a shape in one set of arguments: sizes, rows and, for tight matrices, strides. The caller adds operands and types.
struct ProductCalls {
  cudamoe_gemm_forward_args forward{};
  cudamoe_gemm_dgrad_args dgrad{};
  cudamoe_gemm_wgrad_args wgrad{};

  ProductCalls(const GemmShape& shape, const Buffer<int64_t>& offsets, const Buffer<int32_t>& gather) {
    const auto fill = [&](auto& args) {
      args.struct_size = sizeof args;
      args.groups = static_cast<int32_t>(shape.groups);
      args.rows = shape.rows;
      args.n = shape.n;
      args.k = shape.k;
      args.offsets = shape.ragged ? offsets.data() : nullptr;
    };
    fill(forward);
    fill(dgrad);
    fill(wgrad);
    forward.gather = wgrad.gather = shape.gather ? gather.data() : nullptr;
    forward.x_rows = wgrad.x_rows = shape.x_rows;
    forward.x_row_stride = wgrad.x_row_stride = dgrad.dx_row_stride = wgrad.dw_row_stride = shape.k;
    forward.x_group_stride = wgrad.x_group_stride = shape.x_rows * shape.k;
    forward.y_row_stride = dgrad.dz_row_stride = wgrad.dz_row_stride = wgrad.dbias_group_stride = shape.n;
    forward.y_group_stride = dgrad.dz_group_stride = wgrad.dz_group_stride = shape.rows * shape.n;
    dgrad.dx_group_stride = shape.rows * shape.k;
    wgrad.dw_group_stride = shape.n * shape.k;
  }
};

// Work space of exactly the bytes that `query` asks for, for args with struct_size set; fills args.workspace and workspace_bytes.
template <class Args>
Workspace make_workspace(TestDevice& device, Args& args, cudamoe_status (*query)(cudamoe_stream*, const Args*, int64_t*)) {
  int64_t bytes = -1;
  if (query(device.stream(), &args, &bytes) != CUDAMOE_OK) throw std::runtime_error(last_error());
  Workspace workspace(device, bytes);
  args.workspace = workspace.data();
  args.workspace_bytes = bytes;
  return workspace;
}

}  // namespace cudamoe::test
