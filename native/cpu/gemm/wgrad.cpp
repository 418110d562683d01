// Weight gradients dw[g] (+)= dz[g]^T x[g] and dbias[g] (+)= column sums of dz[g]; see cudamoe.h, gemm.
//
// Floor: 2 * rows * n * k flops. A task owns a block of dw of one group, up to 272 x 256 elements, and goes through the group's rows in
// equal chunks of at most 192, ascending. Operands that are f32 and lie well are read in place: a step of a tile touches a line or two of
// each, which the L2 cache delivers in time. Others are copied a chunk at a time, so that gather and bf16 cost nothing in the product:
// columns of x into panels, columns of dz (14 with AVX-512) into tiles, which the L1 cache keeps while they multiply. Then every tile
// meets every panel, while the next chunk's lines are fetched. Sums between chunks wait in the work space. An element is one chain of
// multiply-adds over ascending rows, whatever the blocks and threads. With bf16 instructions (layout.h) the copies hold pairs of two
// consecutive rows, the last one beside zeros when the group's rows are odd, and a chunk has up to 256 rows: their f32 sources, their
// copies and the sums share the L2 cache. The task with the first columns of x also sums its columns of dz for the bias, one chain of
// additions a column.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/gemm/wgrad.cpp"
#include "cpu/gemm/wgrad.h"

#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "cpu/common/vector-inl.h"
#include "cpu/device.h"
#include "cpu/gemm/gemm.h"
#include "cpu/gemm/groups.h"
#include "cpu/gemm/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

template <bool kRound>
HWY_INLINE VecF32 rounded(F32 d, VecF32 value) {
  if constexpr (kRound) return round_to_bf16(d, value);
  return value;
}

// Copies columns [column, column + columns) of a row of x into panels: panel p at p * panel_stride, kPanel elements, zeros beyond the
// columns.
template <bool kRound, class T>
HWY_INLINE void copy_x_row(const T* from, int64_t columns, int64_t panel_stride, float* to) {
  const F32 d;
  for (; columns >= kPanel; columns -= kPanel, from += kPanel, to += panel_stride) {
    hn::Store(rounded<kRound>(d, load(d, from)), d, to);
    hn::Store(rounded<kRound>(d, load(d, from + kLanes)), d, to + kLanes);
  }
  if (columns > 0) {
    const int64_t low = std::min<int64_t>(columns, kLanes), high = columns - low;
    hn::Store(rounded<kRound>(d, load_first(d, from, low)), d, to);
    hn::Store(high > 0 ? rounded<kRound>(d, load_first(d, from + kLanes, high)) : hn::Zero(d), d, to + kLanes);
  }
}

// Copies one tile's `columns` columns of a row of dz, zeros beyond.
template <bool kRound, class T>
HWY_INLINE void copy_dz_row(const T* from, int64_t columns, float* to) {
  const F32 d;
  for (int64_t j = 0; j < kColumnScratchStride; j += kLanes) {
    const int64_t count = std::clamp<int64_t>(columns - j, 0, kLanes);
    const VecF32 value = count == kLanes ? load(d, from + j) : count > 0 ? load_first(d, from + j, count) : hn::Zero(d);
    hn::Store(rounded<kRound>(d, value), d, to + j);
  }
}

#if CUDAMOE_BF16_DOT
// Pairs of the first `count` elements of two rows, zeros beyond; a null row counts as zeros.
template <class T>
HWY_INLINE VecPairs pairs_of_rows(const T* low, const T* high, int64_t count) {
  const F32 d;
  const auto read = [&](const T* from) HWY_ATTR {
    return from == nullptr ? hn::Zero(d) : count >= kLanes ? load(d, from) : load_first(d, from, count);
  };
  return pairs_of(read(low), read(high));
}

