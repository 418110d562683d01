// The product behind forward and data gradient: y = finish(x * panels) over row groups.
#pragma once

#include <cstdint>

#include "cpu/device.h"
#include "cpu/gemm/groups.h"

namespace cudamoe::cpu {

struct Product {
  const char* function;  // of the ABI, for reports
  RowGroups groups;
  int64_t columns, depth;
  const int32_t* gather;
  int64_t x_rows;
  int64_t first_row;  // of gather, in reports
  const void* x;
  int64_t x_row_stride, x_group_stride;
  bool x_bf16;
  const void* packed;
  bool packed_bf16;
  void* y;
  int64_t y_row_stride, y_group_stride;
  bool y_bf16;

  // Forward: y = activation(product + bias), the value before the activation stored where `preactivation` is not null.
  // Data gradient (`derivative`): y = product * activation'(below).
  bool derivative;
  int32_t activation;
  float slope;
  bool accumulate;
  const float* bias;
  int64_t bias_group_stride;
  void* preactivation;
  const void* below;
  int64_t below_row_stride, below_group_stride;
};

inline constexpr int64_t kMostPassPanels = 32;
// Depth up to which products with one column are computed as dot products; a worker's work space has room for one row.
inline constexpr int64_t kMostDotDepth = 1024;

// How a product is cut into tasks and what work space a worker needs. No result depends on the cut: an element is one chain of
// multiply-adds over ascending depth.
struct ProductPlan {
  bool pairs;           // bf16 pairs are multiplied: a step of the depth is two elements
  int64_t steps;        // of the depth
  int64_t block_tiles;  // row tiles of a task
  int64_t task_panels;  // panels of columns of a task
  int64_t pass_panels;  // most panels that all tiles of a task meet before the next panels
  int64_t depth_blocks;
  int64_t workers;
  // Floats, or pairs, from one copied row to the next: odd in cache lines, to spread the rows of a tile over the cache's sets.
  int64_t rows_stride;
  // Parts of a worker's work space, in floats.
  int64_t rows_floats, panel_floats, sums_floats, tile_floats;

  int64_t worker_floats() const { return rows_floats + panel_floats + sums_floats + tile_floats; }
  int64_t bytes() const { return workers * worker_floats() * static_cast<int64_t>(sizeof(float)); }
};
ProductPlan plan_product(int threads, int64_t groups, int64_t rows, bool ragged, int64_t columns, int64_t depth, bool packed_bf16);

cudamoe_status run_product(Stream& stream, const Product& product, float* workspace);

// For a caller that shares out the rows itself: one strided group of at most the plan's rows, on the calling thread.
inline ProductPlan plan_product_alone(int64_t rows, int64_t columns, int64_t depth, bool packed_bf16) {
  return plan_product(1, 1, rows, false, columns, depth, packed_bf16);
}
void run_product_alone(Stream& stream, const Product& product, const ProductPlan& plan, float* workspace);

}  // namespace cudamoe::cpu
