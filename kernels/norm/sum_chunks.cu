// dgamma and dbeta (+)= the sums of their chunks' partial sums.
//
// Floor: the partials read once, 8 bytes a chunk and column. Tiling: a block of 512 threads per 32 columns of one of the two, sixteen
// strands of chunks. Shared memory: 4 KiB. Order of sums, in f64: strand s takes chunks s, s + 16, ... ascending, then the strands
// ascending, then what was there.
#include "common/kernel.cuh"
#include "norm/norm.h"

namespace cudamoe::kernels {
namespace {

constexpr int kColumns = 32, kStrands = 16;

CUDAMOE_KERNEL(kColumns* kStrands, 2)
sum_kernel(const float* partials, int64_t chunks, int64_t width, int32_t accumulate, float* dgamma, float* dbeta) {
  CUDAMOE_SHARED(double, strands, [kStrands][kColumns]);
  float* sums = block_y() == 0 ? dgamma : dbeta;
  if (sums == nullptr) return;
  const int at = thread_x() % kColumns, strand = thread_x() / kColumns;
  const int64_t column = int64_t{block_x()} * kColumns + at;
  double sum = 0;
  for (int64_t chunk = strand; chunk < chunks && column < width; chunk += kStrands)
    sum += static_cast<double>(partials[(2 * chunk + block_y()) * width + column]);
  strands[strand][at] = sum;
  sync_block();
  if (strand > 0 || column >= width) return;
  for (int s = 1; s < kStrands; ++s) sum += strands[s][at];
  sums[column] = static_cast<float>(accumulate != 0 ? static_cast<double>(sums[column]) + sum : sum);
}

}  // namespace

cudaError_t norm_sum_chunks(const float* partials, int64_t chunks, int64_t width, bool accumulate, float* dgamma, float* dbeta,
                            cudaStream_t stream) {
  const int64_t across = ceil_divide(width, int64_t{kColumns});
  if (across > INT32_MAX) return cudaErrorInvalidConfiguration;
  const LaunchShape shape{
      .name = "norm_sum_chunks", .grid = {static_cast<int>(across), 2}, .block = {kColumns * kStrands}, .stream = stream};
  return launch(shape, sum_kernel, partials, chunks, width, accumulate ? 1 : 0, dgamma, dbeta);
}

}  // namespace cudamoe::kernels
