// mma.sync: D[16, 8] += A[16, K] B[K, 8] by a warp on tensor cores, D in f32. With g = lane / 4 and t = lane % 4:
//
//   m16n8k16 bf16   a[0] A[g][2t, 2t+1]   a[1] A[g+8][2t, 2t+1]   a[2] A[g][2t+8, 2t+9]   a[3] A[g+8][2t+8, 2t+9]
//                   b[0] B[2t, 2t+1][g]   b[1] B[2t+8, 2t+9][g]              (the first of two in the lower half)
//   m16n8k8 tf32    a[0] A[g][t]   a[1] A[g+8][t]   a[2] A[g][t+4]   a[3] A[g+8][t+4]      b[0] B[t][g]   b[1] B[t+4][g]
//   both            d[0] D[g][2t]   d[1] D[g][2t+1]   d[2] D[g+8][2t]   d[3] D[g+8][2t+1]
//
// The executor adds the products in ascending k, each addition rounded to f32. The hardware's order and rounding within one instruction are
// its own, so results of the two agree to the rounding of f32, and exactly where all sums are exact. tf32 operands are f32 bits of which
// the lower 13 count for nothing: round first (to_tf32), else they are cut off.
#pragma once

#include "common/bf16.cuh"
#include "common/index.cuh"
#include "common/target.cuh"

namespace cudamoe::kernels::ptx {

// To nearest, ties away from zero.
CUDAMOE_DEVICE uint32_t to_tf32(float x) {
#if defined(__CUDACC__)
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
#else
  const uint32_t bits = bits_of(x);
  return is_finite(x) ? (bits + 0x1000u) & ~0x1FFFu : bits;
#endif
}

#if defined(__CUDACC__)

CUDAMOE_DEVICE void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

CUDAMOE_DEVICE void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#else

namespace detail {

// d += A B, with A(lanes, row, k) and B(lanes, k, column) taking an element out of what the lanes brought: words a[0 .. 3], b[0], b[1].
template <int kDepth, class ElementA, class ElementB>
void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], simt::Site site, ElementA&& element_a, ElementB&& element_b) {
  const uint32_t own[] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  const simt::Exchange lanes = simt::meet(kFullWarp, simt::WarpOperation::kMultiply, own, sizeof own, site);
  const int lane = simt::lane_of_current();
  float row[2][kDepth], column[2][kDepth];
  for (int half = 0; half < 2; ++half) {
    for (int k = 0; k < kDepth; ++k) {
      row[half][k] = element_a(lanes, lane / 4 + 8 * half, k);
      column[half][k] = element_b(lanes, k, 2 * (lane % 4) + half);
    }
  }
  for (int i = 0; i < 4; ++i) {
    for (int k = 0; k < kDepth; ++k) d[i] += row[i / 2][k] * column[i % 2][k];
  }
  simt::count_operations(2 * 4 * kDepth);
}

}  // namespace detail

CUDAMOE_DEVICE void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2] CUDAMOE_SITE) {
  const auto half = [](uint32_t pair, int k) { return k % 2 == 0 ? low_bf16(pair) : high_bf16(pair); };
  detail::multiply<16>(
      d, a, b, site,
      [&](const simt::Exchange& lanes, int r, int k) { return half(lanes.word(r % 8 * 4 + k % 8 / 2, r / 8 + k / 8 * 2), k); },
      [&](const simt::Exchange& lanes, int k, int c) { return half(lanes.word(c * 4 + k % 8 / 2, 4 + k / 8), k); });
}

CUDAMOE_DEVICE void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2] CUDAMOE_SITE) {
  const auto cut = [](uint32_t bits) { return float_of_bits(bits & ~0x1FFFu); };
  detail::multiply<8>(
      d, a, b, site, [&](const simt::Exchange& lanes, int r, int k) { return cut(lanes.word(r % 8 * 4 + k % 4, r / 8 + k / 4 * 2)); },
      [&](const simt::Exchange& lanes, int k, int c) { return cut(lanes.word(c * 4 + k % 4, 4 + k / 4)); });
}

#endif

}  // namespace cudamoe::kernels::ptx
