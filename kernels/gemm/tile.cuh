// Shapes of tiles and how their operands lie in shared memory.
//
// A block of warps multiplies a left operand, `rows` x depth, with a right operand, depth x `columns`, in steps of 64 bytes of depth
// (16 f32, 32 bf16), three steps in a ring: one is multiplied while the next two are under way. A warp owns `warp_rows` x `warp_columns`.
//
//   tile      threads  warp      shared memory: three steps   the sums, later   sums a thread
//   128 x 128 256      32 x 64   56,832 bytes                 73,728 bytes      64 (bf16)
//   128 x 64  256      32 x 32   44,544                       40,960            32 (f32)
//   64 x 64   128      32 x 32   29,184                       20,480            32
//   16 x 64   64       16 x 32   17,664                       5,120             16
//
// Banks (32 of 4 bytes). Left operand by rows: a row is 64 bytes and 16 of padding, so eight rows begin in banks 0, 20, 8, 28, 16, 4, 24,
// 12: ldmatrix and the scalar reads of an mma fragment (row g, element t) meet no bank twice. Right operand, and left operand by columns:
// a row of the tile has 16 (bf16) or 32 (f32) bytes of padding, so ldmatrix's eight rows begin four banks apart, and a fragment's scalars
// (row t, element g) eight. Vector reads of whole rows are contiguous, and several lanes at one address are one read.
#pragma once

#include "common/kernel.cuh"
#include "common/ptx/convert.cuh"

namespace cudamoe::kernels {

template <int kRowsOfTile, int kColumnsOfTile, int kRowsOfWarp, int kColumnsOfWarp, int kBlocksOfSm>
struct TileShape {
  static constexpr int kRows = kRowsOfTile, kColumns = kColumnsOfTile;
  static constexpr int kWarpRows = kRowsOfWarp, kWarpColumns = kColumnsOfWarp;
  static constexpr int kWarpsDown = kRows / kWarpRows, kWarpsAcross = kColumns / kWarpColumns;
  static constexpr int kThreads = kWarpsDown * kWarpsAcross * kWarp;
  // That an SM should hold; half as many where operands are converted in registers.
  static constexpr int kBlocks = kBlocksOfSm, kConvertingBlocks = kBlocksOfSm / 2;
};
// f32 operands take more registers beside the sums than bf16 ones do: half the columns, so that two blocks fit without spilling.
template <class Element>
using LargeTile = std::conditional_t<std::is_same_v<Element, Bf16>, TileShape<128, 128, 32, 64, 2>, TileShape<128, 64, 32, 32, 2>>;
using MediumTile = TileShape<64, 64, 32, 32, 4>;
using LowTile = TileShape<16, 64, 16, 32, 8>;

inline constexpr int kSteps = 3;

// Where the elements of one step lie. kByColumns: the left operand lies as [depth][rows], else as [rows][depth].
template <class Tile, class Element, bool kByColumns>
struct TileLayout {
  static constexpr int kDepth = 64 / sizeof(Element);
  static constexpr int kPart = 16 / sizeof(Element);  // elements of a 16-byte access
  static constexpr int kLeftStride = kByColumns ? Tile::kRows + 8 : kDepth + kPart;
  static constexpr int kRightStride = Tile::kColumns + 8;
  static constexpr int kLeft = kByColumns ? kDepth * kLeftStride : Tile::kRows * kLeftStride;  // elements
  static constexpr int kStep = kLeft + kDepth * kRightStride;
  // After the last step the warps put their sums into the same memory.
  static constexpr int kSumsStride = Tile::kWarpColumns + 8;  // floats
  static constexpr int kSumsOfWarp = Tile::kWarpRows * kSumsStride;
  static constexpr int64_t kStepBytes = int64_t{kSteps} * kStep * sizeof(Element);
  static constexpr int64_t kSumsBytes = int64_t{Tile::kThreads} / kWarp * kSumsOfWarp * sizeof(float);
  static constexpr int64_t kBytes = kStepBytes > kSumsBytes ? kStepBytes : kSumsBytes;
};

// n elements p[0 .. n-1], n <= 4, in f32, and zeros behind them; in one access where that is allowed.
template <class T>
CUDAMOE_DEVICE Vector<float, 4> load_four(const T* p, int n, bool aligned) {
  Vector<float, 4> v;
  if (aligned && n == 4) {
    const Vector<T, 4> whole = load<4>(p);
    CUDAMOE_UNROLL
    for (int i = 0; i < 4; ++i) v[i] = to_float(whole[i]);
    return v;
  }
  CUDAMOE_UNROLL
  for (int i = 0; i < 4; ++i) v[i] = i < n ? to_float(p[i]) : 0.0f;
  return v;
}
template <class T>
CUDAMOE_DEVICE void store_four(T* p, const Vector<float, 4>& v, int n, bool aligned) {
  if (aligned && n == 4) {
    if constexpr (std::is_same_v<T, Bf16>) {
      return store(reinterpret_cast<uint32_t*>(p), Vector<uint32_t, 2>{ptx::pack_bf16(v[0], v[1]), ptx::pack_bf16(v[2], v[3])});
    } else {
      return store(p, v);
    }
  }
  CUDAMOE_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (i < n) p[i] = from_float<T>(v[i]);
  }
}

// Hands the rows of a warp's sums to finish(row of the tile, four sums), after begin(column of the tile): a lane has the same four columns
// of all its rows. They go through shared memory, so that a row is written in whole lines whatever the layout of the sums in registers, and
// the registers are free for what finish does.
template <class Tile, class Layout, class Sums, class Begin, class Finish>
CUDAMOE_DEVICE void finish_rows(const Sums& sums, int warp_row, int warp_column, Begin&& begin, Finish&& finish) {
  constexpr int kLanesOfRow = Tile::kWarpColumns / 4, kRowsAtOnce = kWarp / kLanesOfRow;
  const Shared<float> own = dynamic_shared<float>() + warp_id() * Layout::kSumsOfWarp;
  CUDAMOE_UNROLL
  for (int s = 0; s < Tile::kWarpRows / 16; ++s) sums.put_rows(s, own + 16 * s * Layout::kSumsStride, Layout::kSumsStride);
  sync_warp();
  const int column = lane_id() % kLanesOfRow * 4;
  begin(warp_column + column);
  constexpr int kTogether = 4;  // rows whose accesses are under way together
  CUDAMOE_NO_UNROLL
  for (int rows = 0; rows < Tile::kWarpRows; rows += kTogether * kRowsAtOnce) {
    CUDAMOE_UNROLL
    for (int i = 0; i < kTogether; ++i) {
      const int row = rows + i * kRowsAtOnce + lane_id() / kLanesOfRow;
      if (row < Tile::kWarpRows) finish(warp_row + row, load<4>(own + (row * Layout::kSumsStride + column)));
    }
  }
}

}  // namespace cudamoe::kernels