// Copies columns of two rows of x into panels as copy_x_row does with one.
template <class T>
HWY_INLINE void copy_x_pairs(const T* low, const T* high, int64_t columns, int64_t panel_stride, Bf16Pair* to) {
  for (int64_t column = 0; column < columns; column += kPanel, to += panel_stride) {
    for (int64_t j = 0; j < kPanel; j += kLanes) {
      const int64_t at = column + j, count = std::clamp<int64_t>(columns - at, 0, kLanes);
      const auto begin = [&](const T* row) { return row == nullptr || count == 0 ? nullptr : row + at; };
      store_pairs(pairs_of_rows(begin(low), begin(high), count), to + j);
    }
  }
}

// add_columns of dz for a tile of pairs.
void add_columns_of_pairs(const Bf16Pair* dz, int64_t steps, int64_t columns, float* sums) {
  const F32 d;
  VecF32 sum = load_first(d, sums, columns);
  for (int64_t t = 0; t < steps; ++t, dz += kColumnScratchStride) {
    const VecPairs pairs = load_pairs(dz);
    sum = sum + low_of(d, pairs) + high_of(d, pairs);
  }
  store_first(d, sum, sums, columns);
}
static_assert(kColumnScratchStride == kLanes);
#endif

// sums[j] += the sum over rows of dz[r * stride + j], each column one chain in ascending order.
void add_columns(const float* dz, int64_t stride, int64_t rows, int64_t columns, float* sums) {
  const F32 d;
  constexpr int64_t kChains = 4;  // hide the latency of the addition
  int64_t j = 0;
  for (; j + kChains * kLanes <= columns; j += kChains * kLanes) {
    VecF32 s0 = hn::LoadU(d, sums + j), s1 = hn::LoadU(d, sums + j + kLanes), s2 = hn::LoadU(d, sums + j + 2 * kLanes),
           s3 = hn::LoadU(d, sums + j + 3 * kLanes);
    const float* row = dz + j;
    for (int64_t r = 0; r < rows; ++r, row += stride) {
      s0 = s0 + hn::LoadU(d, row);
      s1 = s1 + hn::LoadU(d, row + kLanes);
      s2 = s2 + hn::LoadU(d, row + 2 * kLanes);
      s3 = s3 + hn::LoadU(d, row + 3 * kLanes);
    }
    hn::StoreU(s0, d, sums + j);
    hn::StoreU(s1, d, sums + j + kLanes);
    hn::StoreU(s2, d, sums + j + 2 * kLanes);
    hn::StoreU(s3, d, sums + j + 3 * kLanes);
  }
  for (; j < columns; j += kLanes) {
    const int64_t count = std::min<int64_t>(kLanes, columns - j);
    VecF32 sum = load_first(d, sums + j, count);
    const float* row = dz + j;
    for (int64_t r = 0; r < rows; ++r, row += stride) sum = sum + load_first(d, row, count);
    store_first(d, sum, sums + j, count);
  }
}

// The block of dw that a task owns, and what it needs to know.
struct WgradBlock {
  const cudamoe_gemm_wgrad_args& args;
  const WgradPlan& plan;
  RowGroups groups;
  Stream& stream;
  int64_t group, first_tile, end_tile, first_panel, end_panel;
  float *x_panels, *dz_tiles, *sums, *bias_sums;

  const void* row_of_x(int64_t row) const {
    if (args.gather != nullptr) row = args.gather[row];
    if (args.gather != nullptr && (row < 0 || row >= args.x_rows)) return nullptr;
    const int64_t at = (args.offsets == nullptr ? group * args.x_group_stride : 0) + row * args.x_row_stride + first_panel * kPanel;
    return static_cast<const char*>(args.x) + at * (args.x_dtype == CUDAMOE_BF16 ? 2 : 4);
  }
  const void* row_of_dz(int64_t row) const {
    const int64_t at = (args.offsets == nullptr ? group * args.dz_group_stride : 0) + row * args.dz_row_stride + tile_column(first_tile);
    return static_cast<const char*>(args.dz) + at * (args.dz_dtype == CUDAMOE_BF16 ? 2 : 4);
  }

