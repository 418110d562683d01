// Fences between the proxies by which memory is reached, and register allocation between warp-groups (sm_90a).
#pragma once

#include "common/target.cuh"

namespace cudamoe::kernels::ptx {

#if defined(__CUDACC__)

// Makes the thread's own writes of shared memory visible to TMA and wgmma, which reach it by the asynchronous proxy. Then a barrier, then
// the asynchronous operation.
CUDAMOE_DEVICE void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// Makes initialised mbarriers visible to the asynchronous proxy and to a cluster.
CUDAMOE_DEVICE void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
// All warps of a warp-group call it: a producer gives registers back, consumers take them. Multiples of 8 from 24 to 240.
template <int kRegisters>
CUDAMOE_DEVICE void release_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
CUDAMOE_DEVICE void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

#else

CUDAMOE_DEVICE void fence_proxy_async() { simt::fence_proxy_async(); }
CUDAMOE_DEVICE void fence_mbarrier_init() {}
template <int kRegisters>
void release_registers(CUDAMOE_ONLY_SITE) {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 240);
  simt::meet(0xFFFFFFFFu, simt::WarpOperation::kRegisters, nullptr, 0, site);
}
template <int kRegisters>
void take_registers(CUDAMOE_ONLY_SITE) {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 240);
  simt::meet(0xFFFFFFFFu, simt::WarpOperation::kRegisters, nullptr, 0, site);
}

#endif

}  // namespace cudamoe::kernels::ptx
