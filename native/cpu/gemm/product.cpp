// Grouped products y = finish(x * W) with packed W; see cudamoe.h, gemm.
//
// Floor: 2 * rows * columns * depth flops; at recommender widths the weights stay in the L2 cache. A task is a block of row tiles
// times a run of panels. It goes through depth blocks of at most 1024 in ascending order, in each through passes of as many panels as take
// a small part of the L2 cache, and in a pass through its tiles: it multiplies a tile with one panel after the other, while the rows of
// the next tile and a share of the panels of the next pass are fetched into the L2 cache. f32 rows are read where they lie. Gathered rows,
// rows a multiple of 4 KiB apart, bf16 and rounding to bf16 take a copy, made in the first pass. Sums between depth blocks wait in the
// work space.
// With bf16 instructions weights are packed as pairs along the depth and rows are copied as bf16, or read where they lie when they are bf16
// and whole pairs. At other levels bf16 weights are widened to f32 once a pass, or in registers when the task has two tiles at most.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/gemm/product.cpp"
#include "cpu/gemm/product.h"

#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "cpu/common/activation-inl.h"
#include "cpu/gemm/dot.h"
#include "cpu/gemm/rows-inl.h"
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

// Copies `count` elements as bf16, with zeros up to a whole vector of pairs.
[[maybe_unused]] HWY_INLINE void copy_row_of_pairs(const Bf16* from, int64_t count, Bf16* to) {
  std::memcpy(static_cast<void*>(to), from, static_cast<size_t>(count) * sizeof(Bf16));
  std::memset(static_cast<void*>(to + count), 0, static_cast<size_t>(round_up(count, 2 * kLanes) - count) * sizeof(Bf16));
}
#if CUDAMOE_BF16_DOT
HWY_INLINE void copy_row_of_pairs(const float* from, int64_t count, Bf16* to) {
  const F32 d;
  auto* pairs = reinterpret_cast<Bf16Pair*>(to);
  int64_t t = 0;
  for (; t + 2 * kLanes <= count; t += 2 * kLanes) store_pairs(round_both(load(d, from + t), load(d, from + t + kLanes)), pairs + t / 2);
  if (const int64_t left = count - t; left > 0) {
    const VecF32 low = load_first(d, from + t, std::min<int64_t>(left, kLanes));
    const VecF32 high = left > kLanes ? load_first(d, from + t + kLanes, left - kLanes) : hn::Zero(d);
    store_pairs(round_both(low, high), pairs + t / 2);
  }
}
#endif