  // The lines that the chunk from row `done` of the group on will read; answers the number of entries in `list`.
  int64_t list_chunk(int64_t done, PrefetchRow* list) const {
    const int64_t begin = groups.begin(group) + done, rows = std::min(chunk_rows(), groups.count(group) - done);
    int64_t count = 0;
    // Rows that follow each other without a gap are one run of lines.
    const auto add = [&](int64_t row_bytes, bool together, auto&& row_at) {
      for (int64_t row = begin; row < begin + rows; row += together ? rows : 1) {
        if (const void* at = row_at(row); at != nullptr) list[count++] = {at, divide_up(together ? rows * row_bytes : row_bytes, 64)};
      }
    };
    const int64_t x_columns = std::min<int64_t>(args.k, end_panel * kPanel) - first_panel * kPanel;
    const int64_t dz_columns = tile_column(end_tile) - tile_column(first_tile);
    add(x_columns * (args.x_dtype == CUDAMOE_BF16 ? 2 : 4), args.gather == nullptr && args.x_row_stride == x_columns,
        [&](int64_t row) { return row_of_x(row); });
    add(dz_columns * (args.dz_dtype == CUDAMOE_BF16 ? 2 : 4), args.dz_row_stride == dz_columns,
        [&](int64_t row) { return row_of_dz(row); });
    return count;
  }

  bool pairs() const { return plan.step_rows == 2; }
  // A group's chunks are of nearly equal length: each loads and stores all sums, which a last chunk of a few rows would not be worth.
  int64_t chunk_rows() const {
    const int64_t most = (pairs() ? kPairStepChunk : kStepChunk) * plan.step_rows, rows = std::max<int64_t>(groups.count(group), 1);
    return round_up(divide_up(rows, divide_up(rows, most)), plan.step_rows);
  }
  bool converts_dz() const { return args.dz_dtype != CUDAMOE_F32 || args.compute_dtype != CUDAMOE_F32; }
  // Operands that need no conversion are read where they lie, unless their rows are so far apart that the lines of a tile or panel fall
  // into a few sets of the caches; an odd number of lines from row to row spreads them over all sets. Rows of x must also be aligned, and
  // a last panel that they fill in part is copied.
  static bool spread(int64_t row_stride, int64_t most) { return row_stride <= most || row_stride % 32 == 16; }
  bool dz_in_place() const { return !converts_dz() && spread(args.dz_row_stride, 512); }
  bool x_in_place() const {
    return args.x_dtype == CUDAMOE_F32 && args.compute_dtype == CUDAMOE_F32 && args.gather == nullptr &&
           spread(args.x_row_stride, dz_in_place() ? 512 : 1024) && args.x_row_stride % 16 == 0 && args.x_group_stride % 16 == 0 &&
           reinterpret_cast<uintptr_t>(args.x) % 64 == 0;
  }
  // Panels of x from here on are copied.
  int64_t first_copied_panel() const { return x_in_place() ? std::clamp(args.k / kPanel, first_panel, end_panel) : first_panel; }

  int64_t tile_column(int64_t tile) const { return part_begin(args.n, plan.tiles, tile); }
  bool sums_bias() const { return args.dbias != nullptr && first_panel == 0; }

  void report_row(int64_t row) const {
    stream.report("cudamoe_gemm_wgrad: gather[%lld] is %lld; x has %lld rows", static_cast<long long>(row),
                  static_cast<long long>(args.gather[row]), static_cast<long long>(args.x_rows));
  }

  template <bool kRound, class T>
  void copy_x(int64_t begin, int64_t rows) const {
    const int64_t skipped = first_copied_panel() - first_panel;
    const int64_t columns = std::min<int64_t>(args.k, end_panel * kPanel) - (first_panel + skipped) * kPanel;
    float* to = x_panels + skipped * panel_chunk_floats(kPanel);
    for (int64_t r = 0; r < rows; ++r) {
      if (const void* from = row_of_x(begin + r); from != nullptr) {
        copy_x_row<kRound>(static_cast<const T*>(from) + skipped * kPanel, columns, panel_chunk_floats(kPanel), to + r * kPanel);
        continue;
      }
      report_row(begin + r);
      for (int64_t panel = 0; panel < end_panel - first_panel; ++panel) {
        std::memset(x_panels + panel * panel_chunk_floats(kPanel) + r * kPanel, 0, kPanel * sizeof(float));
      }
    }
  }

