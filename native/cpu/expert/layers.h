// Both layers of an expert for some of its rows, on the calling thread: the two products of the gemm family, block by block, so that a
// block's hidden rows stay in the cache between them. Rows of a block: eight register tiles.
//
// Floor: 2 * rows * hidden * (k + n) flops. The order of sums is that of the products: one chain over ascending depth an element.
#pragma once

#include "cpu/gemm/product.h"

namespace cudamoe::cpu {

// A matrix of f32 or bf16; no group stride: a view of one group.
template <class Pointer>
struct RowsOf {
  Pointer data;
  int64_t row_stride;
  bool bf16;

  RowsOf from(int64_t row) const {
    using Byte = std::conditional_t<std::is_const_v<std::remove_pointer_t<Pointer>>, const char, char>;
    return {data == nullptr ? nullptr : static_cast<Byte*>(data) + row * row_stride * (bf16 ? 2 : 4), row_stride, bf16};
  }
};

class ExpertLayers {
 public:
  template <class Args>
  ExpertLayers(const char* function, const Args& args)
      : function_(function),
        n_(args.n),
        hidden_(args.hidden),
        k_(args.k),
        packed1_(static_cast<const char*>(args.packed1)),
        packed2_(static_cast<const char*>(args.packed2)),
        bias1_(args.bias1),
        bias2_(args.bias2),
        bias1_stride_(args.bias1_group_stride),
        bias2_stride_(args.bias2_group_stride),
        bf16_(args.packed_dtype == CUDAMOE_BF16),
        hidden_activation_(args.hidden_activation),
        output_activation_(args.output_activation),
        slope_(args.activation_slope),
        first_(plan_product_alone(block_rows(), hidden_, k_, bf16_)),
        second_(plan_product_alone(block_rows(), n_, hidden_, bf16_)) {}

  struct Rows {
    int64_t expert, rows;
    RowsOf<const void*> x;
    const int32_t* gather;  // row of x for each of the rows, or null
    int64_t x_rows;
    int64_t first_row;        // of gather, in reports
    RowsOf<void*> h, before;  // data null: not wanted
    RowsOf<void*> y;
  };
  void run(Stream& stream, const Rows& rows, float* workspace) const;

  // Of the work space of a thread.
  int64_t floats() const { return block_rows() * hidden_stride() + std::max(first_.worker_floats(), second_.worker_floats()); }
  // Nanoseconds of so many rows on one thread, about.
  double cost(int64_t rows) const {
    constexpr double kFlopsANanosecond = 100;
    return 2 * static_cast<double>(rows) * static_cast<double>(hidden_) * static_cast<double>(k_ + n_) / kFlopsANanosecond;
  }

  static int64_t block_rows() { return 8 * tile_shape().rows; }

 private:
  // Odd in cache lines, to spread the rows of a tile over the cache's sets.
  int64_t hidden_stride() const { return (divide_up(hidden_, 16) | 1) * 16; }

  const char* function_;
  int64_t n_, hidden_, k_;
  const char *packed1_, *packed2_;
  const float *bias1_, *bias2_;
  int64_t bias1_stride_, bias2_stride_;
  bool bf16_;
  int32_t hidden_activation_, output_activation_;
  float slope_;
  ProductPlan first_, second_;
};

}  // namespace cudamoe::cpu
