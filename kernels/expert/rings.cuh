// Shared memory of the kernel by warp-groups (warpgroups.cuh), and the warps that fill it.
//
// Units, one after the other: W1[depth][slice], then W2[slice][columns], each as blocks of 64 columns, rows of 128 bytes in the swizzle of
// 128 bytes. Then, for each of the two warp-groups, a ring of places for chunks of its rows: 64 rows x 64 of depth, in the same swizzle.
// Then the biases of each unit, slice + columns floats.
//
// One warp brings units by TMA, their biases through registers; three warps bring chunks, each to places of its own, by cp.async where rows
// of x are bf16 and aligned, else through registers. A thread has up to three chunks under way and tells of the oldest when it begins
// another, or when it has to wait for a place.
#pragma once

#include "common/kernel.cuh"
#include "common/ptx/cp_async.cuh"
#include "common/ptx/fence.cuh"
#include "common/ptx/mbarrier.cuh"
#include "common/ptx/tma.cuh"
#include "expert/walk.cuh"
#include "gemm/load_tile.cuh"

namespace cudamoe::kernels {

// A place of a ring and the parity of its round.
struct RingPlace {
  int place = 0;
  uint32_t parity = 0;
  CUDAMOE_DEVICE void advance(int places) {
    if (++place < places) return;
    place = 0;
    parity ^= 1u;
  }
};

template <int kSlice, int kColumns>
struct ExpertRings {
  static constexpr int kBiases = kSlice + kColumns;
  static constexpr int kBarriers = 2 * kExpertMostUnits + 2 * kExpertGroups * kExpertMostRowPlaces;
  static constexpr int kConsumerWarps = kExpertGroups * 4;

  Shared<Bf16> memory;
  Shared<uint64_t> barriers;
  int depth;  // of a unit
  int units, row_places;

  CUDAMOE_DEVICE int unit_elements() const { return (depth + kColumns) * kSlice; }
  CUDAMOE_DEVICE Shared<Bf16> unit(int place) const { return memory + place * unit_elements(); }
  CUDAMOE_DEVICE Shared<Bf16> rows(int group, int place) const {
    return memory + (units * unit_elements() + (group * row_places + place) * kExpertRowPlace);
  }
  CUDAMOE_DEVICE Shared<float> biases(int place) const {
    return shared_cast<float>(memory + (units * unit_elements() + kExpertGroups * row_places * kExpertRowPlace)) + place * kBiases;
  }
  CUDAMOE_DEVICE Shared<uint64_t> unit_full(int place) const { return barriers + place; }
  CUDAMOE_DEVICE Shared<uint64_t> unit_empty(int place) const { return barriers + (kExpertMostUnits + place); }
  CUDAMOE_DEVICE Shared<uint64_t> rows_full(int group, int place) const {
    return barriers + (2 * kExpertMostUnits + group * kExpertMostRowPlaces + place);
  }
  CUDAMOE_DEVICE Shared<uint64_t> rows_empty(int group, int place) const {
    return barriers + (2 * kExpertMostUnits + (kExpertGroups + group) * kExpertMostRowPlaces + place);
  }

  // One thread; then a barrier of the block.
  CUDAMOE_DEVICE void initialise() const {
    for (int place = 0; place < units; ++place) {
      ptx::mbarrier_init(unit_full(place), kWarp + 1);  // the lanes of the warp, and the bytes
      ptx::mbarrier_init(unit_empty(place), kConsumerWarps);
    }
    for (int group = 0; group < kExpertGroups; ++group) {
      for (int place = 0; place < row_places; ++place) {
        ptx::mbarrier_init(rows_full(group, place), kWarp);
        ptx::mbarrier_init(rows_empty(group, place), kConsumerWarps / kExpertGroups);
      }
    }
    ptx::fence_mbarrier_init();
  }
};

// Brings the units of all tiles, in the order in which they are used. The lanes of one warp.
template <class Walk, int kSlice, int kColumns>
CUDAMOE_DEVICE void bring_units(const Expert& expert, const ptx::TensorMap& first, const ptx::TensorMap& second, Walk walk,
                                int first_column, const ExpertRings<kSlice, kColumns>& rings) {
  const int list = list_length(expert), slices = ceil_divide(expert.hidden, kSlice), lane = lane_id();
  const auto bring = [&](int number, int slice, const RingPlace& at) {
    const Shared<uint64_t> full = rings.unit_full(at.place);
    if (number < 0) {
      if (lane == 0) ptx::mbarrier_arrive(full);
      return;
    }
    if (lane == 0) {
      ptx::mbarrier_arrive_expect(full, 2 * rings.unit_elements());
      Shared<Bf16> to = rings.unit(at.place);
      const auto box = [&](const ptx::TensorMap& map, int column, int row) {
        ptx::tma_load_3d(to, map, column, row, number, full);
        to += kExpertChunk * 64;
      };
      CUDAMOE_NO_UNROLL
      for (int column = 0; column < kSlice; column += 64) {
        CUDAMOE_NO_UNROLL
        for (int row = 0; row < rings.depth; row += kExpertChunk) box(first, slice * kSlice + column, row);
      }
      CUDAMOE_NO_UNROLL
      for (int column = 0; column < kColumns; column += 64) {
        CUDAMOE_NO_UNROLL
        for (int row = 0; row < kSlice; row += kExpertChunk) box(second, first_column + column, slice * kSlice + row);
      }
    }
    const auto bias = [&](const ExpertLayer& layer, int column, int columns) {
      return layer.bias != nullptr && column < columns ? load_constant(layer.bias + number * layer.bias_group_stride + column) : 0.0f;
    };
    const Shared<float> to = rings.biases(at.place);
    CUDAMOE_UNROLL
    for (int i = 0; i < kSlice; i += kWarp) to[i + lane] = bias(expert.first, slice * kSlice + i + lane, expert.hidden);
    CUDAMOE_UNROLL
    for (int i = 0; i < kColumns; i += kWarp) to[kSlice + i + lane] = bias(expert.second, first_column + i + lane, expert.columns);
  };

  RingPlace at;
  bool kept = false;
  while (walk.tile().group >= 0) {
    const int group = walk.tile().group;
    walk.advance();
    CUDAMOE_NO_UNROLL
    for (int i = 0; i < list && !kept; ++i) {
      const int number = listed_expert(expert, group, i);
      CUDAMOE_NO_UNROLL
      for (int slice = 0; slice < slices; ++slice) {
        ptx::mbarrier_wait(rings.unit_empty(at.place), at.parity ^ 1u);
        bring(number, slice, at);
        ptx::mbarrier_arrive(rings.unit_full(at.place));
        at.advance(rings.units);
      }
    }
    kept = expert.resident != 0 && same_list(expert, group, walk.tile().group);
  }
}

// Brings the rows of x, chunk by chunk, for both warp-groups: to every kWarps-th place by the warp `own`. A place stays with one warp,
// since the parity of a barrier tells a round from the next only.
template <int kWarps, class Rings>
class RowBringer {
 public:
  CUDAMOE_DEVICE RowBringer(const Expert& expert, const Rings& rings, bool direct, int own)
      : expert_(expert), rings_(rings), direct_(direct), aligned_(rows_are_aligned(expert.x)), own_(own) {}

