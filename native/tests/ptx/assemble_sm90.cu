// Every PTX wrapper of the sm_90a path in a kernel, so that nvcc and ptxas have seen it. What they compute is tested on the executor
// (native/tests/simt/ptx_sm90_test.cpp).
#include "common/kernel.cuh"
#include "common/ptx/fence.cuh"
#include "common/ptx/mbarrier.cuh"
#include "common/ptx/tma.cuh"
#include "common/ptx/wgmma.cuh"

namespace cudamoe::kernels {

CUDAMOE_KERNEL(256, 1) assemble_tma(const CUDAMOE_GRID_CONSTANT ptx::TensorMap map, float* out) {
#if CUDAMOE_HAS_SM90A
  CUDAMOE_SHARED_ALIGNED(1024, float, tile, [1024]);
  CUDAMOE_SHARED_ALIGNED(8, uint64_t, full, [2]);
  if (warp_id() < 4) {
    ptx::release_registers<40>();
  } else {
    ptx::take_registers<232>();
  }
  if (thread_x() == 0) {
    ptx::tma_prefetch(map);
    ptx::mbarrier_init(&full[0], 1);
    ptx::mbarrier_init(&full[1], 2);
    ptx::fence_mbarrier_init();
  }
  sync_block();
  if (thread_x() == 0) {
    ptx::mbarrier_arrive_expect(&full[0], 4096);
    ptx::tma_load_2d(&tile[0], map, 0, 8, &full[0]);
    ptx::mbarrier_arrive(&full[1]);
    ptx::mbarrier_arrive_expect(&full[1], 4096);
    ptx::tma_load_3d(&tile[0], map, 0, 8, 1, &full[1]);
  }
  ptx::mbarrier_wait(&full[0], 0);
  if (!ptx::mbarrier_test(&full[1], 0)) ptx::mbarrier_wait(&full[1], 0);
  out[thread_x()] = tile[thread_x()];
  tile[thread_x()] = 1;
  ptx::fence_proxy_async();
  sync_block();
  if (thread_x() == 0) {
    ptx::tma_store_2d(map, 0, 8, &tile[0]);
    ptx::tma_store_commit();
    ptx::tma_store_wait<0>();
  }
#endif
}

template <int kN, bool kTransposeA, bool kTransposeB>
CUDAMOE_KERNEL(128, 1)
assemble_wgmma(const uint32_t* in, float* out) {
#if CUDAMOE_HAS_SM90A
  CUDAMOE_SHARED_ALIGNED(1024, Bf16, tile, [8192]);
  const uint32_t address = shared_address(&tile[0]);
  const uint64_t a = ptx::matrix_descriptor(address, 1024), b = ptx::advance(ptx::matrix_descriptor(address, 1024, 8192), 32);
  const uint32_t registers[4] = {in[0], in[1], in[2], in[3]};
  float d[kN / 2] = {};
  ptx::wgmma_fence();
  ptx::wgmma<kTransposeA, kTransposeB>(d, a, b, true);
  ptx::wgmma_commit();
  ptx::wgmma<kTransposeB>(d, registers, b, true);
  ptx::wgmma_commit();
  ptx::wgmma_wait<1>();
  ptx::wgmma_wait<0>();
  for (int i = 0; i < kN / 2; ++i) out[i * 128 + thread_x()] = d[i];
#endif
}
template __global__ void assemble_wgmma<64, false, false>(const uint32_t*, float*);
template __global__ void assemble_wgmma<64, true, true>(const uint32_t*, float*);
template __global__ void assemble_wgmma<128, false, false>(const uint32_t*, float*);
template __global__ void assemble_wgmma<128, true, true>(const uint32_t*, float*);
template __global__ void assemble_wgmma<256, false, false>(const uint32_t*, float*);
template __global__ void assemble_wgmma<256, false, true>(const uint32_t*, float*);

}  // namespace cudamoe::kernels
