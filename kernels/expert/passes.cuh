// The grid of an expert kernel: x the inspector and the blocks that share the row tiles, y the passes over output columns and tasks.
#pragma once

#include "expert/walk.cuh"

namespace cudamoe::kernels {

// The first output column and task of a block's pass, of kColumns columns and kTasks tasks (0: the forward form).
struct ExpertPass {
  int column, task;
};
template <int kColumns, int kTasks>
CUDAMOE_DEVICE ExpertPass expert_pass(const Expert& expert) {
  const int column_tiles = ceil_divide(expert.columns, kColumns);
  return {block_y() % column_tiles * kColumns, block_y() / column_tiles * kTasks};
}

// Launches kernel(expert, arguments..., whether rows go directly, row tiles).
template <int kColumns, int kTasks, class Kernel, class... Arguments>
cudaError_t launch_expert_passes(const char* name, int threads, Kernel kernel, const Expert& expert, const ExpertLaunch& of,
                                 cudaStream_t stream, const Arguments&... arguments) {
  const int64_t tiles = gemm_row_tiles(expert.rows, kExpertRows);
  if (tiles > INT32_MAX) return cudaErrorInvalidConfiguration;
  const int passes =
      kTasks == 0 ? 1 : ceil_divide(expert.columns, kColumns) * (expert.form == ExpertForm::kDense ? ceil_divide(expert.tasks, kTasks) : 1);
  const LaunchShape shape{.name = name,
                          .grid = {expert.inspectors + of.blocks, passes},
                          .block = {threads},
                          .dynamic_shared_bytes = of.shared_bytes,
                          .stream = stream};
  return launch(shape, kernel, expert, arguments..., rows_go_directly(expert.x) ? 1 : 0, tiles);
}

}  // namespace cudamoe::kernels
