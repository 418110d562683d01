// Both layers of experts in one kernel, hidden rows in registers:
//   out_e(x) = act2(act1(x W1[e] + b1[e]) W2[e] + b2[e])
//   forward    y[r] = out_g(x[gather[r]]) for the rows r of group g; h and its pre-activation where they are wanted
//   dense      y[b, t] = sum over e of (gates[b, t, e] + residual[t, e]) out_e(x[b])
//   sparse     y[b, t] = sum over j of gates[b, t, j] out_{chosen[b, t, j]}(x[b]), samples sorted by all that they have chosen
//
// Floor in bytes: x once, the weights once, what is written once (h only where it is wanted, experts' outputs never); 2 rows hidden (depth
// + columns) flops for each expert that a row meets.
//
// Tiling: a block of 8 warps has a run of tiles of 128 rows; a warp owns 16 rows, which nobody else reads, so warps wait for each other for
// weights only. Hidden columns are computed in slices of 64: 32 sums a thread, which become operands of the second layer in place
// (layers.cuh); as many again for each 64 output columns, and for the mixture of each task: 64 columns of 2 tasks, 32 of 4, or 128 of one.
// More tasks or columns of a mixture are other blocks (y index), which compute hidden values again.
//
// Shared memory: the rows of x, 128 (depth + 8), and units, a unit being the weights of both layers for a slice, 72 depth + 64 (columns +
// 8) elements of bf16. Where a row's experts fit as a whole they stay for all tiles that have the same (resident); else two units go by
// turns, one under way while the other is multiplied. 256 -> 128 -> 64: 66 + 2 * 45 KiB. The rows of the next tile are copied while the
// last slice of a tile is finished. Rows of shared memory are an odd number of 16-byte pieces, so ldmatrix meets no bank twice.
//
// Order of sums: one accumulator an element over ascending depth, in both layers, then experts in ascending order (dense) or in the order
// of a sample's choices. A row's result does not depend on its neighbours.
#pragma once

#include "expert/outputs.cuh"
#include "expert/passes.cuh"
#include "expert/tiles.cuh"

namespace cudamoe::kernels {

// kTasks 0: forward.
template <int kColumns, int kTasks>
CUDAMOE_KERNEL(kExpertThreads, 1)
expert_kernel(const CUDAMOE_GRID_CONSTANT Expert expert, int direct, int64_t tiles) {
  constexpr int kTiles = kColumns / 8;
  if (block_x() < expert.inspectors) return inspect_rows<kExpertThreads>(expert.rows);
  TileWalk walk = TileWalk::make<kExpertThreads>(expert, tiles, block_x() - expert.inspectors, grid_size_x() - expert.inspectors);
  if (walk.tile().group < 0) return;

  const ExpertPass pass = expert_pass<kColumns, kTasks>(expert);
  const int depth = expert_depth(expert.depth), x_stride = depth + kExpertPadding;
  const int slices = ceil_divide(expert.hidden, kExpertSlice), list = list_length(expert), units = list * slices;
  const int unit_elements = static_cast<int>(expert_unit_elements(expert.depth, kColumns));
  const auto own_x = [&] { return dynamic_shared<Bf16>() + computed_here(warp_id() * 16) * x_stride; };
  const auto place_of = [&](int place) {
    return dynamic_shared<Bf16>() + (static_cast<int>(expert_x_elements(expert.depth)) + place * unit_elements);
  };
  const bool resident = expert.resident != 0;
  // Unit `number` of the rows of a group, into a place.
  const auto begin = [&](int group, int number, int place) {
    begin_unit<kColumns>(expert, listed_expert(expert, group, number / slices), number % slices, pass.column, place_of(place));
  };

  const auto begin_rows = [&] { RowCopy(expert, walk.tile(), own_x()).begin(); };
  const auto convert_rows = [&] { RowCopy(expert, walk.tile(), own_x()).convert(); };
  if (direct != 0) begin_rows();
  int held = -1;  // the group whose units are resident, or any when all groups have the same
  int turn = 0;   // of two places
  if (!resident) begin(walk.tile().group, 0, 0);
  Mixtures<kTiles, kTasks == 0 ? 1 : kTasks, false> mixtures;
  while (walk.tile().group >= 0) {
    if (direct == 0) {
      meet_warp();  // the rows of the last tile have been read
      convert_rows();
    }
    const GemmRowTile tile = walk.tile();
    walk.advance();
    const bool loads = !resident || held < 0 || !same_list(expert, held, tile.group);
    if (resident && loads) {
      sync_block();  // everybody is done with the units
      for (int number = 0; number < units; ++number) begin(tile.group, number, number);
      held = tile.group;
    }
    const bool active = warp_id() * 16 < tile.rows;
    const int64_t group_of_h = expert.rows.offsets == nullptr ? tile.group : 0;
    if constexpr (kTasks > 0) mixtures.clear();
    for (int i = 0; i < list; ++i) {
      const int number = listed_expert(expert, tile.group, i);
      FragmentSums<kTiles> output;
      output.clear();
      for (int slice = 0; slice < slices; ++slice) {
        const int unit = i * slices + slice;
        const bool last = unit + 1 == units;
        ptx::cp_async_wait_all();
        if (loads) {
          sync_block();  // the unit has arrived everywhere, and everybody is done with the other place
          if (!resident && (!last || walk.tile().group >= 0)) begin(last ? walk.tile().group : tile.group, last ? 0 : unit + 1, 1 - turn);
        } else {
          meet_warp();
        }
        const Shared<Bf16> weights = place_of(resident ? unit : turn);
        turn = 1 - turn;
        FragmentSums<kSliceTiles> hidden;
        const bool multiplies = active && number >= 0;
        if (multiplies) first_layer(own_x(), x_stride, weights, depth, hidden);
        if (last && direct != 0) {
          meet_warp();  // the rows have been read
          begin_rows();
        }
        if (!multiplies) continue;
        const int first = slice * kExpertSlice;
        add_bias(expert.first, number, first, expert.hidden, hidden);
        if constexpr (kTasks == 0) {
          if (expert.before.data != nullptr)
            store_rows<false>(expert.before, group_of_h * expert.before.group_stride, tile, first, expert.hidden, hidden);
        }
        activate_sums(expert.first.activation, expert.slope, hidden);
        if constexpr (kTasks == 0) {
          if (expert.h.data != nullptr) store_rows<false>(expert.h, group_of_h * expert.h.group_stride, tile, first, expert.hidden, hidden);
        }
        second_layer(hidden, weights + depth * kFirstStride, output);
      }
      if (!active || number < 0) continue;
      add_bias(expert.second, number, pass.column, expert.columns, output);
      activate_sums(expert.second.activation, expert.slope, output);
      if constexpr (kTasks == 0) {
        store_rows<false>(expert.y, group_of_h * expert.y.group_stride, tile, 0, expert.columns, output);
      } else {
        mixtures.add(mixtures.weights(expert, tile, pass.task, i), output);
      }
    }
    if constexpr (kTasks > 0) {
      if (active) mixtures.store(expert, tile, pass.task, pass.column);
    }
  }
}

template <int kColumns, int kTasks>
cudaError_t launch_expert(const char* name, const Expert& expert, const ExpertLaunch& of, cudaStream_t stream) {
  return launch_expert_passes<kColumns, kTasks>(name, kExpertThreads, expert_kernel<kColumns, kTasks>, expert, of, stream);
}

}  // namespace cudamoe::kernels
