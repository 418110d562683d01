// Runs of elements of f32 or bf16 as f32.
#pragma once

#include "combine/combine.h"
#include "common/kernel.cuh"
#include "common/ptx/convert.cuh"

namespace cudamoe::kernels {

// Elements of a thread where everything is aligned: 16 bytes of the experts.
template <class T>
inline constexpr int kCombineVector = 16 / static_cast<int>(sizeof(T));

template <int N>
struct Floats {
  float element[N];
  CUDAMOE_DEVICE float& operator[](int i) { return element[i]; }
  CUDAMOE_DEVICE const float& operator[](int i) const { return element[i]; }
};

template <int N, class T>
CUDAMOE_DEVICE Floats<N> load_floats(const T* from) {
  constexpr int kAccess = N < kCombineVector<T> ? N : kCombineVector<T>;
  Floats<N> values;
  CUDAMOE_UNROLL
  for (int i = 0; i < N; i += kAccess) {
    const Vector<T, kAccess> part = load<kAccess>(from + i);
    CUDAMOE_UNROLL
    for (int j = 0; j < kAccess; ++j) values[i + j] = to_float(part[j]);
  }
  return values;
}

template <int N, class T>
CUDAMOE_DEVICE void store_floats(T* to, const Floats<N>& values) {
  constexpr int kAccess = N < kCombineVector<T> ? N : kCombineVector<T>;
  CUDAMOE_UNROLL
  for (int i = 0; i < N; i += kAccess) {
    if constexpr (sizeof(T) == 2 && kAccess > 1) {
      Vector<uint32_t, kAccess / 2> pairs;
      CUDAMOE_UNROLL
      for (int j = 0; j < kAccess / 2; ++j) pairs[j] = ptx::pack_bf16(values[i + 2 * j], values[i + 2 * j + 1]);
      store(reinterpret_cast<uint32_t*>(to + i), pairs);
    } else {
      Vector<T, kAccess> part;
      CUDAMOE_UNROLL
      for (int j = 0; j < kAccess; ++j) part[j] = from_float<T>(values[i + j]);
      store(to + i, part);
    }
  }
}

}  // namespace cudamoe::kernels