  float* dz_tile(int64_t tile) const { return dz_tiles + (tile - first_tile) * kDzTileFloats; }

  // Calls copy(step, column, columns, to) for each tile of each step, step by step: tiles share the cache lines of a row.
  template <class Copy>
  HWY_INLINE void copy_dz_tiles(int64_t steps, const Copy& copy) const {
    std::array<int64_t, kMostBlockRows / kTileRows + 1> begins;
    const int64_t tiles = end_tile - first_tile;
    for (int64_t i = 0; i <= tiles; ++i) begins[static_cast<size_t>(i)] = tile_column(first_tile + i) - tile_column(first_tile);
    for (int64_t step = 0; step < steps; ++step) {
      for (int64_t i = 0; i < tiles; ++i) {
        const int64_t column = begins[static_cast<size_t>(i)];
        copy(step, column, begins[static_cast<size_t>(i) + 1] - column, dz_tiles + i * kDzTileFloats + step * kColumnScratchStride);
      }
    }
  }

  template <bool kRound, class T>
  void copy_dz(int64_t begin, int64_t rows) const {
    const T* dz = static_cast<const T*>(row_of_dz(begin));
    copy_dz_tiles(rows, [&](int64_t row, int64_t column, int64_t columns, float* to)
                            HWY_ATTR { copy_dz_row<kRound>(dz + row * args.dz_row_stride + column, columns, to); });
  }

#if CUDAMOE_BF16_DOT
  template <class T>
  void copy_x_as_pairs(int64_t begin, int64_t rows) const {
    const int64_t columns = std::min<int64_t>(args.k, end_panel * kPanel) - first_panel * kPanel;
    auto* to = reinterpret_cast<Bf16Pair*>(x_panels);
    const auto row_or_null = [&](int64_t r) -> const T* {
      if (r >= rows) return nullptr;
      const void* row = row_of_x(begin + r);
      if (row == nullptr) report_row(begin + r);
      return static_cast<const T*>(row);
    };
    for (int64_t r = 0; r < rows; r += 2, to += kPanel) {
      const T* low = row_or_null(r);
      copy_x_pairs(low, row_or_null(r + 1), columns, panel_chunk_floats(kPanel), to);
    }
  }

  template <class T>
  void copy_dz_as_pairs(int64_t begin, int64_t rows) const {
    const T* dz = static_cast<const T*>(row_of_dz(begin));
    copy_dz_tiles(divide_up(rows, 2), [&](int64_t pair, int64_t column, int64_t columns, float* to) HWY_ATTR {
      const T* low = dz + 2 * pair * args.dz_row_stride + column;
      store_pairs(pairs_of_rows(low, 2 * pair + 1 < rows ? low + args.dz_row_stride : nullptr, columns), reinterpret_cast<Bf16Pair*>(to));
    });
  }
#endif

  void copy_x_chunk(int64_t begin, int64_t rows) const {
#if CUDAMOE_BF16_DOT
    if (pairs()) return args.x_dtype == CUDAMOE_BF16 ? copy_x_as_pairs<Bf16>(begin, rows) : copy_x_as_pairs<float>(begin, rows);
#endif
    if (args.x_dtype == CUDAMOE_BF16) {
      copy_x<false, Bf16>(begin, rows);
    } else if (args.compute_dtype == CUDAMOE_BF16) {
      copy_x<true, float>(begin, rows);
    } else {
      copy_x<false, float>(begin, rows);
    }
  }

