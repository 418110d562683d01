// What the fragments of a product by mma.sync (ptx/mma.cuh) must hold, said in rows, columns and depth beside loads that speak of lanes and
// matrices. The executor compares each register of each lane with the elements that the kernel names, and reports a wrong fragment; of a
// GPU's code it is no part.
//
//   ptx::ldmatrix<4, false>(a, tile + ((lane_id() % 16) * stride + lane_id() / 16 * 8));
//   expect_left_bf16(a, [&](int row, int k) -> Bf16 { return tile[row * stride + k]; });
#pragma once

#include "common/bf16.cuh"
#include "common/index.cuh"
#include "common/target.cuh"

namespace cudamoe::kernels {

#if defined(__CUDACC__)

template <class Element>
CUDAMOE_DEVICE void expect_left_bf16(const uint32_t (&)[4], Element&&) {}
template <class Element>
CUDAMOE_DEVICE void expect_right_bf16(const uint32_t (&)[2], Element&&) {}
template <class Element>
CUDAMOE_DEVICE void expect_left_tf32(const uint32_t (&)[4], Element&&) {}
template <class Element>
CUDAMOE_DEVICE void expect_right_tf32(const uint32_t (&)[2], Element&&) {}

#else

namespace detail {

inline void expect_word(const char* operand, int word, uint32_t held, uint32_t wanted, simt::Site site) {
  if (held != wanted) {
    simt::report(simt::Finding::kFragment, site, "register %d of the %s operand in lane %d holds %#010x; its elements are %#010x", word,
                 operand, simt::lane_of_current(), held, wanted);
  }
}

}  // namespace detail

// The left operand of m16n8k16 in bf16: element(row, k), row and k below 16.
template <class Element>
void expect_left_bf16(const uint32_t (&a)[4], Element&& element CUDAMOE_SITE) {
  const int group = simt::lane_of_current() / 4, pair = 2 * (simt::lane_of_current() % 4);
  for (int i = 0; i < 4; ++i) {
    const int row = group + i % 2 * 8, k = pair + i / 2 * 8;
    const Bf16 low = element(row, k), high = element(row, k + 1);
    detail::expect_word("left", i, a[i], low.bits | static_cast<uint32_t>(high.bits) << 16, site);
  }
}

// Its right operand: element(k, column), k below 16, column below 8.
template <class Element>
void expect_right_bf16(const uint32_t (&b)[2], Element&& element CUDAMOE_SITE) {
  const int group = simt::lane_of_current() / 4, pair = 2 * (simt::lane_of_current() % 4);
  for (int i = 0; i < 2; ++i) {
    const Bf16 low = element(pair + 8 * i, group), high = element(pair + 8 * i + 1, group);
    detail::expect_word("right", i, b[i], low.bits | static_cast<uint32_t>(high.bits) << 16, site);
  }
}

// The left operand of m16n8k8 in tf32: element(row, k) as its 32 bits, row below 16, k below 8.
template <class Element>
void expect_left_tf32(const uint32_t (&a)[4], Element&& element CUDAMOE_SITE) {
  const int group = simt::lane_of_current() / 4, t = simt::lane_of_current() % 4;
  for (int i = 0; i < 4; ++i) detail::expect_word("left", i, a[i], element(group + i % 2 * 8, t + i / 2 * 4), site);
}

// Its right operand: element(k, column), both below 8.
template <class Element>
void expect_right_tf32(const uint32_t (&b)[2], Element&& element CUDAMOE_SITE) {
  const int group = simt::lane_of_current() / 4, t = simt::lane_of_current() % 4;
  for (int i = 0; i < 2; ++i) detail::expect_word("right", i, b[i], element(t + 4 * i, group), site);
}

#endif

}  // namespace cudamoe::kernels
