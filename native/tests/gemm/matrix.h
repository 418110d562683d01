// A matrix of f32 or bf16 on a device with a host copy, for the gemm tests: strides, several groups, gaps that must stay as they are.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "reference/gemm_reference.h"
#include "support/buffer.h"
#include "support/compare.h"
#include "support/random.h"

namespace cudamoe::test {

class Matrix {
 public:
  struct Layout {
    int64_t groups, rows, width, row_stride, group_stride;
    int64_t elements() const { return groups == 0 || rows == 0 ? 0 : (groups - 1) * group_stride + (rows - 1) * row_stride + width; }
  };
  // Groups one after the other, or side by side in each row, with some elements between rows and groups.
  static Layout loose(Random& random, int64_t groups, int64_t rows, int64_t width);
  // Groups one after the other, rows a multiple of eight elements apart.
  static Layout tight(int64_t groups, int64_t rows, int64_t width);

  // Poisoned. `misaligned` elements past a 64-byte boundary.
  Matrix(TestDevice& device, int32_t dtype, const Layout& layout, int64_t misaligned = 0);

  // Values for all elements, gaps included; rounded to the type of the matrix.
  void fill(const std::vector<float>& values);
  // Reads the device's values into the host copy; at() then answers them.
  void refresh();
  // A value of the host copy. For strided groups a layout with one group serves every group.
  float at(int64_t group, int64_t row, int64_t column) const { return values_[index(group, row, column)]; }
  // The host copy for the reference, as an operation sees it that rounds to bf16 first, or as it is.
  reference::Operand operand(bool rounded) const;

  void* data() const;
  const Layout& layout() const { return layout_; }
  int32_t dtype() const { return dtype_; }
  bool guards_intact() const;

  // Marks an element as one that the operation has to write.
  void expect_written(int64_t group, int64_t row, int64_t column) { written_[index(group, row, column)] = true; }
  // After refresh: true when nothing but marked elements changed since fill() or the constructor.
  bool others_unchanged() const;

 private:
  size_t index(int64_t group, int64_t row, int64_t column) const {
    return static_cast<size_t>((layout_.groups == 1 ? 0 : group) * layout_.group_stride + row * layout_.row_stride + column);
  }

  Layout layout_;
  int32_t dtype_;
  std::unique_ptr<Buffer<float>> f32_;
  std::unique_ptr<Buffer<uint16_t>> bf16_;
  std::vector<float> values_;
  std::vector<uint32_t> before_, now_;  // bits of all elements
  std::vector<bool> written_;
};

}  // namespace cudamoe::test