  void copy_dz_chunk(int64_t begin, int64_t rows) const {
#if CUDAMOE_BF16_DOT
    if (pairs()) return args.dz_dtype == CUDAMOE_BF16 ? copy_dz_as_pairs<Bf16>(begin, rows) : copy_dz_as_pairs<float>(begin, rows);
#endif
    if (args.dz_dtype == CUDAMOE_BF16) {
      copy_dz<false, Bf16>(begin, rows);
    } else if (args.compute_dtype == CUDAMOE_BF16) {
      copy_dz<true, float>(begin, rows);
    } else {
      copy_dz<false, float>(begin, rows);
    }
  }

  // Adds the columns of a copied tile to the sums of the bias.
  void add_tile(int64_t tile, int64_t steps) const {
    const int64_t columns = tile_column(tile + 1) - tile_column(tile);
    float* to = bias_sums + tile_column(tile) - tile_column(first_tile);
#if CUDAMOE_BF16_DOT
    if (pairs()) return add_columns_of_pairs(reinterpret_cast<const Bf16Pair*>(dz_tile(tile)), steps, columns, to);
#endif
    add_columns(dz_tile(tile), kColumnScratchStride, steps, columns, to);
  }

  // A chunk of rows while it multiplies.
  template <class B>
  struct Chunk {
    int64_t begin, rows, steps;
    bool first, last;   // of the group
    const B* copied_x;  // panels of the task, those of them that are copied
    const float* x;     // the task's first panel where x lies, for those that are not
    int64_t first_copied_panel;
    Prefetcher& prefetcher;
  };

  // Multiplies one tile with as many panels from `panel` on as it takes at once, at most up to `most_panel`; answers their number.
  template <class B>
  int multiply_panels(const Chunk<B>& chunk, int64_t tile, const B* dz, int64_t dz_stride, int64_t panel, int64_t most_panel) const {
    const bool copied = panel >= chunk.first_copied_panel;
    if (!copied) most_panel = std::min(most_panel, chunk.first_copied_panel);
    const int64_t sums_stride = plan.block_panels * kPanel, row = tile_column(tile);
    const int64_t column = panel * kPanel, columns = std::min<int64_t>(args.k, most_panel * kPanel) - column;
    int taken = 1;
    const auto multiply = choose_tile<ColumnsOfA<B>, B>(static_cast<int>(tile_column(tile + 1) - row), most_panel - panel, columns, &taken);
    float* partial = sums + (row - tile_column(first_tile)) * sums_stride + (panel - first_panel) * kPanel;
    TileArgs<B> tile_args;
    tile_args.prefetcher = &chunk.prefetcher;
    tile_args.a = dz;
    tile_args.a_step = dz_stride;
    tile_args.b = chunk.copied_x + (panel - first_panel) * panel_chunk_floats(kPanel);
    tile_args.b_step = kPanel;
    tile_args.panel_stride = panel_chunk_floats(kPanel);
    if constexpr (std::is_same_v<B, float>) {
      if (!copied) {
        tile_args.b = chunk.x + (panel - first_panel) * kPanel;
        tile_args.b_step = args.x_row_stride;
        tile_args.panel_stride = kPanel;
      }
    }
    tile_args.depth = chunk.steps;
    tile_args.start = chunk.first ? nullptr : partial;
    tile_args.start_stride = sums_stride;
    tile_args.bias = nullptr;
    if (chunk.last) {
      tile_args.finish = args.accumulate != 0 ? Finish::kAccumulate : Finish::kRaw;
      tile_args.c = args.dw + group * args.dw_group_stride + row * args.dw_row_stride + column;
      tile_args.c_stride = args.dw_row_stride;
      tile_args.columns = std::min<int64_t>(columns, taken * kPanel);
    } else {
      tile_args.finish = Finish::kRaw;
      tile_args.c = partial;
      tile_args.c_stride = sums_stride;
      tile_args.columns = columns <= kLanes ? kLanes : taken * kPanel;
    }
    multiply(tile_args);
    return taken;
  }

