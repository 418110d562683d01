// Grouped products y = finish(x * W) with packed W; see cudamoe.h, gemm.
//
// Floor: 2 * rows * columns * depth flops; at recommender widths the weights stay in the L2 cache. A task is a block of row tiles
// times a run of panels. It goes through depth blocks of at most 256 in ascending order and in each through its tiles: it copies a tile's
// rows of x (which makes a gather free, converts bf16, and spreads the rows over the sets of the L1 cache), has the next tile's lines
// fetched meanwhile, and multiplies with one panel after the other, which stream from the L2 cache. Sums between depth blocks wait in the
// work space. bf16 weights are widened to f32 once a task and depth block, or in registers when the task has two tiles at most.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/gemm/product.cpp"
#include "cpu/gemm/product.h"

#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "cpu/common/activation-inl.h"
#include "cpu/gemm/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

// Copies `count` elements to f32, rounded to bf16 where kRound.
template <bool kRound, class T>
HWY_INLINE void copy_row(const T* from, int64_t count, float* to) {
  const F32 d;
  const auto convert = [&](VecF32 value) HWY_ATTR {
    if constexpr (kRound) return round_to_bf16(d, value);
    return value;
  };
  int64_t t = 0;
  for (; t + kLanes <= count; t += kLanes) hn::Store(convert(load(d, from + t)), d, to + t);
  // The row of the scratch has room for a whole vector more.
  if (t < count) hn::Store(convert(load_first(d, from + t, count - t)), d, to + t);
}

// Row `row` of x in the row space, from column `column`; null when its gathered number is out of bounds.
template <class T>
HWY_INLINE const T* row_of_x(const Product& product, int64_t group, int64_t row, int64_t column) {
  const T* x = static_cast<const T*>(product.x) + (product.groups.offsets == nullptr ? group * product.x_group_stride : 0) + column;
  if (product.gather == nullptr) return x + row * product.x_row_stride;
  const int64_t source = product.gather[row];
  return source < 0 || source >= product.x_rows ? nullptr : x + source * product.x_row_stride;
}

template <bool kRound, class T>
void copy_rows(const Product& product, int64_t group, int64_t row, int64_t rows, int64_t column, int64_t depth, Stream& stream, float* to) {
  for (int64_t i = 0; i < rows; ++i, to += kRowScratchStride) {
    if (const T* from = row_of_x<T>(product, group, row + i, column); from != nullptr) {
      copy_row<kRound>(from, depth, to);
      continue;
    }
    stream.report("%s: gather[%lld] is %lld; x has %lld rows", product.function, static_cast<long long>(row + i),
                  static_cast<long long>(product.gather[row + i]), static_cast<long long>(product.x_rows));
    std::memset(to, 0, static_cast<size_t>(depth) * sizeof(float));
  }
}

void widen_panel(const Bf16* from, int64_t elements, float* to) {
  const F32 d;
  for (int64_t i = 0; i < elements; i += kLanes) hn::Store(load(d, from + i), d, to + i);
}

// Finishes a tile whose raw sums lie in `sums`, in every combination of options.
template <class T>
void finish_tile(const Product& product, const float* sums, int64_t sums_stride, int64_t group, int64_t row, int64_t rows, int64_t column,
                 int64_t columns) {
  const bool strided = product.groups.offsets == nullptr;
  const int64_t y_begin = (strided ? group * product.y_group_stride : 0) + column;
  const int64_t below_begin = (strided ? group * product.below_group_stride : 0) + column;
  const float* bias = product.bias == nullptr ? nullptr : product.bias + group * product.bias_group_stride + column;
  with_activation(product.activation, [&](auto activation) HWY_ATTR {
    const F32 d;
    for (int64_t i = 0; i < rows; ++i) {
      T* y = static_cast<T*>(product.y) + y_begin + (row + i) * product.y_row_stride;
      T* before =
          product.preactivation == nullptr ? nullptr : static_cast<T*>(product.preactivation) + y_begin + (row + i) * product.y_row_stride;
      const T* below =
          product.below == nullptr ? nullptr : static_cast<const T*>(product.below) + below_begin + (row + i) * product.below_row_stride;
      for (int64_t j = 0; j < columns; j += kLanes) {
        const int64_t count = std::min<int64_t>(kLanes, columns - j);
        VecF32 value = load(d, sums + i * sums_stride + j);
        if (product.accumulate) value = load_first(d, y + j, count) + value;
        if (product.derivative) {
          if (below != nullptr) value = value * activation_derivative<activation()>(d, load_first(d, below + j, count), product.slope);
        } else {
          if (bias != nullptr) value = value + load_first(d, bias + j, count);
          if (before != nullptr) store_first(d, value, before + j, count);
          value = activate<activation()>(d, value, product.slope);
        }
        store_first(d, value, y + j, count);
      }
    }
  });
}

