// mbarrier (sm_90): a barrier in shared memory that counts arrivals and bytes of asynchronous copies.
//
//   CUDAMOE_SHARED_ALIGNED(8, uint64_t, full, [kStages]);
//   mbarrier_init(&full[s], count);                   one thread; then fence_mbarrier_init and a block barrier
//   mbarrier_arrive(&full[s]);                        one of `count` arrivals of the phase
//   mbarrier_arrive_expect(&full[s], bytes);          the same, and the phase also waits for that many bytes
//   mbarrier_test(&full[s], parity)                   whether mbarrier_wait would return at once
//   mbarrier_wait(&full[s], parity);                  until the phase of that parity is complete; the first phase has parity 0
//
// A wait for parity p returns when the barrier's current phase is not of parity p: a fresh barrier lets a wait for parity 1 pass.
#pragma once

#include "common/shared.cuh"
#include "common/target.cuh"

namespace cudamoe::kernels::ptx {

#if defined(__CUDACC__)

CUDAMOE_DEVICE void mbarrier_init(uint64_t* barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count) : "memory");
}
CUDAMOE_DEVICE void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0]; }" ::"r"(shared_address(barrier)) : "memory");
}
CUDAMOE_DEVICE void mbarrier_arrive_expect(uint64_t* barrier, int bytes) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1; }" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
CUDAMOE_DEVICE bool mbarrier_test(uint64_t* barrier, uint32_t parity) {
  uint32_t done;
  asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
               : "=r"(done)
               : "r"(shared_address(barrier)), "r"(parity)
               : "memory");
  return done != 0;
}
CUDAMOE_DEVICE bool mbarrier_try_wait(uint64_t* barrier, uint32_t parity) {
  uint32_t done;
  asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
               : "=r"(done)
               : "r"(shared_address(barrier)), "r"(parity)
               : "memory");
  return done != 0;
}
CUDAMOE_DEVICE void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
  while (!mbarrier_try_wait(barrier, parity)) {
  }
}

#else

CUDAMOE_DEVICE void mbarrier_init(Shared<uint64_t> barrier, int count CUDAMOE_SITE) {
  simt::mbarrier_init(barrier.raw(1, site), count, site);
}
CUDAMOE_DEVICE void mbarrier_arrive(Shared<uint64_t> barrier CUDAMOE_SITE) { simt::mbarrier_arrive(barrier.raw(1, site), 0, site); }
CUDAMOE_DEVICE void mbarrier_arrive_expect(Shared<uint64_t> barrier, int bytes CUDAMOE_SITE) {
  simt::mbarrier_arrive(barrier.raw(1, site), bytes, site);
}
CUDAMOE_DEVICE bool mbarrier_test(Shared<uint64_t> barrier, uint32_t parity CUDAMOE_SITE) {
  return simt::mbarrier_test(barrier.raw(1, site), parity, site);
}
CUDAMOE_DEVICE void mbarrier_wait(Shared<uint64_t> barrier, uint32_t parity CUDAMOE_SITE) {
  simt::mbarrier_wait(barrier.raw(1, site), parity, site);
}

#endif

}  // namespace cudamoe::kernels::ptx
