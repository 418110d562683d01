// The weight gradient of bf16 operands by wgmma on sm_90a: dw[g] (+)= sum over the rows r of group g of dz[r]^T x[r], dbias[g] (+)= sum of
// dz[r]; see gemm.h. Both operands are bf16, or both f32, which is rounded.
//
// Floor: rows * (n + k) elements of the operands and n * k f32 a group in bytes; 2 * rows * n * k flops.
// Tiling: a block per chunk of rows of a group and tile of dw, rows being the depth, 64 at a time: a slab of dz and one of x in a ring of
// four. Both operands lie by columns there, 64 of them in 128 bytes a row, swizzled; a box of 64 x 64 is 8 KiB. Two warp-groups multiply,
// one above the other or side by side; warp 8 adds up dbias from the slabs of dz; warps 9 to 11 take turns at the slabs.
// Shared memory: 4 * 128 * (tile rows + tile columns) bytes, at most 192 KiB.
// Order of sums: within a chunk an element is one accumulator over ascending rows, 16 at a time (dbias: one at a time); chunks are added in
// ascending order (wgrad_sum.cu).
#include "common/first_offender.cuh"
#include "gemm/fragment_rows.cuh"
#include "gemm/rows.cuh"
#include "gemm/wgmma_block.cuh"

namespace cudamoe::kernels {
namespace {

// kDown warp-groups one above the other, the others side by side, each of 64 rows and kGroupColumns columns.
template <int kDown, int kGroupColumns>
struct Shape {
  static constexpr int kAcross = kMultipliers / kGroup / kDown;
  static constexpr int kRows = 64 * kDown, kColumns = kGroupColumns * kAcross;
  static constexpr int kLeftSlab = kRows * kDepth, kStep = kLeftSlab + kDepth * kColumns;  // elements
  static constexpr int64_t kBytes = int64_t{kSlots} * kStep * 2;
};

#if CUDAMOE_HAS_SM90A

constexpr int kBox = 64 * kDepth;  // elements

// What a block works on: steps of 64 rows of a chunk, and a tile of dw.
struct Piece {
  GemmRowTile chunk;
  int number, steps;
  bool writes;  // a chunk without rows writes zeros only where no other chunk of the group does
  int first_row, first_column;