// The way of finishing in registers, or kRaw when finish_tile is needed.
Finish finish_in_registers(const Product& product) {
  if (product.y_bf16 || product.preactivation != nullptr) return Finish::kRaw;
  if (product.derivative && product.below != nullptr) {
    return product.activation == CUDAMOE_ACTIVATION_RELU && !product.accumulate ? Finish::kReluMask : Finish::kRaw;
  }
  if (product.accumulate) return Finish::kAccumulate;
  if (product.derivative || product.activation == CUDAMOE_ACTIVATION_NONE) return Finish::kBias;
  return product.activation == CUDAMOE_ACTIVATION_RELU ? Finish::kBiasRelu : Finish::kRaw;
}

// One task: a block of row tiles times the panels first_panel .. end_panel-1.
struct ProductTask {
  const Product& product;
  const ProductPlan& plan;
  RowBlocks::Block block, next_block;  // next_block: what the thread is likely to do next
  int64_t first_panel, end_panel;
  Stream& stream;
  float* rows;     // the copied rows of one or two tiles
  float* widened;  // bf16 panels of one depth block in f32
  float* sums;     // [rows of the block, task_panels * kPanel], when there are several depth blocks
  float* tile;     // raw sums of one tile
  Finish finish;
  Prefetcher prefetcher;
  PrefetchRow prefetch_rows[3 * kTileRows];

  bool strided() const { return product.groups.offsets == nullptr; }
  int64_t depth_begin(int64_t depth_block) const { return part_begin(product.depth, plan.depth_blocks, depth_block); }

  // Has the lines of a tile fetched that it will read or write: its rows of x, and with the last depth block its rows of y and below.
  void prefetch(const RowBlocks::Block& of, int64_t index, int64_t depth_block) {
    if (index >= of.first_tile + of.tiles) return;
    const int64_t begin = of.tile_begin(index), end = of.tile_begin(index + 1), column = depth_begin(depth_block);
    const int64_t x_bytes = product.x_bf16 ? 2 : 4, y_bytes = product.y_bf16 ? 2 : 4;
    const int64_t x_lines = divide_up((depth_begin(depth_block + 1) - column) * x_bytes, 64);
    int64_t count = 0;
    for (int64_t row = begin; row < end; ++row) {
      const void* x = product.x_bf16 ? static_cast<const void*>(row_of_x<Bf16>(product, of.group, row, column))
                                     : row_of_x<float>(product, of.group, row, column);
      if (x != nullptr) prefetch_rows[count++] = {x, x_lines};
    }
    if (depth_block + 1 == plan.depth_blocks) {
      const int64_t first = first_panel * kPanel;
      const int64_t y_lines = divide_up((std::min(product.columns, end_panel * kPanel) - first) * y_bytes, 64);
      const auto add = [&](const void* matrix, int64_t row_stride, int64_t group_stride) {
        const auto* at = static_cast<const char*>(matrix) + ((strided() ? of.group * group_stride : 0) + first) * y_bytes;
        for (int64_t row = begin; row < end; ++row) prefetch_rows[count++] = {at + row * row_stride * y_bytes, y_lines};
      };
      if (product.below != nullptr) add(product.below, product.below_row_stride, product.below_group_stride);
      add(product.y, product.y_row_stride, product.y_group_stride);
    }
    prefetcher.start(prefetch_rows, count);
  }

  void copy(int64_t row, int64_t row_count, int64_t column, int64_t depth) const {
    if (product.x_bf16) {
      copy_rows<false, Bf16>(product, block.group, row, row_count, column, depth, stream, rows);
    } else if (product.packed_bf16) {
      copy_rows<true, float>(product, block.group, row, row_count, column, depth, stream, rows);
    } else {
      copy_rows<false, float>(product, block.group, row, row_count, column, depth, stream, rows);
    }
  }

  // Multiplies copied rows with all panels of the task: those of tile `index`, and of the next tile too when `count` is 2; `panels` is
  // the depth block of the first one.
  template <class B>
  void multiply(int64_t index, int64_t count, const B* panels, int64_t panel_stride, int64_t depth, bool first, bool last) {
    int taken = 1;
    for (int64_t panel = first_panel; panel < end_panel; panel += taken, panels += taken * panel_stride) {
      // The first tile is not lower than the second one, which can take as many panels therefore.
      taken = multiply_panels(index, rows, panels, panel_stride, depth, panel, end_panel, first, last);
      if (count == 2)
        multiply_panels(index + 1, rows + tile_rows(index) * kRowScratchStride, panels, panel_stride, depth, panel, panel + taken, first,
                        last);
    }
  }