// Copies rows row .. row + rows - 1 by copy(from, to), with zeros for those that x does not have.
template <class T, class Copy>
void copy_rows(const Product& product, int64_t group, int64_t row, int64_t rows, int64_t column, int64_t steps, Stream& stream, float* to,
               int64_t to_stride, const Copy& copy) {
  for (int64_t i = 0; i < rows; ++i, to += to_stride) {
    if (const T* from = row_of_x<T>(product, group, row + i, column); from != nullptr) {
      copy(from, to);
      continue;
    }
    report_row(product, row + i, stream);
    std::memset(to, 0, static_cast<size_t>(steps) * sizeof(float));
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
    if (product.activation != CUDAMOE_ACTIVATION_RELU) return Finish::kRaw;
    return product.accumulate ? Finish::kAccumulateReluMask : Finish::kReluMask;
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
  float* rows;     // copied rows, of one tile or, with several passes, of the block; plan.pairs: of bf16
  float* widened;  // bf16 panels of one pass in f32
  float* sums;     // [rows of the block, task_panels * kPanel], when there are several depth blocks
  float* tile;     // raw sums of one tile
  Finish finish;
  Prefetcher prefetcher;
  PrefetchRow prefetch_rows[3 * kTileRows + kMostPassPanels];

  // A part of the task: a depth block with the panels of a pass.
  struct Part {
    int64_t depth_block, pass;
  };

  bool strided() const { return product.groups.offsets == nullptr; }
  bool copies_rows() const {
    if (plan.pairs) return !product.x_bf16 || product.gather != nullptr || product.depth % 2 != 0 || product.x_row_stride % 2 != 0;
    return product.x_bf16 || product.packed_bf16 || product.gather != nullptr || rows_share_a_set();
  }
  // Rows a multiple of 4 KiB apart fall into one set of the L1 cache, which has fewer ways than a tile has rows: every element would come
  // from the L2 cache.
  bool rows_share_a_set() const { return product.depth > 16 && product.x_row_stride % 1024 == 0; }
  PackedLayout layout() const { return packed_layout(product.columns, product.depth, product.packed_bf16); }
  int64_t step_begin(int64_t depth_block) const { return part_begin(plan.steps, plan.depth_blocks, depth_block); }
  int64_t steps(Part part) const { return step_begin(part.depth_block + 1) - step_begin(part.depth_block); }
  // Column of x where a depth block begins.
  int64_t column_begin(int64_t depth_block) const { return std::min(step_begin(depth_block) * (plan.pairs ? 2 : 1), product.depth); }
  int64_t passes() const { return divide_up(end_panel - first_panel, plan.pass_panels); }
  int64_t pass_begin(int64_t pass) const { return first_panel + part_begin(end_panel - first_panel, passes(), pass); }
  int tile_rows(int64_t index) const { return static_cast<int>(block.tile_begin(index + 1) - block.tile_begin(index)); }

  // Elements from the start of the packed weights to the first panel of a part.
  int64_t packed_offset(int64_t group, Part part) const {
    return group * layout().group_elements() + pass_begin(part.pass) * layout().panel_elements() + step_begin(part.depth_block) * kPanel;
  }

  // Lists the lines of a tile that it will read or write in a part: its rows of x, unless an earlier pass read them, and with the last
  // depth block its rows of y and below. Answers the number of entries.
  int64_t list_tile(const RowBlocks::Block& of, int64_t index, Part part, PrefetchRow* list) const {
    const int64_t begin = of.tile_begin(index), end = of.tile_begin(index + 1);
    int64_t count = 0;
    if (part.pass == 0) {
      const int64_t column = column_begin(part.depth_block), x_bytes = product.x_bf16 ? 2 : 4;
      const int64_t x_lines = divide_up((column_begin(part.depth_block + 1) - column) * x_bytes, 64);
      for (int64_t row = begin; row < end; ++row) {
        const void* x = product.x_bf16 ? static_cast<const void*>(row_of_x<Bf16>(product, of.group, row, column))
                                       : row_of_x<float>(product, of.group, row, column);
        if (x != nullptr) list[count++] = {x, x_lines};
      }
    }
    if (part.depth_block + 1 == plan.depth_blocks) {
      const int64_t first = pass_begin(part.pass) * kPanel, y_bytes = product.y_bf16 ? 2 : 4;
      const int64_t y_lines = divide_up((std::min(product.columns, pass_begin(part.pass + 1) * kPanel) - first) * y_bytes, 64);
      const auto add = [&](const void* matrix, int64_t row_stride, int64_t group_stride) {
        const auto* at = static_cast<const char*>(matrix) + ((strided() ? of.group * group_stride : 0) + first) * y_bytes;
        for (int64_t row = begin; row < end; ++row) list[count++] = {at + row * row_stride * y_bytes, y_lines};
      };
      if (product.below != nullptr) add(product.below, product.below_row_stride, product.below_group_stride);
      add(product.y, product.y_row_stride, product.y_group_stride);
    }
    return count;
  }

  // Lists share `index` of `shares` of the panels of a part. Answers the number of entries.
  int64_t list_panels(int64_t group, Part part, int64_t index, int64_t shares, PrefetchRow* list) const {
    const int64_t bytes = layout().element_bytes, panels = pass_begin(part.pass + 1) - pass_begin(part.pass);
    const int64_t panel_lines = steps(part) * kPanel * bytes / 64, panel_bytes = layout().panel_elements() * bytes;
    const char* at = static_cast<const char*>(product.packed) + packed_offset(group, part) * bytes;
    const int64_t end = part_begin(panels * panel_lines, shares, index + 1);
    int64_t count = 0;
    for (int64_t line = part_begin(panels * panel_lines, shares, index); line < end && count < kMostPassPanels;) {
      const int64_t lines = std::min(end - line, panel_lines - line % panel_lines);
      list[count++] = {at + line / panel_lines * panel_bytes + line % panel_lines * 64, lines};
      line += lines;
    }
    return count;
  }

  // Has fetched what follows tile `index` of a part: the next tile and, in shares, the panels of the next part.
  void prefetch(int64_t index, Part part) {
    const int64_t tiles = block.tiles, share = index - block.first_tile;
    const RowBlocks::Block* next = &block;
    Part next_part{part.depth_block, part.pass + 1};
    if (next_part.pass == passes()) next_part = {part.depth_block + 1, 0};
    if (next_part.depth_block == plan.depth_blocks) {
      next_part = {0, 0};
      next = &next_block;
    }
    int64_t count = 0;
    if (share + 1 < tiles) {
      count = list_tile(block, index + 1, part, prefetch_rows);
    } else if (next->tiles > 0) {
      count = list_tile(*next, next->first_tile, next_part, prefetch_rows);
    }
    const bool other_panels = passes() > 1 || plan.depth_blocks > 1 || next->group != block.group;
    if (next->tiles > 0 && tiles > 1 && other_panels) {
      count += list_panels(next->group, next_part, share, tiles, prefetch_rows + count);
    }
    prefetcher.start(prefetch_rows, count, (pass_begin(part.pass + 1) - pass_begin(part.pass)) * steps(part));
  }

  // Copies the rows of tile `index`, the columns of a depth block.
  void copy(int64_t index, Part part, float* to) const {
    const int64_t column = column_begin(part.depth_block), depth = column_begin(part.depth_block + 1) - column;
    const auto copy_as = [&](auto type, auto&& copy_one) {
      copy_rows<decltype(type)>(product, block.group, block.tile_begin(index), tile_rows(index), column, steps(part), stream, to,
                                plan.rows_stride, copy_one);
    };
#if CUDAMOE_BF16_DOT
    if (plan.pairs) {
      const auto as_pairs = [&](const auto* from, float* row) HWY_ATTR { copy_row_of_pairs(from, depth, reinterpret_cast<Bf16*>(row)); };
      return product.x_bf16 ? copy_as(Bf16{}, as_pairs) : copy_as(0.0f, as_pairs);
    }
#endif
    if (product.x_bf16) {
      copy_as(Bf16{}, [&](const Bf16* from, float* row) HWY_ATTR { copy_row<false>(from, depth, row); });
    } else if (product.packed_bf16) {
      copy_as(0.0f, [&](const float* from, float* row) HWY_ATTR { copy_row<true>(from, depth, row); });
    } else {
      copy_as(0.0f, [&](const float* from, float* row) HWY_ATTR { copy_row<false>(from, depth, row); });
    }
  }

  // Multiplies tile `index` with all panels of a part; `panels` is the depth block of the first one.
  template <class B>
  void multiply(int64_t index, const LeftOf<B>* x, int64_t x_stride, const B* panels, int64_t panel_stride, Part part) {
    const bool first = part.depth_block == 0, last = part.depth_block + 1 == plan.depth_blocks;
    const int64_t row = block.tile_begin(index), sums_stride = plan.task_panels * kPanel;
    const int64_t end = pass_begin(part.pass + 1);
    TileArgs<B> args;
    args.prefetcher = &prefetcher;
    args.a = x;
    args.a_row_stride = x_stride;
    args.panel_stride = panel_stride;
    args.depth = steps(part);
    args.start_stride = sums_stride;
    int taken = 1;
    for (int64_t panel = pass_begin(part.pass); panel < end; panel += taken, panels += taken * panel_stride) {
      const int64_t column = panel * kPanel, columns = std::min(product.columns, end * kPanel) - column;
      const auto multiply_tile_of = choose_tile<RowsOfA<B>, B>(tile_rows(index), end - panel, columns, &taken);
      float* partial = sums + (row - block.tile_begin(block.first_tile)) * sums_stride + (panel - first_panel) * kPanel;
      args.b = panels;
      args.start = first ? nullptr : partial;
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
        continue;
      }
      args.finish = finish;
      args.columns = std::min<int64_t>(columns, taken * kPanel);
      args.c =
          static_cast<float*>(product.y) + (strided() ? block.group * product.y_group_stride : 0) + row * product.y_row_stride + column;
      args.c_stride = product.y_row_stride;
      args.bias = product.bias == nullptr ? nullptr : product.bias + block.group * product.bias_group_stride + column;
      if (product.below != nullptr) {
        args.below = static_cast<const float*>(product.below) + (strided() ? block.group * product.below_group_stride : 0) +
                     row * product.below_row_stride + column;
        args.below_stride = product.below_row_stride;
      }
      multiply_tile_of(args);
    }
  }

  // Multiplies all tiles with the panels of a part.
  template <class B>
  void run_tiles(Part part, const B* panels, int64_t panel_stride) {
    using Left = LeftOf<B>;
    using Row = std::conditional_t<std::is_same_v<Left, Bf16Pair>, Bf16, float>;
    for (int64_t index = block.first_tile; index < block.first_tile + block.tiles; ++index) {
      const Left* x;
      int64_t x_stride;
      if (copies_rows()) {
        float* to = rows + (passes() > 1 ? block.tile_begin(index) - block.tile_begin(block.first_tile) : 0) * plan.rows_stride;
        if (part.pass == 0) copy(index, part, to);
        x = reinterpret_cast<const Left*>(to);
        x_stride = plan.rows_stride;
      } else {
        x = reinterpret_cast<const Left*>(row_of_x<Row>(product, block.group, block.tile_begin(index), column_begin(part.depth_block)));
        x_stride = product.x_row_stride * static_cast<int64_t>(sizeof(Row)) / static_cast<int64_t>(sizeof(Left));
      }
      prefetch(index, part);
      multiply(index, x, x_stride, panels, panel_stride, part);
    }
  }

  void run_part(Part part) {
    const int64_t offset = packed_offset(block.group, part), panel_stride = layout().panel_elements();
#if CUDAMOE_BF16_DOT
    if (plan.pairs) return run_tiles(part, static_cast<const Bf16Pair*>(product.packed) + offset, panel_stride);
#endif
    if (!product.packed_bf16) return run_tiles(part, static_cast<const float*>(product.packed) + offset, panel_stride);
    const Bf16* panels = static_cast<const Bf16*>(product.packed) + offset;
    if (block.tiles <= 2) return run_tiles(part, panels, panel_stride);
    const int64_t widened_stride = steps(part) * kPanel;
    for (int64_t panel = 0; panel < pass_begin(part.pass + 1) - pass_begin(part.pass); ++panel) {
      widen_panel(panels + panel * panel_stride, widened_stride, widened + panel * widened_stride);
    }
    run_tiles(part, static_cast<const float*>(widened), widened_stride);
  }

  void run() {
    prefetcher.at = reinterpret_cast<const char*>(tile);
    for (int64_t depth_block = 0; depth_block < plan.depth_blocks; ++depth_block) {
      for (int64_t pass = 0; pass < passes(); ++pass) run_part({depth_block, pass});
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
  constexpr int64_t kMostDepth = 1024, kMostTiles = 8, kMostPanels = 16, kTasksAThread = 8;
  constexpr int64_t kOnePassBytes = int64_t{512} << 10, kPassBytes = int64_t{256} << 10;  // of panels in f32
  const TileShape& shape = tile_shape();
  const int64_t panels = divide_up(columns, shape.columns);
  const int64_t tiles = ragged ? divide_up(rows, shape.rows) : groups * divide_up(rows, shape.rows);
  const int64_t most_tiles_of_a_group = divide_up(rows, shape.rows);
  const int64_t wanted = threads == 1 ? 1 : kTasksAThread * threads;
  ProductPlan plan{};
  plan.pairs = multiplies_pairs(packed_bf16);
  plan.steps = packed_layout(columns, depth, packed_bf16).steps;
  plan.depth_blocks = divide_up(plan.steps, kMostDepth);
  plan.block_tiles = std::clamp<int64_t>(std::min(tiles / wanted, most_tiles_of_a_group), 1, kMostTiles);
  // Few tiles: the columns are shared out as well, four panels at least.
  const int64_t column_tasks = tiles >= wanted || tiles == 0 ? 1 : std::min(divide_up(wanted, tiles), divide_up(panels, 4));
  plan.task_panels = std::min(divide_up(panels, column_tasks), plan.depth_blocks > 1 ? kMostPanels : panels);
  const int64_t block_steps = divide_up(plan.steps, plan.depth_blocks);
  const int64_t panel_bytes = block_steps * shape.columns * static_cast<int64_t>(sizeof(float));
  const bool one_pass = plan.block_tiles == 1 || plan.task_panels * panel_bytes <= kOnePassBytes;
  plan.pass_panels = one_pass ? plan.task_panels : std::clamp<int64_t>(kPassBytes / panel_bytes, 1, kMostPassPanels);
  plan.workers = threads;
  const int64_t block_rows = plan.block_tiles * shape.rows;
  plan.rows_stride = (divide_up(block_steps, 16) | 1) * 16;
  plan.rows_floats = (one_pass ? shape.rows : block_rows) * plan.rows_stride;
  plan.panel_floats = packed_bf16 && !plan.pairs && plan.block_tiles > 2 ? plan.pass_panels * block_steps * shape.columns : 0;
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
  if (is_dot(product)) {
    run_dot(stream, product, workspace, plan.worker_floats());
    return CUDAMOE_OK;
  }
  const TileShape& shape = tile_shape();
  const RowBlocks blocks(groups, shape.rows, plan.block_tiles);
  const int64_t panels = divide_up(product.columns, shape.columns), column_tasks = divide_up(panels, plan.task_panels);
  const auto all_rows = static_cast<double>(groups.offsets == nullptr ? groups.groups * groups.rows : groups.offsets[groups.groups]);
  // Few rows take as long as their weights need to come from the L2 cache.
  constexpr double kFlopsANanosecond = 100, kBytesANanosecond = 40;
  const double weights = static_cast<double>(product.columns) * static_cast<double>(product.depth);
  const double weight_bytes = weights * static_cast<double>(groups.groups) * (product.packed_bf16 ? 2 : 4);
  const double cost = std::max(2 * all_rows * weights / kFlopsANanosecond, all_rows > 0 ? weight_bytes / kBytesANanosecond : 0);
  const auto run = HWY_DYNAMIC_DISPATCH(product_task);
  device.for_tiles(blocks.count() * column_tasks, cost, [&](int64_t task, int worker) {
    const RowBlocks::Block block = blocks.block(task / column_tasks);
    if (block.tiles == 0) return;
    const int64_t part = task % column_tasks;
    const int64_t next = task / column_tasks + 1;
    run(product, plan, block, next < blocks.count() ? blocks.block(next) : RowBlocks::Block{}, part_begin(panels, column_tasks, part),
        part_begin(panels, column_tasks, part + 1), stream, workspace + worker * plan.worker_floats());
  });
  return CUDAMOE_OK;
}

void run_product_alone(Stream& stream, const Product& product, const ProductPlan& plan, float* workspace) {
  const RowBlocks blocks(product.groups, tile_shape().rows, plan.block_tiles);
  const int64_t panels = divide_up(product.columns, tile_shape().columns), column_tasks = divide_up(panels, plan.task_panels);
  const auto run = HWY_DYNAMIC_DISPATCH(product_task);
  for (int64_t number = 0; number < blocks.count(); ++number) {
    const RowBlocks::Block block = blocks.block(number), next = number + 1 < blocks.count() ? blocks.block(number + 1) : RowBlocks::Block{};
    for (int64_t part = 0; part < column_tasks; ++part) {
      run(product, plan, block, next, part_begin(panels, column_tasks, part), part_begin(panels, column_tasks, part + 1), stream,
          workspace);
    }
  }
}

}  // namespace cudamoe::cpu
#endif