  template <class Walk>
  CUDAMOE_DEVICE void run(Walk walk) {
    RingPlace at[kExpertGroups];
    for (; walk.tile().group >= 0; walk.advance()) {
      for (int column = 0; column < rings_.depth; column += kExpertChunk) {
        CUDAMOE_UNROLL
        for (int group = 0; group < kExpertGroups; ++group) {
          if ((group * rings_.row_places + at[group].place) % kWarps == own_) bring(walk.tile(), group, column, at[group]);
          at[group].advance(rings_.row_places);
        }
      }
    }
    drain();
  }

 private:
  static constexpr int kPart = 8, kPartsOfRow = kExpertChunk / kPart, kRowsApart = kWarp / kPartsOfRow;

  CUDAMOE_DEVICE void bring(const GemmRowTile& tile, int group, int column, const RingPlace& at) {
    const Shared<uint64_t> empty = rings_.rows_empty(group, at.place);
    if (!all_lanes(kFullWarp, ptx::mbarrier_test(empty, at.parity ^ 1u))) {
      drain();
      ptx::mbarrier_wait(empty, at.parity ^ 1u);
    }
    const int part = lane_id() % kPartsOfRow, first = lane_id() / kPartsOfRow, rows = tile.rows - group * kExpertGroupRows;
    const int begin = column + part * kPart, columns = clip_part(expert_.depth - begin, kPart);
    const int64_t offset = (expert_.rows.offsets == nullptr ? tile.group * expert_.x.group_stride : 0) + begin;
    const Shared<Bf16> to = rings_.rows(group, at.place);
    const auto place = [&](int row) { return to + (row * kExpertChunk + (part ^ row % 8) * kPart); };
    const auto source = [&](int row) { return row < rows ? row_of_x(expert_, tile.begin + group * kExpertGroupRows + row) : -1; };
    if (direct_) {
      CUDAMOE_NO_UNROLL
      for (int row = first; row < kExpertGroupRows; row += kUnrolled * kRowsApart) {
        int64_t from[kUnrolled];
        CUDAMOE_UNROLL
        for (int j = 0; j < kUnrolled; ++j) from[j] = source(row + j * kRowsApart);
        CUDAMOE_UNROLL
        for (int j = 0; j < kUnrolled; ++j) {
          const int n = from[j] < 0 ? 0 : columns;
          ptx::cp_async<16>(place(row + j * kRowsApart),
                            static_cast<const Bf16*>(expert_.x.data) + (n == 0 ? 0 : from[j] * expert_.x.row_stride + offset), n * 2);
        }
      }
    } else {
      CUDAMOE_NO_UNROLL
      for (int row = first; row < kExpertGroupRows; row += kRowsApart) {
        const int64_t from = source(row);
        const int n = from < 0 ? 0 : columns;
        store(place(row), load_part<Bf16, kPart>(expert_.x, n == 0 ? 0 : from * expert_.x.row_stride + offset, n, aligned_));
      }
    }
    ptx::cp_async_commit();
    if (second_ >= 0) {
      ptx::cp_async_wait<2>();
      tell(second_);
    }
    second_ = first_;
    first_ = group * kExpertMostRowPlaces + at.place;
  }

  // The oldest first.
  CUDAMOE_DEVICE void drain() {
    ptx::cp_async_wait_all();
    if (second_ >= 0) tell(second_);
    if (first_ >= 0) tell(first_);
    first_ = second_ = -1;
  }
  CUDAMOE_DEVICE void tell(int which) {
    ptx::fence_proxy_async();  // wgmma reads what was written past that proxy
    ptx::mbarrier_arrive(rings_.rows_full(0, which));
  }

  static constexpr int kUnrolled = 4;

  const Expert& expert_;
  const Rings& rings_;
  bool direct_, aligned_;
  int own_;
  int first_ = -1, second_ = -1;  // chunks that are under way, the later one first
};

}  // namespace cudamoe::kernels
