// The product behind forward and data gradient by wgmma on sm_90a: y = finish(x * packed) over row groups, bf16 operands, f32 sums; see
// gemm.h; x may be f32, which is rounded. finish: bias, ReLU or LeakyReLU, or their derivative at `below`.
//
// Floor: rows * depth of x, the packed weights once and rows * columns of y in bytes; 2 * rows * columns * depth flops.
// Tiling: a block per multiprocessor, which has a run of units: a row tile of 128 or 256 rows and some of its column tiles, of 64 or 128
// columns. The rows of x, 64 of depth at a time, are a slab of a ring of four; where depth is at most 256 a row tile stays there for all of
// its column tiles. Weights are a second ring of four slabs. Twelve warps: two warp-groups multiply, each half of the rows; warp 8 has the
// weights copied by TMA; warps 9 to 11 take turns at the slabs of x, whose rows lie anywhere. So the next tile is under way while one is
// multiplied and finished. Results go from the accumulators to memory (fragment_rows.cuh).
// Shared memory: 4 * 128 * (tile rows + tile columns) bytes, at most 192 KiB; both operands have the swizzle of 128 bytes. With rows of f32
// 12 bytes a tile row more, for where they lie.
// Order of sums: an element is one accumulator over ascending depth, 16 at a time.
#include "common/first_offender.cuh"
#include "common/ptx/barrier.cuh"
#include "gemm/fragment_finish.cuh"
#include "gemm/row_walk.cuh"
#include "gemm/wgmma_block.cuh"

