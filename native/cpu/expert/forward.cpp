// cudamoe_expert_forward of the cpu backend: a task is a block of rows of one expert (layers.h).
#include "cpu/expert/expert.h"
#include "cpu/expert/layers.h"

namespace cudamoe::cpu {

int64_t expert_forward_workspace(void* stream, const cudamoe_expert_forward_args& args) {
  return stream_of(stream).device().threads() * ExpertLayers("", args).floats() * static_cast<int64_t>(sizeof(float));
}

cudamoe_status expert_forward(void* handle, const cudamoe_expert_forward_args& args) {
  constexpr const char* kFunction = "cudamoe_expert_forward";
  constexpr int64_t kTasksAThread = 4;
  Stream& stream = stream_of(handle);
  const RowGroups groups{args.groups, args.rows, args.offsets};
  if (args.rows == 0 || !groups.check(stream, kFunction)) return CUDAMOE_OK;
  const ExpertLayers layers(kFunction, args);
  const bool strided = args.offsets == nullptr;
  const int64_t all_rows = strided ? args.groups * args.rows : args.offsets[args.groups], tile = tile_shape().rows;
  const int64_t tiles_of_task = divide_up(all_rows, tile) / (kTasksAThread * stream.device().threads());
  const RowBlocks blocks(groups, tile, std::clamp<int64_t>(tiles_of_task, 1, ExpertLayers::block_rows() / tile));
  auto* workspace = static_cast<float*>(args.workspace);

  stream.device().for_tiles(blocks.count(), layers.cost(all_rows), [&](int64_t number, int worker) {
    const RowBlocks::Block block = blocks.block(number);
    if (block.tiles == 0) return;
    const int64_t begin = block.tile_begin(block.first_tile), end = block.tile_begin(block.first_tile + block.tiles);
    const auto view = [&](auto data, int64_t row_stride, int64_t group_stride, int32_t dtype, int64_t first) {
      const RowsOf<decltype(data)> all{data, 1, dtype == CUDAMOE_BF16};
      return RowsOf<decltype(data)>{all.from(first * row_stride + (strided ? block.group * group_stride : 0)).data, row_stride, all.bf16};
    };
    layers.run(stream,
               {.expert = block.group,
                .rows = end - begin,
                .x = view(args.x, args.x_row_stride, args.x_group_stride, args.x_dtype, args.gather == nullptr ? begin : 0),
                .gather = args.gather == nullptr ? nullptr : args.gather + begin,
                .x_rows = args.x_rows,
                .first_row = begin,
                .h = view(args.h, args.h_row_stride, args.h_group_stride, args.h_dtype, begin),
                .before = view(args.h_preactivation, args.h_row_stride, args.h_group_stride, args.h_dtype, begin),
                .y = view(args.y, args.y_row_stride, args.y_group_stride, args.y_dtype, begin)},
               workspace + worker * layers.floats());
  });
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