  template <class Tile>
  CUDAMOE_DEVICE static Piece of_block(const GemmWgrad& wgrad, const GemmRowTile& chunk) {
    const int across = ceil_divide(wgrad.k, Tile::kColumns), tiles = ceil_divide(wgrad.n, Tile::kRows) * across;
    const int tile = block_x() % tiles;
    const bool only = wgrad.partials == nullptr && chunk.first && wgrad.accumulate == 0;
    return {chunk,
            block_x() / tiles,
            chunk.group < 0 ? 0 : ceil_divide(chunk.rows, kDepth),
            chunk.group >= 0 && (chunk.rows > 0 || only),
            tile / across * Tile::kRows,
            tile % across * Tile::kColumns};
  }
};

// 64 rows of a matrix into a slab, elements beyond it as zeros. from[i] is the row of x, counted from `base`, of row 32 i + lane; -1: none.
template <int kColumns>
CUDAMOE_DEVICE void copy_slab(const Bf16* base, int64_t row_stride, const int32_t (&from)[2], int columns, Shared<Bf16> slab) {
  constexpr int kParts = kColumns / 8, kAtOnce = kWarp / kParts;
  const int part = lane_id() % kParts, row_of_lane = lane_id() / kParts, left = columns - 8 * part;
  const int bytes = left <= 0 ? 0 : (left >= 8 ? 16 : 2 * left);
  const Shared<Bf16> box = slab + part / 8 * kBox;
  const Bf16* at = base + 8 * part;
  CUDAMOE_UNROLL
  for (int i = 0; i < 2; ++i) {
    CUDAMOE_NO_UNROLL
    for (int eight = 0; eight < 32; eight += 8) {
      CUDAMOE_UNROLL
      for (int j = 0; j < 8; j += kAtOnce) {
        const int row = eight + j + row_of_lane;
        const int32_t source = shuffle(kFullWarp, from[i], row);
        const bool inside = source >= 0 && bytes > 0;
        ptx::cp_async<16>(box + ((32 * i + row) * 64 + (part % 8 ^ row % 8) * 8), inside ? at + source * row_stride : base,
                          inside ? bytes : 0);
      }
    }
  }
}
template <int kColumns>
CUDAMOE_DEVICE void copy_slab(const float* base, int64_t row_stride, const int32_t (&from)[2], int columns, Shared<Bf16> slab) {
  constexpr int kParts = kColumns / 8, kAtOnce = kWarp / kParts, kRunsOfEight = 8 / kAtOnce;
  constexpr int kTogether = kRunsOfEight < kRunsTogether ? kRunsOfEight : kRunsTogether;
  const int part = lane_id() % kParts, row_of_lane = lane_id() / kParts, left = columns - 8 * part;
  const Shared<Bf16> box = slab + part / 8 * kBox;
  CUDAMOE_NO_UNROLL
  for (int first = 0; first < kDepth; first += kTogether * kAtOnce) {
    const int32_t of_lane = first < 32 ? from[0] : from[1];
    const float* runs[kTogether];
    CUDAMOE_UNROLL
    for (int j = 0; j < kTogether; ++j) {
      const int32_t source = shuffle(kFullWarp, of_lane, (first + j * kAtOnce + row_of_lane) % 32);
      runs[j] = source >= 0 && left > 0 ? base + (source * row_stride + 8 * part) : nullptr;
    }
    round_runs(runs, left, [&](int j) {
      const int row = first + j * kAtOnce + row_of_lane;
      return box + (row * 64 + (part % 8 ^ row % 8) * 8);
    });
  }
}

// The slabs of both operands, by warp `own` of kCopyWarps.
template <class Tile, class Operand>
CUDAMOE_DEVICE void copy_operands(const GemmWgrad& wgrad, const GemmRowTile& chunk, Shared<Bf16> ring, Shared<uint64_t> full,
                                  Shared<uint64_t> empty, int own) {
  const Piece piece = Piece::of_block<Tile>(wgrad, chunk);
  const bool gathered = wgrad.rows.gather != nullptr, strided = wgrad.rows.offsets == nullptr;
  const auto first = [&](const GemmMatrix& matrix, int column, int64_t row) {
    return static_cast<const Operand*>(matrix.data) + (strided ? piece.chunk.group * matrix.group_stride : 0) + row * matrix.row_stride +
           column;
  };
  const Operand* dz = first(wgrad.dz, piece.first_row, piece.chunk.begin);
  const Operand* x = first(wgrad.x, piece.first_column, gathered ? 0 : piece.chunk.begin);
  RingPlace place;
  place.advance(own);
  CUDAMOE_NO_UNROLL
  for (int step = own; step < piece.steps; step += kCopyWarps, place.advance(kCopyWarps)) {
    int32_t of_dz[2], of_x[2];
    CUDAMOE_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int row = step * kDepth + 32 * i + lane_id();
      of_dz[i] = of_x[i] = row < piece.chunk.rows ? row : -1;
      if (gathered && row < piece.chunk.rows) {
        of_x[i] = static_cast<int32_t>(source_row(wgrad.rows, piece.chunk.begin + row));
        if (of_x[i] < 0) note_offender(wgrad.rows.offender, piece.chunk.begin + row);
      }
    }
    ptx::mbarrier_wait(empty + place.slot(), place.parity() ^ 1);
    const Shared<Bf16> slab = ring + place.slot() * Tile::kStep;
    copy_slab<Tile::kRows>(dz, wgrad.dz.row_stride, of_dz, wgrad.n - piece.first_row, slab);
    copy_slab<Tile::kColumns>(x, wgrad.x.row_stride, of_x, wgrad.k - piece.first_column, slab + Tile::kLeftSlab);
    if constexpr (std::is_same_v<Operand, Bf16>) ptx::cp_async_wait_all();
    ptx::fence_proxy_async();
    ptx::mbarrier_arrive(full + place.slot());
  }
}

// Where the sums of a chunk go: dw and dbias, or the chunk's partial sums.
struct Destination {
  float *dw, *dbias;
  int64_t stride;
  bool add;

