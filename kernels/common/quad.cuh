// Four neighbouring floats, as a thread takes them of a row whatever its alignment: which elements a thread has, and so the order of its
// sums, depends on the shape alone.
#pragma once

#include "common/memory.cuh"

namespace cudamoe::kernels {

using Quad = Vector<float, 4>;

// p[0 .. left-1], zeros where `left` is below four. kAligned: p is aligned to 16 bytes, and left is not positive or at least four; one
// access then.
template <bool kAligned>
CUDAMOE_DEVICE Quad load_quad(const float* p, int64_t left) {
  Quad quad = {};
  if constexpr (kAligned) {
    if (left > 0) quad = load<4>(p);
  } else {
    CUDAMOE_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (i < left) quad[i] = p[i];
    }
  }
  return quad;
}

// Writes p[0 .. left-1], at most four elements.
template <bool kAligned>
CUDAMOE_DEVICE void store_quad(float* p, const Quad& quad, int64_t left) {
  if constexpr (kAligned) {
    if (left > 0) store(p, quad);
  } else {
    CUDAMOE_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (i < left) p[i] = quad[i];
    }
  }
}

}  // namespace cudamoe::kernels