namespace cudamoe::kernels {
namespace {

// kRowBlocks: blocks of 64 rows of a warp-group.
template <int kRowBlocks, int kColumns>
struct Shape {
  static constexpr int kRows = kMultipliers / kGroup * 64 * kRowBlocks;
  static constexpr int kLeftSlab = kRows * kDepth, kRightSlab = kDepth * kColumns;  // elements
  static constexpr int64_t kBytes = int64_t{kSlots} * (kLeftSlab + kRightSlab) * 2;
};

#if CUDAMOE_HAS_SM90A

CUDAMOE_DEVICE int first_unit(const GemmWgmmaProduct& p, int block) {
  return block * p.units_of_block + (block < p.more_units ? block : p.more_units);
}
// Slabs along the depth; where they all fit the ring, the rows of a tile stay there for all of its column tiles.
CUDAMOE_DEVICE int steps_of(const GemmWgmmaProduct& p) { return ceil_divide(p.product.depth, kDepth); }
CUDAMOE_DEVICE bool rows_stay(const GemmWgmmaProduct& p) { return p.product.depth <= kSlots * kDepth; }

// body(row tile, its first column tile, the one past its last) for every unit of the block that has rows. Units are numbered by row tile,
// then by column tiles; a block has a run of them.
template <class Tile, class Body>
CUDAMOE_DEVICE void each_unit(const GemmWgmmaProduct& p, int32_t first_group, Body&& body) {
  RowWalk walk(p.product.rows, first_group, Tile::kRows);
  CUDAMOE_NO_UNROLL
  for (int unit = first_unit(p, block_x()); unit < first_unit(p, computed_here(block_x()) + 1); ++unit) {
    const int number = unit / p.chunks, first = (unit - number * p.chunks) * p.column_tiles_of_unit, last = first + p.column_tiles_of_unit;
    const GemmRowTile tile = walk.at(number);
    if (tile.rows > 0) body(tile, first, last < p.column_tiles ? last : p.column_tiles);
  }
}

struct Barriers {
  Shared<uint64_t> full_rows, empty_rows, full_weights, empty_weights;  // of kSlots each
};

// A slab of x, of whose rows a lane copies eight elements, of `depth` that are left from `x` on: every fourth row. Rows of x are counted
// from `x` on; -1: zeros. source[i] is that of row 32 i + lane.
template <class Tile>
CUDAMOE_DEVICE void copy_slab(const Bf16* x, int64_t row_stride, const int32_t (&source)[Tile::kRows / kWarp], int depth,
                              Shared<Bf16> slab) {
  const int part = lane_id() % 8, row_of_lane = lane_id() / 8;
  const int bytes = depth <= 0 ? 0 : (depth >= 8 ? 16 : 2 * depth);
  CUDAMOE_UNROLL
  for (int i = 0; i < Tile::kRows / kWarp; ++i) {
    CUDAMOE_UNROLL
    for (int j = 0; j < 8; ++j) {
      const int row = 32 * i + 4 * j + row_of_lane;
      const int32_t from = shuffle(kFullWarp, source[i], 4 * j + row_of_lane);
      const bool inside = from >= 0 && bytes > 0;
      ptx::cp_async<16>(slab + (row * kDepth + (part ^ row % 8) * 8), inside ? x + from * row_stride : x, inside ? bytes : 0);
    }
  }
}
// source[row]: in shared memory, since the numbers under way need the registers.
template <class Tile>
CUDAMOE_DEVICE void copy_slab(const float* x, int64_t row_stride, Shared<int32_t> source, int depth, Shared<Bf16> slab) {
  const int part = lane_id() % 8, row_of_lane = lane_id() / 8;
  CUDAMOE_NO_UNROLL
  for (int first = row_of_lane; first < Tile::kRows; first += 4 * kRunsTogether) {
    const float* from[kRunsTogether];
    CUDAMOE_UNROLL
    for (int j = 0; j < kRunsTogether; ++j) {
      const int32_t row_of_x = source[first + 4 * j];
      from[j] = row_of_x >= 0 && depth > 0 ? x + row_of_x * row_stride : nullptr;
    }
    round_runs(from, depth, [&](int j) {
      const int row = first + 4 * j;
      return slab + (row * kDepth + (part ^ row % 8) * 8);
    });
  }
}

// Rows of x into their slabs, by warp `own` of kCopyWarps.
template <class Tile, class X>
CUDAMOE_DEVICE void copy_rows(const GemmWgmmaProduct& p, int32_t first_group, Shared<Bf16> slabs, const Barriers& barriers, int own) {
  const GemmProduct& product = p.product;
  constexpr int kParts = Tile::kRows / kWarp;
  constexpr bool kRounds = std::is_same_v<X, float>;
  const int part = lane_id() % 8;
  const bool gathered = product.rows.gather != nullptr;
  CUDAMOE_SHARED(int32_t, sources, [kRounds ? kCopyWarps * Tile::kRows : 1]);
  const Shared<int32_t> own_sources = sources + (kRounds ? own * Tile::kRows : 0);
  RingPlace place;
  each_unit<Tile>(p, first_group, [&](const GemmRowTile& tile, int first, int last) {
    int32_t source[kParts];
    CUDAMOE_UNROLL
    for (int i = 0; i < kParts; ++i) {
      const int row = 32 * i + lane_id();
      source[i] = row < tile.rows ? row : -1;
      if (gathered && row < tile.rows) {
        source[i] = static_cast<int32_t>(source_row(product.rows, tile.begin + row));
        if (source[i] < 0) note_offender(product.rows.offender, tile.begin + row);
      }
    }
    if constexpr (kRounds) {
      sync_warp();  // the tile before is copied
      CUDAMOE_UNROLL
      for (int i = 0; i < kParts; ++i) own_sources[32 * i + lane_id()] = source[i];
      sync_warp();
    }
    const X* x = static_cast<const X*>(product.x.data) + (gathered ? 0 : tile.begin * product.x.row_stride) +
                 (product.rows.offsets == nullptr ? tile.group * product.x.group_stride : 0);
    const int steps = (rows_stay(p) ? 1 : last - first) * steps_of(p);
    CUDAMOE_NO_UNROLL
    for (int step = 0; step < steps; ++step, place.advance()) {
      if (place.count() % kCopyWarps != own) continue;
      const int depth = step % steps_of(p) * kDepth + 8 * part, left = product.depth - depth;
      const X* at = x + (left > 0 ? depth : 0);
      const Shared<Bf16> slab = slabs + place.slot() * Tile::kLeftSlab;
      ptx::mbarrier_wait(barriers.empty_rows + place.slot(), place.parity() ^ 1);
      if constexpr (kRounds) {
        copy_slab<Tile>(at, product.x.row_stride, own_sources, left, slab);
      } else {
        copy_slab<Tile>(at, product.x.row_stride, source, left, slab);
        ptx::cp_async_wait_all();
      }
      ptx::fence_proxy_async();
      ptx::mbarrier_arrive(barriers.full_rows + place.slot());
    }
  });
}

// Weights into their slabs, by one thread. Beyond the matrix they are zeros.
template <class Tile, int kColumns>
CUDAMOE_DEVICE void copy_weights(const GemmWgmmaProduct& p, int32_t first_group, Shared<Bf16> slabs, const Barriers& barriers) {
  RingPlace place;
  each_unit<Tile>(p, first_group, [&](const GemmRowTile& tile, int first, int last) {
    CUDAMOE_NO_UNROLL
    for (int column_tile = first; column_tile < last; ++column_tile) {
      CUDAMOE_NO_UNROLL
      for (int step = 0; step < steps_of(p); ++step, place.advance()) {
        const Shared<Bf16> slab = slabs + place.slot() * Tile::kRightSlab;
        ptx::mbarrier_wait(barriers.empty_weights + place.slot(), place.parity() ^ 1);
        ptx::mbarrier_arrive_expect(barriers.full_weights + place.slot(), 2 * Tile::kRightSlab);
        CUDAMOE_UNROLL
        for (int column = 0; column < kColumns; column += 64) {
          ptx::tma_load_3d(slab + column * kDepth, p.packed, column_tile * kColumns + column, step * kDepth, tile.group,
                           barriers.full_weights + place.slot());
        }
      }
    }
  });
}

// Lets one warp-group multiply while the other finishes its sums, from the first tile on: together they would leave the tensor cores idle.
// Only where the ring holds the weights of a tile: else the one would wait for slabs that the other has not come to.
// The barriers 1 and 2 of the block are the turns of group 0 and 1.
CUDAMOE_DEVICE void wait_for_turn(int group) { ptx::sync_part(1 + group, kMultipliers); }
CUDAMOE_DEVICE void pass_turn(int group) { ptx::arrive_part(2 - group, kMultipliers); }

// The products of a warp-group, half of the rows of each tile.
template <class Tile, int kRowBlocks, int kColumns>
CUDAMOE_DEVICE void multiply(const GemmWgmmaProduct& p, int32_t first_group, Shared<Bf16> left_slabs, Shared<Bf16> right_slabs,
                             const Barriers& barriers, int group) {
  const GemmProduct& product = p.product;
  const int first_row = group * 64 * kRowBlocks;
  const int steps = steps_of(p);
  RingPlace left, right;
  const uint32_t left_address = shared_address(left_slabs) + static_cast<uint32_t>(first_row * kDepth * 2),
                 right_address = shared_address(right_slabs);
  const bool turns = rows_stay(p);
  if (turns && group == 1) pass_turn(group);
  const auto release = [&](const Shared<uint64_t>& empty) {
    if (lane_id() == 0) ptx::mbarrier_arrive(empty);
  };
  each_unit<Tile>(p, first_group, [&](const GemmRowTile& tile, int first, int last) {
    CUDAMOE_NO_UNROLL
    for (int column_tile = first; column_tile < last; ++column_tile) {
      float sum[kRowBlocks][kColumns / 2];
      const bool arrives = column_tile == first || !rows_stay(p), leaves = column_tile == last - 1 || !rows_stay(p);
      const auto release_step = [&](int step) {
        release(barriers.empty_weights + right.ahead(step).slot());
        if (leaves) release(barriers.empty_rows + left.ahead(step).slot());
      };
      const auto begin_step = [&](int step, bool adds) {
        const RingPlace l = left.ahead(step), r = right.ahead(step);
        if (arrives) ptx::mbarrier_wait(barriers.full_rows + l.slot(), l.parity());
        ptx::mbarrier_wait(barriers.full_weights + r.slot(), r.parity());
        const uint64_t a = ptx::matrix_descriptor(left_address + static_cast<uint32_t>(l.slot() * Tile::kLeftSlab * 2), kEightRows),
                       b = ptx::matrix_descriptor(right_address + static_cast<uint32_t>(r.slot() * Tile::kRightSlab * 2), kEightRows,
                                                  64 * kDepth * 2);
        ptx::wgmma_fence();
        CUDAMOE_UNROLL
        for (int t = 0; t < kDepth; t += 16) {
          CUDAMOE_UNROLL
          for (int i = 0; i < kRowBlocks; ++i) {
            ptx::wgmma<false, true>(sum[i], ptx::advance(a, 64 * i * kDepth * 2 + 2 * t), ptx::advance(b, t / 8 * kEightRows),
                                    adds || t > 0);
          }
        }
        ptx::wgmma_commit();
      };
      if (turns) wait_for_turn(group);
      begin_step(0, false);
      CUDAMOE_NO_UNROLL
      for (int step = 1; step < steps; ++step) {
        begin_step(step, true);
        ptx::wgmma_wait<1>();
        release_step(step - 1);
      }
      if (turns) pass_turn(group);
      ptx::wgmma_wait<0>();
      release_step(steps - 1);
      right.advance(steps);
      if (leaves) left.advance(steps);

      const int row = first_row + warp_id() % 4 * 16 + lane_id() / 4;
      const auto finish_as = [&](auto y) {
        const FragmentFinish<decltype(y)> finish(product, tile);
        finish.run(column_tile * kColumns, kColumns, [&](auto&& one) {
          CUDAMOE_UNROLL
          for (int i = 0; i < kRowBlocks; ++i) one(sum[i], row + 64 * i);
        });
      };
      if (product.y.is_bf16 != 0) {
        finish_as(Bf16{});
      } else {
        finish_as(0.0f);
      }
    }
  });
  if (turns && group == 0) wait_for_turn(group);  // the last pass of the other group
}

#endif

template <int kRowBlocks, int kColumns, class X>
CUDAMOE_KERNEL(kWgmmaThreads, 1)
wgmma_product_kernel(const CUDAMOE_GRID_CONSTANT GemmWgmmaProduct p) {
#if CUDAMOE_HAS_SM90A
  using Tile = Shape<kRowBlocks, kColumns>;
  CUDAMOE_SHARED_ALIGNED(8, uint64_t, full_rows, [kSlots]);
  CUDAMOE_SHARED_ALIGNED(8, uint64_t, empty_rows, [kSlots]);
  CUDAMOE_SHARED_ALIGNED(8, uint64_t, full_weights, [kSlots]);
  CUDAMOE_SHARED_ALIGNED(8, uint64_t, empty_weights, [kSlots]);
  const GemmRows& rows = p.product.rows;
  if (thread_x() == 0) ptx::tma_prefetch(p.packed);
  if (!offsets_are_good<kWgmmaThreads>(rows)) {
    if (block_x() == 0) report_offsets<kWgmmaThreads>(rows);
    return;
  }
  CUDAMOE_SHARED(int32_t, group_of_first);
  const int32_t group = RowWalk::first_group<kWgmmaThreads>(rows, first_unit(p, block_x()) / p.chunks, Tile::kRows);
  if (thread_x() == 0) {
    group_of_first[0] = group;
    CUDAMOE_UNROLL
    for (int slot = 0; slot < kSlots; ++slot) {
      ptx::mbarrier_init(&full_rows[slot], kWarp);
      ptx::mbarrier_init(&empty_rows[slot], kMultipliers / kWarp);
      ptx::mbarrier_init(&full_weights[slot], 1);
      ptx::mbarrier_init(&empty_weights[slot], kMultipliers / kWarp);
    }
    ptx::fence_mbarrier_init();
  }
  sync_block();
  const Barriers barriers{full_rows, empty_rows, full_weights, empty_weights};
  const Shared<Bf16> left = dynamic_shared<Bf16>(), right = left + kSlots * Tile::kLeftSlab;
  if (thread_x() < kMultipliers) {
    ptx::take_registers<kMultiplierRegisters>();
    multiply<Tile, kRowBlocks, kColumns>(p, group_of_first[0], left, right, barriers, uniform_warp_id() / 4);
  } else {
    ptx::release_registers<kCopierRegisters>();
    if (warp_id() > kSpareWarp) {
      copy_rows<Tile, X>(p, group_of_first[0], left, barriers, uniform_warp_id() - kSpareWarp - 1);
    } else if (lane_id() == 0) {
      copy_weights<Tile, kColumns>(p, group_of_first[0], right, barriers);
    }
  }
  if (rows.gather == nullptr) return;
  sync_block();
  if (thread_x() == 0) {
    report_offender(rows.offender, rows.report, static_cast<uint32_t>(grid_size_x()), [&](int64_t row) { return bad_gather(rows, row); });
  }
#endif
}

template <int kRowBlocks, int kColumns>
cudaError_t launch_tile(GemmWgmmaProduct& p, int multiprocessors, cudaStream_t stream) {
  using Tile = Shape<kRowBlocks, kColumns>;
  p.column_tiles = ceil_divide(p.product.columns, kColumns);
  p.chunks = ceil_divide(p.column_tiles, p.column_tiles_of_unit);
  const int64_t units = gemm_row_tiles(p.product.rows, Tile::kRows) * p.chunks;
  if (units > INT32_MAX) return cudaErrorInvalidConfiguration;
  const int blocks = static_cast<int>(units < multiprocessors ? units : multiprocessors);
  p.units_of_block = static_cast<int32_t>(units / blocks);
  p.more_units = static_cast<int32_t>(units % blocks);
  const LaunchShape shape{.name = p.product.derivative != 0 ? "gemm_dgrad" : "gemm_forward",
                          .grid = {blocks},
                          .block = {kWgmmaThreads},
                          .dynamic_shared_bytes = Tile::kBytes,
                          .stream = stream};
  return p.product.x.is_bf16 != 0 ? launch(shape, wgmma_product_kernel<kRowBlocks, kColumns, Bf16>, p)
                                  : launch(shape, wgmma_product_kernel<kRowBlocks, kColumns, float>, p);
}

}  // namespace

cudaError_t gemm_product_wgmma(GemmWgmmaProduct& product, GemmWgmmaTile tile, int multiprocessors, cudaStream_t stream) {
  if (tile.rows == 256) {
    return tile.columns == 128 ? launch_tile<2, 128>(product, multiprocessors, stream)
                               : launch_tile<2, 64>(product, multiprocessors, stream);
  }
  return tile.columns == 128 ? launch_tile<1, 128>(product, multiprocessors, stream) : launch_tile<1, 64>(product, multiprocessors, stream);
}

}  // namespace cudamoe::kernels
