#include "gemm/matrix.h"

#include <algorithm>
#include <bit>

#include "cudamoe.h"

namespace cudamoe::test {

Matrix::Layout Matrix::loose(Random& random, int64_t groups, int64_t rows, int64_t width) {
  Layout layout{groups, rows, width, width + random.integer(0, 3), 0};
  if (groups > 1 && random.coin()) {
    layout.group_stride = width + random.integer(0, 2);
    layout.row_stride = (groups - 1) * layout.group_stride + width + random.integer(0, 3);
  } else {
    layout.group_stride = rows * layout.row_stride + random.integer(0, 3);
  }
  return layout;
}

Matrix::Layout Matrix::tight(int64_t groups, int64_t rows, int64_t width) {
  const int64_t stride = (width + 7) / 8 * 8;
  return {groups, rows, width, stride, rows * stride};
}

Matrix::Matrix(TestDevice& device, int32_t dtype, const Layout& layout, int64_t misaligned) : layout_(layout), dtype_(dtype) {
  const int64_t elements = layout.elements();
  if (dtype == CUDAMOE_BF16) {
    bf16_ = std::make_unique<Buffer<uint16_t>>(device, elements, misaligned);
  } else {
    f32_ = std::make_unique<Buffer<float>>(device, elements, misaligned);
  }
  written_.assign(static_cast<size_t>(elements), false);
  refresh();
  before_ = now_;
}

void Matrix::fill(const std::vector<float>& values) {
  if (bf16_) {
    bf16_->set(to_bf16(values));
  } else {
    f32_->set(values);
  }
  refresh();
  before_ = now_;
}

void Matrix::refresh() {
  if (bf16_) {
    const std::vector<uint16_t> bits = bf16_->get();
    values_ = from_bf16(bits);
    now_.assign(bits.begin(), bits.end());
  } else {
    values_ = f32_->get();
    now_.resize(values_.size());
    std::transform(values_.begin(), values_.end(), now_.begin(), [](float value) { return std::bit_cast<uint32_t>(value); });
  }
}

reference::Operand Matrix::operand(bool rounded) const {
  const std::vector<float> values = rounded && dtype_ == CUDAMOE_F32 ? rounded_to_bf16(values_) : values_;
  return {{values.begin(), values.end()}, layout_.row_stride, layout_.groups == 1 ? 0 : layout_.group_stride};
}

void* Matrix::data() const { return bf16_ ? static_cast<void*>(bf16_->data()) : f32_->data(); }

bool Matrix::guards_intact() const { return bf16_ ? bf16_->guards_intact() : f32_->guards_intact(); }

bool Matrix::others_unchanged() const {
  for (size_t i = 0; i < now_.size(); ++i) {
    if (!written_[i] && now_[i] != before_[i]) return false;
  }
  return true;
}

}  // namespace cudamoe::test