  CUDAMOE_DEVICE Destination(const GemmWgrad& wgrad, const Piece& piece) {
    const bool whole = wgrad.partials == nullptr;
    dw = whole ? wgrad.dw + piece.chunk.group * wgrad.dw_group_stride
               : wgrad.partials + int64_t{piece.number} * gemm_wgrad_partial_floats(wgrad.n, wgrad.k);
    dbias = whole ? wgrad.dbias + piece.chunk.group * wgrad.dbias_group_stride : dw + int64_t{wgrad.n} * wgrad.k;
    stride = whole ? wgrad.dw_row_stride : wgrad.k;
    add = whole && wgrad.accumulate != 0;
  }
};

// dbias of the tile's rows, by one warp; a lane has kRows / 32 neighbouring ones.
template <class Tile>
CUDAMOE_DEVICE void add_bias(const GemmWgrad& wgrad, const GemmRowTile& chunk, Shared<Bf16> ring, Shared<uint64_t> full,
                             Shared<uint64_t> empty) {
  constexpr int kOwn = Tile::kRows / kWarp;
  const Piece piece = Piece::of_block<Tile>(wgrad, chunk);
  const int column = lane_id() * kOwn;
  float sum[kOwn] = {};
  RingPlace place;
  CUDAMOE_NO_UNROLL
  for (int step = 0; step < piece.steps; ++step, place.advance()) {
    ptx::mbarrier_wait(full + place.slot(), place.parity());
    const Shared<Bf16> box = ring + (place.slot() * Tile::kStep + column / 64 * kBox);
    CUDAMOE_NO_UNROLL
    for (int rows = 0; rows < kDepth; rows += 8) {
      CUDAMOE_UNROLL
      for (int row = 0; row < 8; ++row) {
        const Vector<Bf16, kOwn> own = load<kOwn>(box + ((rows + row) * 64 + (column % 64 / 8 ^ row) * 8 + column % 8));
        CUDAMOE_UNROLL
        for (int i = 0; i < kOwn; ++i) sum[i] += to_float(own[i]);
      }
    }
    sync_warp();
    if (lane_id() == 0) ptx::mbarrier_arrive(empty + place.slot());
  }
  if (!piece.writes || wgrad.dbias == nullptr || piece.first_column != 0) return;
  const Destination to(wgrad, piece);
  CUDAMOE_UNROLL
  for (int i = 0; i < kOwn; ++i) {
    const int row = piece.first_row + column + i;
    if (row < wgrad.n) to.dbias[row] = to.add ? to.dbias[row] + sum[i] : sum[i];
  }
}

// The products of a warp-group, from `row` and `column` of the tile on.
template <class Tile, int kGroupColumns>
CUDAMOE_DEVICE void multiply(const GemmWgrad& wgrad, const GemmRowTile& chunk, Shared<Bf16> ring, Shared<uint64_t> full,
                             Shared<uint64_t> empty, int row, int column) {
  const Piece piece = Piece::of_block<Tile>(wgrad, chunk);
  const uint32_t left = shared_address(ring) + static_cast<uint32_t>(row / 64 * kBox * 2),
                 right = shared_address(ring) + static_cast<uint32_t>((Tile::kLeftSlab + column / 64 * kBox) * 2);
  RingPlace place;
  float sum[kGroupColumns / 2];
  const auto begin_step = [&](const RingPlace& at, bool adds) {
    ptx::mbarrier_wait(full + at.slot(), at.parity());
    const auto step = static_cast<uint32_t>(at.slot() * Tile::kStep * 2);
    const uint64_t a = ptx::matrix_descriptor(left + step, kEightRows, kBox * 2),
                   b = ptx::matrix_descriptor(right + step, kEightRows, kBox * 2);
    ptx::wgmma_fence();
    CUDAMOE_UNROLL
    for (int t = 0; t < kDepth; t += 16) {
      ptx::wgmma<true, true>(sum, ptx::advance(a, t / 8 * kEightRows), ptx::advance(b, t / 8 * kEightRows), adds || t > 0);
    }
    ptx::wgmma_commit();
  };
  const auto release = [&](int slot) {
    if (lane_id() == 0) ptx::mbarrier_arrive(empty + slot);
  };
  if (piece.steps > 0) {
    begin_step(place, false);
    CUDAMOE_NO_UNROLL
    for (int step = 1; step < piece.steps; ++step, place.advance()) {
      begin_step(place.ahead(1), true);
      ptx::wgmma_wait<1>();
      release(place.slot());
    }
    ptx::wgmma_wait<0>();
  }
  if (!piece.writes) return;
  const Destination to(wgrad, piece);
  const int first_row = piece.first_row + row + warp_id() % 4 * 16 + lane_id() / 4;
  const bool aligned = fragments_are_aligned(to.dw, to.stride);
  CUDAMOE_UNROLL
  for (int i = 0; i < kGroupColumns / 32; ++i) {
    const int first_column = piece.first_column + column + 32 * i, columns = wgrad.k - first_column;
    CUDAMOE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int r = first_row + 8 * half;
      float* at = to.dw + r * to.stride + first_column;
      const bool inside = r < wgrad.n;
      RowFragment f;
      CUDAMOE_UNROLL
      for (int e = 0; e < 8; ++e) f.value[e / 2][e % 2] = piece.steps > 0 ? sum[16 * i + 4 * (e / 2) + 2 * half + e % 2] : 0.0f;
      if (to.add) {
        const RowFragment old = load_fragment(at, columns, inside, aligned);
        CUDAMOE_UNROLL
        for (int e = 0; e < 8; ++e) f.value[e / 2][e % 2] = old.value[e / 2][e % 2] + f.value[e / 2][e % 2];
      }
      store_fragment(at, f, columns, inside, aligned);
    }
  }
}

