// Both layers of experts on sm_90a, by warp-groups with wgmma: the three forms of expert.cuh, with the same sums.
//
// Floor: as expert.cuh states. The tensor cores of an H100 take 2048 products a cycle and multiprocessor: 1280 cycles for 64 rows of an
// expert 256 -> 128 -> 64.
//
// Tiling: a block of two warp-groups that multiply and four warps that bring (rings.cuh) has a run of tiles of 128 rows; a warp-group has
// 64 of them. Hidden columns are computed in slices of 128 (or 64, where registers or shared memory are short): a warp-group's sums are 64
// registers a thread, which become the left operand of the second layer in place; 32 more for each 64 output columns, and as many for the
// mixture of each task. The groups wait for each other nowhere, so one multiplies while the other finishes its outputs.
//
// Shared memory: a unit is the weights of both layers for a slice, 2 slice (depth + columns) bytes, 80 KiB for 256 -> 128 -> 64. All units
// of a row's experts stay for as many tiles as have the same (resident), or at least two go round. Rows of x lie in chunks of 64 of depth,
// 8 KiB for a group: at least those of a tile, at most those of two. Units and chunks are freed one by one.
//
// Order of sums: as expert.cuh: one accumulator an element over ascending depth in steps of 16, in both layers.
#pragma once

#include "common/ptx/convert.cuh"
#include "common/ptx/wgmma.cuh"
#include "expert/outputs.cuh"
#include "expert/passes.cuh"
#include "expert/rings.cuh"
#include "expert/tiles.cuh"

namespace cudamoe::kernels {

inline constexpr int kExpertGroupThreads = 128, kExpertBringers = 3;  // warps that bring rows
inline constexpr int kExpertRingThreads = (kExpertGroups + 1) * kExpertGroupThreads;

// Adds biases that lie in shared memory.
template <int kTiles>
CUDAMOE_DEVICE void add_biases(Shared<float> biases, FragmentSums<kTiles>& sum) {
  const Shared<float> own = biases + computed_here(lane_id() % 4 * 2);
  CUDAMOE_UNROLL
  for (int j = 0; j < kTiles; ++j) {
    const Vector<float, 2> bias = load<2>(own + 8 * j);
    CUDAMOE_UNROLL
    for (int e = 0; e < 4; ++e) sum.value[j][e] += bias[e % 2];
  }
}

// The warp-group that multiplies: kTasks 0 is the forward.
template <int kSlice, int kColumns, int kTasks>
class ExpertConsumer {
 public:
  using Rings = ExpertRings<kSlice, kColumns>;

  CUDAMOE_DEVICE ExpertConsumer(const Expert& expert, const Rings& rings, int group, int first_column, int first_task)
      : expert_(expert), rings_(rings), group_(group), first_column_(first_column), first_task_(first_task) {}

  template <class Walk>
  CUDAMOE_DEVICE void run(Walk walk) {
    const int list = list_length(expert_), slices = kOneSlice ? 1 : ceil_divide(expert_.hidden, kSlice);
    Mixed mixtures;
    RingPlace first_unit;
    while (walk.tile().group >= 0) {
      const GemmRowTile tile = walk.tile();
      walk.advance();
      const bool keeps = expert_.resident != 0 && same_list(expert_, tile.group, walk.tile().group);
      bool arrived = false;  // the rows
      RingPlace unit = first_unit;
      if constexpr (kTasks > 0) mixtures.clear();
      for (int i = 0; i < list; ++i) {
        const int number = listed_expert(expert_, tile.group, i);
        const bool multiplies = kTasks > 1 || number >= 0;  // mixtures for several tasks are dense
        FragmentSums<kTiles> output;
        if (!kOneSlice) output.clear();
        typename Mixed::Weights weights;
        if constexpr (kTasks > 0) {
          if (multiplies) weights = mixtures.weights(expert_, tile, first_task_, i);
        }
        for (int slice = 0; slice < slices; ++slice) {
          const bool last_slice = slice + 1 == slices, last = last_slice && i + 1 == list;
          ptx::mbarrier_wait(rings_.unit_full(unit.place), unit.parity);
          FragmentSums<kSliceTiles> hidden;
          if (multiplies) {
            first_layer(unit.place, !arrived, hidden);
            arrived = true;
          }
          if (last) free_rows(!arrived);
          if (multiplies) {
            finish_hidden(tile, slice, unit.place, hidden);
            second_layer(unit.place, hidden, output);
            if (last_slice && expert_.second.bias != nullptr) add_biases(rings_.biases(unit.place) + kSlice, output);
          }
          if (!keeps) free(rings_.unit_empty(unit.place));
          unit.advance(rings_.units);
        }
        if (!multiplies) continue;
        activate_sums(expert_.second.activation, expert_.slope, output);
        if constexpr (kTasks == 0) {
          store_rows<true>(expert_.y, group_of_h(tile) * expert_.y.group_stride, tile, 0, expert_.columns, output);
        } else {
          mixtures.add(weights, output);
        }
      }
      if constexpr (kTasks > 0) mixtures.store(expert_, tile, first_task_, first_column_);
      if (!keeps) first_unit = unit;
    }
  }

