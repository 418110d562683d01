#include "cpu/expert/layers.h"

namespace cudamoe::cpu {

void ExpertLayers::run(Stream& stream, const Rows& rows, float* workspace) const {
  const auto packed_of = [&](const char* packed, int64_t columns, int64_t depth) {
    return packed + rows.expert * packed_layout(columns, depth, bf16_).group_bytes();
  };
  Product first{};
  first.function = function_;
  first.columns = hidden_;
  first.depth = k_;
  first.x_rows = rows.x_rows;
  first.x_row_stride = rows.x.row_stride;
  first.x_bf16 = rows.x.bf16;
  first.packed = packed_of(packed1_, hidden_, k_);
  first.packed_bf16 = bf16_;
  first.activation = hidden_activation_;
  first.slope = slope_;
  first.bias = bias1_ == nullptr ? nullptr : bias1_ + rows.expert * bias1_stride_;
  Product second{};
  second.function = function_;
  second.columns = n_;
  second.depth = hidden_;
  second.packed = packed_of(packed2_, n_, hidden_);
  second.packed_bf16 = bf16_;
  second.y_row_stride = rows.y.row_stride;
  second.y_bf16 = rows.y.bf16;
  second.activation = output_activation_;
  second.slope = slope_;
  second.bias = bias2_ == nullptr ? nullptr : bias2_ + rows.expert * bias2_stride_;

  const RowsOf<void*> own{workspace, hidden_stride(), false};
  float* products = workspace + block_rows() * hidden_stride();
  for (int64_t begin = 0; begin < rows.rows; begin += block_rows()) {
    const int64_t count = std::min(block_rows(), rows.rows - begin);
    const RowsOf<void*> h = rows.h.data == nullptr ? own : rows.h.from(begin);
    first.groups = second.groups = {1, count, nullptr};
    first.x = rows.gather == nullptr ? rows.x.from(begin).data : rows.x.data;
    first.gather = rows.gather == nullptr ? nullptr : rows.gather + begin;
    first.first_row = rows.first_row + begin;
    first.y = h.data;
    first.y_row_stride = h.row_stride;
    first.y_bf16 = h.bf16;
    first.preactivation = rows.before.from(begin).data;
    run_product_alone(stream, first, first_, products);
    second.x = h.data;
    second.x_row_stride = h.row_stride;
    second.x_bf16 = h.bf16;
    second.y = rows.y.from(begin).data;
    run_product_alone(stream, second, second_, products);
  }
}

}  // namespace cudamoe::cpu
