// wgmma (sm_90a): D[64, n] (+)= A[64, 16] B[16, n] by a warp-group of four warps, bf16 operands, f32 accumulators, n = 64, 128, 256.
//
//   wgmma_fence();                                        before the first, and after the accumulators were written
//   wgmma(d, descriptor of A, descriptor of B, true);     float d[n / 2]; several, then
//   wgmma_commit();  wgmma_wait<N>();                      d may not be touched before its group was waited for
//
// Warp w of the group has rows 16 w + g and 16 w + g + 8, g = lane / 4; with t = lane % 4
//   d[4 j] D[g][8 j + 2 t]   d[4 j + 1] D[g][8 j + 2 t + 1]   d[4 j + 2], d[4 j + 3] the same of row g + 8
// and A in registers is the A of mma.sync m16n8k16 of the warp's 16 rows (mma.cuh).
//
// Operands in shared memory have the swizzle of 128 bytes, as TMA writes it. A by rows of k (K-major): 64 elements of k in 128 bytes a row,
// eight rows 1024 bytes; `stride` is from eight rows to the next. The next 16 of k are 32 bytes further (advance). Transposed (k
// outermost): 64 elements of a row of k in 128 bytes; `stride` is from eight k to the next, `leading` from 64 elements to the next. B has
// its n in place of A's rows.
#pragma once

#include "common/shared.cuh"
#include "common/target.cuh"
#if defined(__CUDACC__)
#include "common/ptx/wgmma_assembly.cuh"
#endif

namespace cudamoe::kernels::ptx {

// Of a tile at a shared address that is a multiple of 1024.
CUDAMOE_DEVICE uint64_t matrix_descriptor(uint32_t address, int stride_bytes, int leading_bytes = 16) {
  constexpr uint64_t kSwizzle128 = 1;
  return (address >> 4 & 0x3FFFu) | static_cast<uint64_t>(leading_bytes >> 4) << 16 | static_cast<uint64_t>(stride_bytes >> 4) << 32 |
         kSwizzle128 << 62;
}
CUDAMOE_DEVICE uint64_t advance(uint64_t descriptor, int bytes) { return descriptor + static_cast<uint64_t>(bytes >> 4); }

#if defined(__CUDACC__)

CUDAMOE_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
CUDAMOE_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
CUDAMOE_DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

template <bool kTransposeA = false, bool kTransposeB = false, int kRegisters>
CUDAMOE_DEVICE void wgmma(float (&d)[kRegisters], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(kRegisters == 32 || kRegisters == 64 || kRegisters == 128);
  if constexpr (kRegisters == 32) detail::wgmma_n64<kTransposeA, kTransposeB>(d, a, b, accumulate);
  if constexpr (kRegisters == 64) detail::wgmma_n128<kTransposeA, kTransposeB>(d, a, b, accumulate);
  if constexpr (kRegisters == 128) detail::wgmma_n256<kTransposeA, kTransposeB>(d, a, b, accumulate);
}
template <bool kTransposeB = false, int kRegisters>
CUDAMOE_DEVICE void wgmma(float (&d)[kRegisters], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  static_assert(kRegisters == 32 || kRegisters == 64 || kRegisters == 128);
  if constexpr (kRegisters == 32) detail::wgmma_n64<kTransposeB>(d, a, b, accumulate);
  if constexpr (kRegisters == 64) detail::wgmma_n128<kTransposeB>(d, a, b, accumulate);
  if constexpr (kRegisters == 128) detail::wgmma_n256<kTransposeB>(d, a, b, accumulate);
}

#else

CUDAMOE_DEVICE void wgmma_fence(CUDAMOE_ONLY_SITE) { simt::wgmma_fence(site); }
CUDAMOE_DEVICE void wgmma_commit(CUDAMOE_ONLY_SITE) { simt::wgmma_commit(site); }
template <int kPending>
void wgmma_wait(CUDAMOE_ONLY_SITE) {
  simt::wgmma_wait(kPending, site);
}

template <bool kTransposeA = false, bool kTransposeB = false, int kRegisters>
void wgmma(float (&d)[kRegisters], uint64_t a, uint64_t b, bool accumulate CUDAMOE_SITE) {
  static_assert(kRegisters == 32 || kRegisters == 64 || kRegisters == 128);
  simt::wgmma({d, 2 * kRegisters, nullptr, a, b, accumulate, kTransposeA, kTransposeB}, site);
}
template <bool kTransposeB = false, int kRegisters>
void wgmma(float (&d)[kRegisters], const uint32_t (&a)[4], uint64_t b, bool accumulate CUDAMOE_SITE) {
  static_assert(kRegisters == 32 || kRegisters == 64 || kRegisters == 128);
  simt::wgmma({d, 2 * kRegisters, a, 0, b, accumulate, false, kTransposeB}, site);
}

#endif

}  // namespace cudamoe::kernels::ptx