 private:
  // Sums of outputs are not held through the first layer where the mixtures of several tasks take the registers.
  static constexpr bool kOneSlice = expert_has_one_slice(kSlice, kTasks);
  static constexpr int kTiles = kColumns / 8, kSliceTiles = kSlice / 8;
  using Mixed = Mixtures<kTiles, kTasks == 0 ? 1 : kTasks, true>;
  static constexpr int kStepBytes = 16 * 128;  // 16 of depth of weights

  CUDAMOE_DEVICE int64_t group_of_h(const GemmRowTile& tile) const { return expert_.rows.offsets == nullptr ? tile.group : 0; }

  // The whole of the warp is done with what the barrier guards.
  CUDAMOE_DEVICE void free(Shared<uint64_t> barrier) const {
    meet_warp();
    if (lane_id() == 0) ptx::mbarrier_arrive(barrier);
  }

  // hidden = x * W1; the first time for a tile as its chunks arrive.
  CUDAMOE_DEVICE void first_layer(int unit, bool waits, FragmentSums<kSliceTiles>& hidden) const {
    const uint64_t weights = ptx::matrix_descriptor(shared_address(rings_.unit(unit)), 1024, rings_.depth * 128);
    hidden.clear();
    RingPlace at = rows_;
    const auto multiply = [&](int chunk) {
      if (waits) ptx::mbarrier_wait(rings_.rows_full(group_, at.place), at.parity);
      const uint64_t rows = ptx::matrix_descriptor(shared_address(rings_.rows(group_, at.place)), 1024);
      ptx::wgmma_fence();
      CUDAMOE_UNROLL
      for (int t = 0; t < kExpertChunk / 16; ++t) {
        ptx::wgmma<false, true>(hidden.flat(), ptx::advance(rows, 32 * t),
                                ptx::advance(weights, (chunk * (kExpertChunk / 16) + t) * kStepBytes), true);
      }
      ptx::wgmma_commit();
      at.advance(rings_.row_places);
    };
    multiply(0);  // beside the loop, so that the sums hold no registers before it
    CUDAMOE_NO_UNROLL
    for (int chunk = 1; chunk * kExpertChunk < rings_.depth; ++chunk) multiply(chunk);
    ptx::wgmma_wait<0>();
  }

  CUDAMOE_DEVICE void free_rows(bool waits) {
    meet_warp();
    for (int chunk = 0; chunk * kExpertChunk < rings_.depth; ++chunk) {
      if (waits) ptx::mbarrier_wait(rings_.rows_full(group_, rows_.place), rows_.parity);
      if (lane_id() == 0) ptx::mbarrier_arrive(rings_.rows_empty(group_, rows_.place));
      rows_.advance(rings_.row_places);
    }
  }

  CUDAMOE_DEVICE void finish_hidden(const GemmRowTile& tile, int slice, int unit, FragmentSums<kSliceTiles>& hidden) const {
    if (expert_.first.bias != nullptr) add_biases(rings_.biases(unit), hidden);
    const int first = slice * kSlice;
    if constexpr (kTasks == 0) {
      if (expert_.before.data != nullptr)
        store_rows<true>(expert_.before, group_of_h(tile) * expert_.before.group_stride, tile, first, expert_.hidden, hidden);
    }
    activate_sums(expert_.first.activation, expert_.slope, hidden);
    if constexpr (kTasks == 0) {
      if (expert_.h.data != nullptr)
        store_rows<true>(expert_.h, group_of_h(tile) * expert_.h.group_stride, tile, first, expert_.hidden, hidden);
    }
  }