  void multiply_in_place(const Chunk<float>& chunk) const {
    const auto* dz = static_cast<const float*>(row_of_dz(chunk.begin));
    int taken = 1;
    for (int64_t panel = first_panel; panel < end_panel; panel += taken) {
      // The first tile is the tallest; the others take as many panels.
      for (int64_t tile = first_tile; tile < end_tile; ++tile) {
        taken = multiply_panels(chunk, tile, dz + (tile_column(tile) - tile_column(first_tile)), args.dz_row_stride, panel,
                                tile == first_tile ? end_panel : panel + taken);
      }
    }
  }

  template <class B>
  void multiply_copies(const Chunk<B>& chunk) const {
    copy_dz_chunk(chunk.begin, chunk.rows);
    int taken = 1;
    for (int64_t tile = first_tile; tile < end_tile; ++tile) {
      if (sums_bias() && converts_dz()) add_tile(tile, chunk.steps);
      for (int64_t panel = first_panel; panel < end_panel; panel += taken) {
        taken = multiply_panels(chunk, tile, reinterpret_cast<const B*>(dz_tile(tile)), kColumnScratchStride, panel, end_panel);
      }
    }
  }

  void write_bias() const {
    float* dbias = args.dbias + group * args.dbias_group_stride + tile_column(first_tile);
    for (int64_t j = 0; j < tile_column(end_tile) - tile_column(first_tile); ++j)
      dbias[j] = args.accumulate != 0 ? dbias[j] + bias_sums[j] : bias_sums[j];
  }

  void write_zeros() const {
    const int64_t column = first_panel * kPanel, columns = std::min<int64_t>(args.k, end_panel * kPanel) - column;
    float* dw = args.dw + group * args.dw_group_stride + column;
    for (int64_t row = tile_column(first_tile); row < tile_column(end_tile); ++row) {
      std::memset(dw + row * args.dw_row_stride, 0, static_cast<size_t>(columns) * sizeof(float));
    }
  }

  // Multiplies the chunk of `rows` rows from row `done` of the group on.
  void multiply_chunk(int64_t done, int64_t rows, Prefetcher& prefetcher) const {
    const int64_t begin = groups.begin(group) + done, steps = divide_up(rows, plan.step_rows);
    const bool first = done == 0, last = done + rows == groups.count(group);
#if CUDAMOE_BF16_DOT
    if (pairs()) {
      const auto* x = reinterpret_cast<const Bf16Pair*>(x_panels);
      return multiply_copies<Bf16Pair>({begin, rows, steps, first, last, x, nullptr, first_panel, prefetcher});
    }
#endif
    const float* x = x_in_place() ? static_cast<const float*>(row_of_x(begin)) : nullptr;
    const Chunk<float> chunk{begin, rows, steps, first, last, x_panels, x, first_copied_panel(), prefetcher};
    if (dz_in_place()) {
      multiply_in_place(chunk);
    } else {
      multiply_copies(chunk);
    }
  }

  // `next` is what the thread is likely to do next, or null.
  void run(const WgradBlock* next) const {
    PrefetchRow list[4 * kStepChunk];
    Prefetcher prefetcher;
    prefetcher.at = reinterpret_cast<const char*>(sums);
    const int64_t begin = groups.begin(group), rows = groups.count(group);
    if (rows == 0 && args.accumulate == 0) write_zeros();
    if (sums_bias()) std::memset(bias_sums, 0, static_cast<size_t>(tile_column(end_tile) - tile_column(first_tile)) * sizeof(float));
    for (int64_t done = 0; done < rows; done += chunk_rows()) {
      const int64_t chunk = std::min(chunk_rows(), rows - done), steps = divide_up(chunk, plan.step_rows);
      if (first_copied_panel() < end_panel) copy_x_chunk(begin + done, chunk);
      const int64_t all_steps = (end_tile - first_tile) * (end_panel - first_panel) * steps;
      if (done + chunk < rows) {
        prefetcher.start(list, list_chunk(done + chunk, list), all_steps);
      } else if (next != nullptr) {
        prefetcher.start(list, next->list_chunk(0, list), all_steps);
      }
      multiply_chunk(done, chunk, prefetcher);
      if (sums_bias() && !converts_dz()) {
        add_columns(static_cast<const float*>(row_of_dz(begin + done)), args.dz_row_stride, chunk,
                    tile_column(end_tile) - tile_column(first_tile), bias_sums);
      }
    }
    if (sums_bias()) write_bias();
  }
};

