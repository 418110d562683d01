// Every PTX wrapper of the sm_80 path in a kernel, so that nvcc and ptxas have seen it. What they compute is tested on the executor
// (native/tests/simt/ptx_sm80_test.cpp).
#include "common/kernel.cuh"
#include "common/ptx/acquire_release.cuh"
#include "common/ptx/barrier.cuh"
#include "common/ptx/convert.cuh"
#include "common/ptx/cp_async.cuh"
#include "common/ptx/ldmatrix.cuh"
#include "common/ptx/mma.cuh"

namespace cudamoe::kernels {

CUDAMOE_KERNEL(32, 1) assemble_copies(const float* in, float* out) {
  CUDAMOE_SHARED_ALIGNED(16, float, row, [128]);
  const int t = thread_x();
  ptx::cp_async<16>(&row[4 * t], in + 4 * t);
  ptx::cp_async_commit();
  ptx::cp_async<8>(&row[2 * t], in + 2 * t, 4);
  ptx::cp_async_commit();
  ptx::cp_async_wait<1>();
  ptx::cp_async<4>(&row[t], in + t);
  ptx::cp_async_wait_all();
  sync_block();
  out[t] = row[t];
}

template <int kMatrices, bool kTransposed>
CUDAMOE_KERNEL(32, 1)
assemble_ldmatrix(const Bf16* in, uint32_t* out) {
  CUDAMOE_SHARED_ALIGNED(16, Bf16, tile, [32][8]);
  for (int i = 0; i < 8; ++i) tile[thread_x()][i] = in[thread_x() * 8 + i];
  sync_block();
  uint32_t fragment[kMatrices];
  ptx::ldmatrix<kMatrices, kTransposed>(fragment, &tile[thread_x()][0]);
  for (int m = 0; m < kMatrices; ++m) out[m * 32 + thread_x()] = fragment[m];
}
template __global__ void assemble_ldmatrix<1, false>(const Bf16*, uint32_t*);
template __global__ void assemble_ldmatrix<2, false>(const Bf16*, uint32_t*);
template __global__ void assemble_ldmatrix<4, false>(const Bf16*, uint32_t*);
template __global__ void assemble_ldmatrix<1, true>(const Bf16*, uint32_t*);
template __global__ void assemble_ldmatrix<2, true>(const Bf16*, uint32_t*);
template __global__ void assemble_ldmatrix<4, true>(const Bf16*, uint32_t*);

CUDAMOE_KERNEL(32, 1) assemble_mma(const uint32_t* in, float* out) {
  const uint32_t a[4] = {in[0], in[1], ptx::to_tf32(out[8]), ptx::pack_bf16(out[9], out[10])}, b[2] = {in[4], in[5]};
  float d[4] = {};
  ptx::mma_m16n8k16_bf16(d, a, b);
  ptx::mma_m16n8k8_tf32(d, a, b);
  for (int i = 0; i < 4; ++i) out[4 * thread_x() + i] = d[i];
}

// The language that no kernel uses yet.
CUDAMOE_KERNEL(128, 1) assemble_language(uint32_t* out, const float* in, int64_t* wide) {
  CUDAMOE_SHARED(uint32_t, counter);
  const Shared<float> all = dynamic_shared<float>();
  const auto t = static_cast<uint32_t>(thread_x());
  if (t == 0) counter[0] = 0;
  sync_block();
  atomic_add(&counter[0], t);
  atomic_min(out, t);
  atomic_max(out + 1, t);
  atomic_or(out + 2, t);
  atomic_exchange(out + 3, t);
  atomic_compare_exchange(out + 4, t, t + 1);
  store(all + 4 * t, load_constant<4>(in + 4 * t));
  ptx::sync_part(1, 64);
  ptx::arrive_part(2, 128);
  const int count = sync_block_count(t > 3);
  const bool every = sync_block_and(t > 3), none = sync_block_or(t > 3);
  fence_block();
  fence_device();
  while (ptx::load_acquire(out + 5) == 0) pause_thread();
  ptx::store_release(out + 6, 1);
  const uint32_t mask = match_any(kFullWarp, t / 4) ^ ballot(kFullWarp, every);
  out[8 + t] = counter[0] + static_cast<uint32_t>(count) + (none ? 1u : 0u) + mask + reduce_add(kFullWarp, t) + reduce_min(kFullWarp, t) +
               reduce_max(kFullWarp, t) + shuffle(kFullWarp, t, 1) + shuffle_up(kFullWarp, t, 1) + shuffle_down(kFullWarp, t, 1) +
               shuffle_xor(kFullWarp, t, 1) + (any_lane(kFullWarp, every) ? 1u : 0u) + (all_lanes(kFullWarp, none) ? 1u : 0u);
  sync_warp();
  wide[t] =
      warp_min(static_cast<int64_t>(all[4 * t + 1])) + static_cast<int64_t>(to_float(to_bf16(warp_max(erf(tanh(load_constant(in)))))));
}

}  // namespace cudamoe::kernels