#endif

template <int kDown, int kGroupColumns, class Operand>
CUDAMOE_KERNEL(kWgmmaThreads, 1)
wgmma_wgrad_kernel(const CUDAMOE_GRID_CONSTANT GemmWgrad wgrad) {
#if CUDAMOE_HAS_SM90A
  using Tile = Shape<kDown, kGroupColumns>;
  CUDAMOE_SHARED_ALIGNED(8, uint64_t, full, [kSlots]);
  CUDAMOE_SHARED_ALIGNED(8, uint64_t, empty, [kSlots]);
  const GemmRows& rows = wgrad.rows;
  if (!offsets_are_good<kWgmmaThreads>(rows)) {
    if (block_x() == 0) report_offsets<kWgmmaThreads>(rows);
    return;
  }
  CUDAMOE_SHARED(GemmRowTile, chunk_of_block);
  const int tiles = ceil_divide(wgrad.n, Tile::kRows) * ceil_divide(wgrad.k, Tile::kColumns);
  const GemmRowTile chunk = find_row_tile<kWgmmaThreads>(rows, block_x() / tiles, wgrad.chunk_rows);
  if (thread_x() == 0) {
    chunk_of_block[0] = chunk;
    CUDAMOE_UNROLL
    for (int slot = 0; slot < kSlots; ++slot) {
      ptx::mbarrier_init(&full[slot], kWarp);
      ptx::mbarrier_init(&empty[slot], kMultipliers / kWarp + 1);
    }
    ptx::fence_mbarrier_init();
  }
  sync_block();
  const Shared<Bf16> ring = dynamic_shared<Bf16>();
  if (thread_x() < kMultipliers) {
    ptx::take_registers<kMultiplierRegisters>();
    const int group = uniform_warp_id() / 4;
    multiply<Tile, kGroupColumns>(wgrad, chunk_of_block[0], ring, full, empty, group / Tile::kAcross * 64,
                                  group % Tile::kAcross * kGroupColumns);
  } else {
    ptx::release_registers<kCopierRegisters>();
    if (warp_id() > kSpareWarp) {
      copy_operands<Tile, Operand>(wgrad, chunk_of_block[0], ring, full, empty, uniform_warp_id() - kSpareWarp - 1);
    } else {
      add_bias<Tile>(wgrad, chunk_of_block[0], ring, full, empty);
    }
  }
  if (rows.gather == nullptr) return;
  sync_block();
  if (thread_x() == 0) {
    report_offender(rows.offender, rows.report, static_cast<uint32_t>(grid_size_x()), [&](int64_t row) { return bad_gather(rows, row); });
  }
#endif
}

template <int kDown, int kGroupColumns>
cudaError_t launch_shape(const GemmWgrad& wgrad, cudaStream_t stream) {
  using Tile = Shape<kDown, kGroupColumns>;
  const int64_t blocks =
      gemm_row_tiles(wgrad.rows, wgrad.chunk_rows) * ceil_divide(wgrad.n, Tile::kRows) * ceil_divide(wgrad.k, Tile::kColumns);
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  const LaunchShape shape{.name = "gemm_wgrad",
                          .grid = {static_cast<int>(blocks)},
                          .block = {kWgmmaThreads},
                          .dynamic_shared_bytes = Tile::kBytes,
                          .stream = stream};
  return wgrad.dz.is_bf16 != 0 ? launch(shape, wgmma_wgrad_kernel<kDown, kGroupColumns, Bf16>, wgrad)
                               : launch(shape, wgmma_wgrad_kernel<kDown, kGroupColumns, float>, wgrad);
}

}  // namespace

cudaError_t gemm_wgrad_wgmma(const GemmWgrad& wgrad, GemmWgmmaTile tile, cudaStream_t stream) {
  if (tile.rows == 64) return tile.columns == 256 ? launch_shape<1, 128>(wgrad, stream) : launch_shape<1, 64>(wgrad, stream);
  return tile.columns == 256 ? launch_shape<2, 256>(wgrad, stream) : launch_shape<2, 128>(wgrad, stream);
}

}  // namespace cudamoe::kernels
