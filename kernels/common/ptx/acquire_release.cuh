// A flag between blocks: what was written before the release is seen after the acquire that reads its value.
#pragma once

#include "common/target.cuh"

namespace cudamoe::kernels::ptx {

#if defined(__CUDACC__)

CUDAMOE_DEVICE uint32_t load_acquire(const uint32_t* p) {
  uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(p) : "memory");
  return value;
}
CUDAMOE_DEVICE void store_release(uint32_t* p, uint32_t value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(value) : "memory");
}

#else

CUDAMOE_DEVICE uint32_t load_acquire(const uint32_t* p) {
  simt::may_switch();
  return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
CUDAMOE_DEVICE void store_release(uint32_t* p, uint32_t value) {
  __atomic_store_n(p, value, __ATOMIC_RELEASE);
  simt::made_progress();
  simt::may_switch();
}

#endif

}  // namespace cudamoe::kernels::ptx