  // output (+)= hidden * W2.
  CUDAMOE_DEVICE void second_layer(int unit, const FragmentSums<kSliceTiles>& hidden, FragmentSums<kTiles>& output) const {
    const uint64_t weights = ptx::matrix_descriptor(shared_address(rings_.unit(unit) + rings_.depth * kSlice), 1024, kSlice * 128);
    uint32_t left[kSlice / 16][4];
    CUDAMOE_UNROLL
    for (int t = 0; t < kSlice / 16; ++t) {
      CUDAMOE_UNROLL
      for (int e = 0; e < 4; ++e)
        left[t][e] = ptx::pack_bf16(hidden.value[2 * t + e / 2][e % 2 * 2], hidden.value[2 * t + e / 2][e % 2 * 2 + 1]);
    }
    if (kOneSlice) output.clear();
    ptx::wgmma_fence();
    CUDAMOE_UNROLL
    for (int t = 0; t < kSlice / 16; ++t) ptx::wgmma<true>(output.flat(), left[t], ptx::advance(weights, t * kStepBytes), true);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
  }

  const Expert& expert_;
  const Rings& rings_;
  int group_, first_column_, first_task_;
  RingPlace rows_;  // where the chunks of the group's next tile begin
};

template <int kSlice, int kColumns, int kTasks>
CUDAMOE_KERNEL(kExpertRingThreads, 1)
expert_ring_kernel(const CUDAMOE_GRID_CONSTANT Expert expert, const CUDAMOE_GRID_CONSTANT ptx::TensorMap first,
                   const CUDAMOE_GRID_CONSTANT ptx::TensorMap second, int units, int row_places, int direct, int64_t tiles) {
#if CUDAMOE_HAS_SM90A
  using Rings = ExpertRings<kSlice, kColumns>;
  if constexpr (kTasks == 0) {
    if (block_x() < expert.inspectors) return inspect_rows<kExpertRingThreads>(expert.rows);
  }
  // Mixtures for several tasks are dense.
  using Walk = std::conditional_t<(kTasks > 1), DenseWalk, TileWalk>;
  const Walk walk =
      Walk::template make<kExpertRingThreads>(expert, tiles, block_x() - expert.inspectors, grid_size_x() - expert.inspectors);
  if (walk.tile().group < 0) return;
  const ExpertPass pass = expert_pass<kColumns, kTasks>(expert);

  CUDAMOE_SHARED_ALIGNED(8, uint64_t, barriers, [Rings::kBarriers]);
  const Rings rings{dynamic_shared<Bf16>(), barriers, expert_chunks(expert.depth) * kExpertChunk, units, row_places};
  if (thread_x() == 0) rings.initialise();
  sync_block();
  const int warp = shuffle(kFullWarp, warp_id(), 0);
  if (warp >= kExpertGroups * 4) {
    ptx::release_registers<56>();
    if (warp == kExpertGroups * 4) {
      bring_units(expert, first, second, walk, pass.column, rings);
    } else {
      RowBringer<kExpertBringers, Rings>(expert, rings, direct != 0, warp - kExpertGroups * 4 - 1).run(walk);
    }
  } else {
    ptx::take_registers<224>();
    ExpertConsumer<kSlice, kColumns, kTasks>(expert, rings, warp / 4, pass.column, pass.task).run(walk);
  }
#endif
}

template <int kSlice, int kColumns, int kTasks>
cudaError_t launch_expert_rings(const char* name, const Expert& expert, const ExpertLaunch& of, cudaStream_t stream) {
  return launch_expert_passes<kColumns, kTasks>(name, kExpertRingThreads, expert_ring_kernel<kSlice, kColumns, kTasks>, expert, of, stream,
                                                of.first, of.second, of.units, of.row_places);
}

}  // namespace cudamoe::kernels
