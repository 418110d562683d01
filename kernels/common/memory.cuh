// Loads and stores of several elements at once, and of global memory that nothing writes.
//
//   Vector<float, 4> v = load<4>(p);     one 16-byte access; p must be aligned to it (the executor reports one that is not)
//   store(p, v);
//   store_streaming(p, v);               the same for what is not read again soon: it is the first to leave the cache
//   float x = load_constant(p);          through the read-only cache: nothing may write *p during the launch
#pragma once

#include "common/shared.cuh"
#include "common/target.cuh"

namespace cudamoe::kernels {

template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
  static_assert(sizeof(T) * N <= 16, "an access moves at most 16 bytes");
  T element[N];
  CUDAMOE_HOST_DEVICE T& operator[](int i) { return element[i]; }
  CUDAMOE_HOST_DEVICE const T& operator[](int i) const { return element[i]; }
};

// Whether a pointer and a stride allow accesses of N elements.
template <int N, class T>
CUDAMOE_HOST_DEVICE bool aligned_for(const T* pointer, int64_t stride = N) {
  return reinterpret_cast<uintptr_t>(pointer) % (sizeof(T) * N) == 0 && stride % N == 0;
}

#if defined(__CUDACC__)

template <int N, class T>
CUDAMOE_DEVICE Vector<std::remove_const_t<T>, N> load(T* pointer) {
  return *reinterpret_cast<const Vector<std::remove_const_t<T>, N>*>(pointer);
}
template <class T, int N>
CUDAMOE_DEVICE void store(T* pointer, const Vector<T, N>& value) {
  *reinterpret_cast<Vector<T, N>*>(pointer) = value;
}
template <class T, int N>
CUDAMOE_DEVICE void store_streaming(T* pointer, const Vector<T, N>& value) {
  if constexpr (sizeof(value) == 16) {
    __stcs(reinterpret_cast<uint4*>(pointer), *reinterpret_cast<const uint4*>(&value));
  } else {
    static_assert(sizeof(value) == 8, "8 or 16 bytes");
    __stcs(reinterpret_cast<uint2*>(pointer), *reinterpret_cast<const uint2*>(&value));
  }
}
template <class T>
CUDAMOE_DEVICE T load_constant(const T* pointer) {
  return __ldg(pointer);
}
template <int N, class T>
CUDAMOE_DEVICE Vector<T, N> load_constant(const T* pointer) {
  Vector<T, N> value;
  if constexpr (sizeof(value) == 16) {
    *reinterpret_cast<uint4*>(&value) = __ldg(reinterpret_cast<const uint4*>(pointer));
  } else if constexpr (sizeof(value) == 8) {
    *reinterpret_cast<uint2*>(&value) = __ldg(reinterpret_cast<const uint2*>(pointer));
  } else if constexpr (sizeof(value) == 4) {
    *reinterpret_cast<uint32_t*>(&value) = __ldg(reinterpret_cast<const uint32_t*>(pointer));
  } else {
    *reinterpret_cast<uint16_t*>(&value) = __ldg(reinterpret_cast<const uint16_t*>(pointer));
  }
  return value;
}

#else

template <int N, class T>
Vector<std::remove_const_t<T>, N> load(T* pointer CUDAMOE_SITE) {
  simt::check_alignment(pointer, sizeof(T) * N, site);
  return *reinterpret_cast<const Vector<std::remove_const_t<T>, N>*>(pointer);
}
template <class T, int N>
void store(T* pointer, const Vector<T, N>& value CUDAMOE_SITE) {
  simt::check_alignment(pointer, sizeof(T) * N, site);
  *reinterpret_cast<Vector<T, N>*>(pointer) = value;
}
template <class T, int N>
void store_streaming(T* pointer, const Vector<T, N>& value CUDAMOE_SITE) {
  store(pointer, value CUDAMOE_PASS_SITE);
}
template <int N, class T>
Vector<std::remove_const_t<T>, N> load(Shared<T> pointer CUDAMOE_SITE) {
  T* address = pointer.raw(N, site);
  simt::check_alignment(address, sizeof(T) * N, site);
  simt::before_shared_read(address, sizeof(T) * N, site);
  return *reinterpret_cast<const Vector<std::remove_const_t<T>, N>*>(address);
}
template <class T, int N>
void store(Shared<T> pointer, const Vector<T, N>& value CUDAMOE_SITE) {
  T* address = pointer.raw(N, site);
  simt::check_alignment(address, sizeof(T) * N, site);
  simt::before_shared_write(address, sizeof(T) * N, site);
  *reinterpret_cast<Vector<T, N>*>(address) = value;
}
template <int N, class T, std::size_t M>
auto load(SharedArray<T[M]> array CUDAMOE_SITE) {
  return load<N>(Shared<T>(array) CUDAMOE_PASS_SITE);
}
template <class T>
T load_constant(const T* pointer CUDAMOE_SITE) {
  simt::before_constant_read(pointer, sizeof(T), site);
  return *pointer;
}
template <int N, class T>
Vector<T, N> load_constant(const T* pointer CUDAMOE_SITE) {
  simt::check_alignment(pointer, sizeof(T) * N, site);
  simt::before_constant_read(pointer, sizeof(T) * N, site);
  return *reinterpret_cast<const Vector<T, N>*>(pointer);
}

#endif

}  // namespace cudamoe::kernels