WgradBlock block_of_task(const cudamoe_gemm_wgrad_args& args, const WgradPlan& plan, const RowGroups& groups, int64_t task, Stream& stream,
                         float* workspace) {
  const int64_t blocks = plan.tile_blocks * plan.panel_blocks, group = task / blocks;
  const auto [tile_block, panel_block] = plan.block(task % blocks);
  float* x_panels = workspace;
  float* dz_tiles = x_panels + plan.x_floats;
  float* sums = dz_tiles + plan.dz_floats;
  float* bias_sums = sums + plan.sums_floats;
  return {args,
          plan,
          groups,
          stream,
          group,
          part_begin(plan.tiles, plan.tile_blocks, tile_block),
          part_begin(plan.tiles, plan.tile_blocks, tile_block + 1),
          part_begin(plan.panels, plan.panel_blocks, panel_block),
          part_begin(plan.panels, plan.panel_blocks, panel_block + 1),
          x_panels,
          dz_tiles,
          sums,
          bias_sums};
}

void wgrad_task(const cudamoe_gemm_wgrad_args& args, const WgradPlan& plan, const RowGroups& groups, int64_t task, int64_t tasks,
                Stream& stream, float* workspace) {
  const WgradBlock block = block_of_task(args, plan, groups, task, stream, workspace);
  const int64_t next = task + 1;
  if (next < tasks) {
    const WgradBlock next_block = block_of_task(args, plan, groups, next, stream, workspace);
    block.run(&next_block);
  } else {
    block.run(nullptr);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cudamoe::cpu {

HWY_EXPORT(wgrad_task);

// Parts of a length as part_begin cuts it, without a division for each.
struct Parts {
  Parts(int64_t length, int64_t parts) : size(length / parts), longer(length % parts) {}
  int64_t size, longer;  // the first `longer` parts have one more
  int64_t operator[](int64_t part) const { return size + (part < longer ? 1 : 0); }
};

// The time of the thread with the most to do, in products of a tile with a panel, when every thread keeps to its part of the tasks.
double longest_part(const WgradPlan& plan, int threads, const cudamoe_gemm_wgrad_args& args) {
  // What a tile or a panel costs a task besides its products: copies, and lines from a far cache.
  constexpr double kOperand = 0.1;
  const int64_t blocks = plan.tile_blocks * plan.panel_blocks;
  const Parts tiles_of(plan.tiles, plan.tile_blocks), panels_of(plan.panels, plan.panel_blocks), tasks_of(args.groups * blocks, threads);
  const int64_t rest = args.k % tile_shape().columns;
  const double last_panel = rest > 0 && rest <= tile_shape().columns / 2 ? 0.5 : 1;
  double longest = 0, time = 0;
  int64_t part = 0, left = tasks_of[0];  // tasks of the part
  const auto add = [&](int64_t tile_block, int64_t panel_block) {
    const auto tiles = static_cast<double>(tiles_of[tile_block]);
    const double panels = static_cast<double>(panels_of[panel_block]) - (panel_block == plan.panel_blocks - 1 ? 1 - last_panel : 0);
    time += tiles * panels + kOperand * (tiles + panels);
    longest = std::max(longest, time);
    if (--left == 0) {
      left = tasks_of[++part];
      time = 0;
    }
  };
  for (int64_t group = 0; group < args.groups; ++group) {
    for (int64_t outer = 0; outer < (plan.by_panels ? plan.panel_blocks : plan.tile_blocks); ++outer) {
      for (int64_t inner = 0; inner < (plan.by_panels ? plan.tile_blocks : plan.panel_blocks); ++inner) {
        add(plan.by_panels ? inner : outer, plan.by_panels ? outer : inner);
      }
    }
  }
  return longest;
}

WgradPlan plan_wgrad(int threads, const cudamoe_gemm_wgrad_args& args) {
  constexpr int64_t kMostColumns = 256, kTasksAThread = 2;
  const TileShape& shape = tile_shape();
  WgradPlan plan{};
  plan.step_rows = multiplies_pairs(args.compute_dtype == CUDAMOE_BF16) ? 2 : 1;
  plan.tiles = divide_up(args.n, shape.rows);
  plan.panels = divide_up(args.k, shape.columns);
  plan.tile_blocks = divide_up(plan.tiles, std::max<int64_t>(1, kMostBlockRows / shape.rows));
  plan.panel_blocks = divide_up(plan.panels, std::max<int64_t>(1, kMostColumns / shape.columns));
  // A few tasks a thread: another program may keep one of the processors busy, but each task reads its columns of x and dz once more, from
  // memory when the rows are many.
  const int64_t wanted = std::min(threads == 1 ? 1 : divide_up(kTasksAThread * threads, args.groups), plan.tiles * plan.panels);
  if (plan.tile_blocks * plan.panel_blocks < wanted) {
    // Of the cuts into just enough blocks, and both orders, the one that keeps the threads busy for the same time.
    constexpr int kMostCuts = 8;
    const int64_t least_panel_blocks = plan.panel_blocks, most_tile_blocks = std::min(plan.tiles, wanted);
    WgradPlan best = plan;
    double least = 0;
    plan.tile_blocks = std::max(plan.tile_blocks, divide_up(wanted, plan.panels));
    for (int cut = 0; cut < kMostCuts && plan.tile_blocks <= most_tile_blocks; ++cut, ++plan.tile_blocks) {
      plan.panel_blocks = std::min(plan.panels, std::max(divide_up(wanted, plan.tile_blocks), least_panel_blocks));
      for (const bool by_panels : {false, true}) {
        plan.by_panels = by_panels;
        const double longest = longest_part(plan, threads, args);
        if (least == 0 || longest < least) {
          least = longest;
          best = plan;
        }
      }
    }
    plan = best;
  }
  const int64_t block_tiles = divide_up(plan.tiles, plan.tile_blocks);
  plan.block_panels = divide_up(plan.panels, plan.panel_blocks);
  plan.workers = threads;
  plan.x_floats = plan.block_panels * panel_chunk_floats(shape.columns);
  plan.dz_floats = block_tiles * kDzTileFloats;
  plan.sums_floats = block_tiles * shape.rows * plan.block_panels * shape.columns;
  plan.bias_floats = round_up(block_tiles, 4) * kColumnScratchStride;
  return plan;
}

int64_t gemm_wgrad_workspace(void* stream, const cudamoe_gemm_wgrad_args& args) {
  return plan_wgrad(stream_of(stream).device().threads(), args).bytes();
}

cudamoe_status gemm_wgrad(void* stream_pointer, const cudamoe_gemm_wgrad_args& args) {
  Stream& stream = stream_of(stream_pointer);
  const RowGroups groups{args.groups, args.rows, args.offsets};
  if (!groups.check(stream, "cudamoe_gemm_wgrad")) return CUDAMOE_OK;
  const WgradPlan plan = plan_wgrad(stream.device().threads(), args);
  const auto rows = static_cast<double>(args.offsets == nullptr ? args.groups * args.rows : args.rows);
  // Writing dw is no work worth sharing: of a row or two it is all there is to do, and lines that move between the caches of two cores
  // double it.
  constexpr double kFlopsANanosecond = 100;
  const double cost = 2 * rows * static_cast<double>(args.n) * static_cast<double>(args.k) / kFlopsANanosecond;
  const auto run = HWY_DYNAMIC_DISPATCH(wgrad_task);
  auto* workspace = static_cast<float*>(args.workspace);
  const int64_t tasks = args.groups * plan.tile_blocks * plan.panel_blocks;
  stream.device().for_tiles(tasks, cost, [&](int64_t task, int worker) {
    run(args, plan, groups, task, tasks, stream, workspace + worker * plan.worker_floats());
  });
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
#endif
