// ldmatrix (sm_75): one, two or four 8 x 8 matrices of 16-bit elements from shared memory, spread over a warp as mma.sync wants them.
//
// Lane i gives the address of row i % 8 of matrix i / 8 (16 bytes, aligned to 16); lanes beyond the matrices give any. Lane l receives, for
// each matrix, row l / 4, columns 2 (l % 4) and the next, the first in the lower half. Transposed: rows 2 (l % 4) and the next of column l
// / 4.
#pragma once

#include "common/memory.cuh"
#include "common/target.cuh"

namespace cudamoe::kernels::ptx {

#if defined(__CUDACC__)

template <int kMatrices, bool kTransposed, class T>
CUDAMOE_DEVICE void ldmatrix(uint32_t (&fragment)[kMatrices], const T* row) {
  static_assert(sizeof(T) == 2 && (kMatrices == 1 || kMatrices == 2 || kMatrices == 4));
  const uint32_t address = shared_address(row);
  if constexpr (kMatrices == 1 && !kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(fragment[0]) : "r"(address) : "memory");
  } else if constexpr (kMatrices == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(fragment[0]) : "r"(address) : "memory");
  } else if constexpr (kMatrices == 2 && !kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(fragment[0]), "=r"(fragment[1])
                 : "r"(address)
                 : "memory");
  } else if constexpr (kMatrices == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(fragment[0]), "=r"(fragment[1])
                 : "r"(address)
                 : "memory");
  } else if constexpr (!kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                 : "r"(address)
                 : "memory");
  }
}

#else

template <int kMatrices, bool kTransposed, class T>
void ldmatrix(uint32_t (&fragment)[kMatrices], Shared<T> row CUDAMOE_SITE) {
  static_assert(sizeof(T) == 2 && (kMatrices == 1 || kMatrices == 2 || kMatrices == 4));
  const int lane = simt::lane_of_current();
  Vector<uint16_t, 8> own = {};
  if (lane < 8 * kMatrices) own = load<8>(shared_cast<const uint16_t>(row) CUDAMOE_PASS_SITE);
  const simt::Exchange lanes = simt::meet(0xFFFFFFFFu, simt::WarpOperation::kLoadMatrix, &own, sizeof own, site);
  const auto element = [&](int matrix, int r, int c) -> uint32_t { return lanes.word(8 * matrix + r, c / 2) >> 16 * (c % 2) & 0xFFFFu; };
  for (int m = 0; m < kMatrices; ++m) {
    const int outer = lane / 4, inner = 2 * (lane % 4);
    fragment[m] = kTransposed ? element(m, inner, outer) | element(m, inner + 1, outer) << 16
                              : element(m, outer, inner) | element(m, outer, inner + 1) << 16;
  }
}

#endif

}  // namespace cudamoe::kernels::ptx