  int tile_rows(int64_t index) const { return static_cast<int>(block.tile_begin(index + 1) - block.tile_begin(index)); }

  // Multiplies one tile with as many panels from `panel` on as it takes at once; answers their number.
  template <class B>
  int multiply_panels(int64_t index, const float* tile_of_x, const B* panels, int64_t panel_stride, int64_t depth, int64_t panel,
                      int64_t most_panel, bool first, bool last) {
    const int64_t row = block.tile_begin(index), sums_stride = plan.task_panels * kPanel;
    const int64_t column = panel * kPanel, columns = std::min(product.columns, most_panel * kPanel) - column;
    int taken = 1;
    const auto multiply_tile_of = choose_tile<RowsOfA, B>(tile_rows(index), most_panel - panel, columns, &taken);
    TileArgs<B> args;
    args.prefetcher = &prefetcher;
    args.a = tile_of_x;
    args.b = panels;
    args.panel_stride = panel_stride;
    args.depth = depth;
    float* partial = sums + (row - block.tile_begin(block.first_tile)) * sums_stride + (panel - first_panel) * kPanel;
    args.start = first ? nullptr : partial;
    args.start_stride = sums_stride;
    if (!last || finish == Finish::kRaw) {
      args.finish = Finish::kRaw;
      args.c = last ? tile : partial;
      args.c_stride = last ? taken * kPanel : sums_stride;
      args.columns = columns <= kLanes ? kLanes : taken * kPanel;  // whole vectors
      multiply_tile_of(args);
      if (last) {
        const auto complete = product.y_bf16 ? &finish_tile<Bf16> : &finish_tile<float>;
        complete(product, tile, taken * kPanel, block.group, row, tile_rows(index), column, std::min<int64_t>(columns, taken * kPanel));
      }
      return taken;
    }
    args.finish = finish;
    args.columns = std::min<int64_t>(columns, taken * kPanel);
    args.c = static_cast<float*>(product.y) + (strided() ? block.group * product.y_group_stride : 0) + row * product.y_row_stride + column;
    args.c_stride = product.y_row_stride;
    args.bias = product.bias == nullptr ? nullptr : product.bias + block.group * product.bias_group_stride + column;
    if (finish == Finish::kReluMask) {
      args.below = static_cast<const float*>(product.below) + (strided() ? block.group * product.below_group_stride : 0) +
                   row * product.below_row_stride + column;
      args.below_stride = product.below_row_stride;
    }
    multiply_tile_of(args);
    return taken;
  }

  void run() {
    const PackedLayout layout{product.columns, product.depth};
    const int64_t panel_stride = layout.panel_elements(), end_tile = block.first_tile + block.tiles;
    prefetcher.at = reinterpret_cast<const char*>(rows);
    for (int64_t depth_block = 0; depth_block < plan.depth_blocks; ++depth_block) {
      const int64_t begin = depth_begin(depth_block), depth = depth_begin(depth_block + 1) - begin;
      const bool first = depth_block == 0, last = depth_block + 1 == plan.depth_blocks;
      const int64_t offset = block.group * layout.group_elements() + first_panel * panel_stride + begin * kPanel;
      const bool widen = product.packed_bf16 && block.tiles > 2;
      if (widen) {
        for (int64_t panel = 0; panel < end_panel - first_panel; ++panel) {
          widen_panel(static_cast<const Bf16*>(product.packed) + offset + panel * panel_stride, depth * kPanel,
                      widened + panel * depth * kPanel);
        }
      }
      // A block of two tiles takes both at once: they are low, and a panel from the L1 cache serves low tiles better.
      const int64_t at_once = block.tiles == 2 ? 2 : 1;
      for (int64_t index = block.first_tile; index < end_tile; index += at_once) {
        const int64_t row = block.tile_begin(index);
        copy(row, block.tile_begin(index + at_once) - row, begin, depth);
        if (index + at_once < end_tile) {
          prefetch(block, index + 1, depth_block);
        } else if (!last) {
          prefetch(block, block.first_tile, depth_block + 1);
        } else {
          prefetch(next_block, next_block.first_tile, 0);
        }
        if (widen) {
          multiply(index, at_once, static_cast<const float*>(widened), depth * kPanel, depth, first, last);
        } else if (product.packed_bf16) {
          multiply(index, at_once, static_cast<const Bf16*>(product.packed) + offset, panel_stride, depth, first, last);
        } else {
          multiply(index, at_once, static_cast<const float*>(product.packed) + offset, panel_stride, depth, first, last);
        }
      }
    }
  }
};

void product_task(const Product& product, const ProductPlan& plan, const RowBlocks::Block& block, const RowBlocks::Block& next_block,
                  int64_t first_panel, int64_t end_panel, Stream& stream, float* workspace) {
  float* rows = workspace;
  float* widened = rows + plan.rows_floats;
  float* sums = widened + plan.panel_floats;
  float* tile = sums + plan.sums_floats;
  ProductTask task{
      product, plan, block, next_block, first_panel, end_panel, stream, rows, widened, sums, tile, finish_in_registers(product), {}, {}};
  task.run();
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cudamoe::cpu {

HWY_EXPORT(product_task);

ProductPlan plan_product(int threads, int64_t groups, int64_t rows, bool ragged, int64_t columns, int64_t depth, bool packed_bf16) {
  constexpr int64_t kMostTiles = 8, kMostPanels = 16, kTasksAThread = 8;
  const TileShape& shape = tile_shape();
  const int64_t panels = divide_up(columns, shape.columns);
  const int64_t tiles = ragged ? divide_up(rows, shape.rows) : groups * divide_up(rows, shape.rows);
  const int64_t most_tiles_of_a_group = divide_up(rows, shape.rows);
  const int64_t wanted = threads == 1 ? 1 : kTasksAThread * threads;
  ProductPlan plan{};
  plan.depth_blocks = divide_up(depth, kDepthBlock);
  plan.block_tiles = std::clamp<int64_t>(std::min(tiles / wanted, most_tiles_of_a_group), 1, kMostTiles);
  // Few tiles: the columns are shared out as well, four panels at least.
  const int64_t column_tasks = tiles >= wanted || tiles == 0 ? 1 : std::min(divide_up(wanted, tiles), divide_up(panels, 4));
  plan.task_panels = std::min(divide_up(panels, column_tasks), plan.depth_blocks > 1 || packed_bf16 ? kMostPanels : panels);
  plan.workers = threads;
  const int64_t block_rows = plan.block_tiles * shape.rows;
  plan.rows_floats = std::min<int64_t>(2, plan.block_tiles) * shape.rows * kRowScratchStride;
  plan.panel_floats = packed_bf16 && plan.block_tiles > 2 ? plan.task_panels * std::min(depth, kDepthBlock) * shape.columns : 0;
  plan.sums_floats = plan.depth_blocks > 1 ? block_rows * plan.task_panels * shape.columns : 0;
  plan.tile_floats = std::max<int64_t>(shape.rows, 12) * shape.columns;  // 3 rows of 4 panels, or all rows of one
  return plan;
}

cudamoe_status run_product(Stream& stream, const Product& product, float* workspace) {
  if (product.groups.rows == 0 || !product.groups.check(stream, product.function)) return CUDAMOE_OK;
  Device& device = stream.device();
  const RowGroups& groups = product.groups;
  const ProductPlan plan = plan_product(device.threads(), groups.groups, groups.rows, groups.offsets != nullptr, product.columns,
                                        product.depth, product.packed_bf16);
  const TileShape& shape = tile_shape();
  const RowBlocks blocks(groups, shape.rows, plan.block_tiles);
  const int64_t panels = divide_up(product.columns, shape.columns), column_tasks = divide_up(panels, plan.task_panels);
  const auto all_rows = static_cast<double>(groups.offsets == nullptr ? groups.groups * groups.rows : groups.offsets[groups.groups]);
  constexpr double kFlopsANanosecond = 100;
  const double cost = 2 * all_rows * static_cast<double>(product.columns) * static_cast<double>(product.depth) / kFlopsANanosecond;
  const auto run = HWY_DYNAMIC_DISPATCH(product_task);
  device.for_tiles(blocks.count() * column_tasks, cost, [&](int64_t task, int worker) {
    const RowBlocks::Block block = blocks.block(task / column_tasks);
    if (block.tiles == 0) return;
    const int64_t part = task % column_tasks;
    // The other threads will have taken the blocks in between.
    const int64_t next = task / column_tasks + divide_up(plan.workers, column_tasks);
    run(product, plan, block, next < blocks.count() ? blocks.block(next) : RowBlocks::Block{}, part_begin(panels, column_tasks, part),
        part_begin(panels, column_tasks, part + 1), stream, workspace + worker * plan.worker_floats());
  });
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
#endif
