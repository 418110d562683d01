// Atomics on integers, relaxed, in global and shared memory; they return the old value. There are none on floating-point numbers: their
// result would depend on the order of the threads.
#pragma once

#include "common/shared.cuh"
#include "common/target.cuh"

namespace cudamoe::kernels {

#if defined(__CUDACC__)

namespace detail {
// The types that the hardware's functions are declared for.
CUDAMOE_DEVICE unsigned int* atomic_cast(uint32_t* p) { return p; }
CUDAMOE_DEVICE int* atomic_cast(int32_t* p) { return p; }
CUDAMOE_DEVICE unsigned long long* atomic_cast(uint64_t* p) { return reinterpret_cast<unsigned long long*>(p); }
}  // namespace detail

template <class T>
CUDAMOE_DEVICE T atomic_add(T* p, T value) {
  return static_cast<T>(atomicAdd(detail::atomic_cast(p), value));
}
template <class T>
CUDAMOE_DEVICE T atomic_min(T* p, T value) {
  return static_cast<T>(atomicMin(detail::atomic_cast(p), value));
}
template <class T>
CUDAMOE_DEVICE T atomic_max(T* p, T value) {
  return static_cast<T>(atomicMax(detail::atomic_cast(p), value));
}
template <class T>
CUDAMOE_DEVICE T atomic_or(T* p, T value) {
  return static_cast<T>(atomicOr(detail::atomic_cast(p), value));
}
template <class T>
CUDAMOE_DEVICE T atomic_exchange(T* p, T value) {
  return static_cast<T>(atomicExch(detail::atomic_cast(p), value));
}
template <class T>
CUDAMOE_DEVICE T atomic_compare_exchange(T* p, T expected, T value) {
  return static_cast<T>(atomicCAS(detail::atomic_cast(p), expected, value));
}

// Counts a block in; whether it is the last of `blocks`, which then sees what the callers of all of them have written before.
CUDAMOE_DEVICE bool arrive_last(uint32_t* counter, uint32_t blocks) {
  __threadfence();
  const bool last = atomicAdd(counter, 1u) == blocks - 1;
  __threadfence();
  return last;
}

#else

namespace detail {

template <class T, class Fold>
T atomic_update(T* p, Fold&& fold) {
  static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "atomics are for integers of 4 and 8 bytes");
  simt::may_switch();
  T old = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(p, &old, fold(old), true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  if (fold(old) != old) simt::made_progress();
  return old;
}

template <class T>
T* atomic_address(T* p, simt::Site site) {
  simt::check_alignment(p, sizeof(T), site);
  return p;
}
template <class T>
T* atomic_address(Shared<T> p, simt::Site site) {
  T* address = p.raw(1, site);
  simt::before_shared_atomic(address, sizeof(T), site);
  return address;
}

template <class P>
struct Pointee;
template <class T>
struct Pointee<T*> {
  using type = T;
};
template <class T>
struct Pointee<Shared<T> > {
  using type = T;
};
template <class P>
using PointeeType = typename Pointee<P>::type;

}  // namespace detail

template <class P, class T = detail::PointeeType<P> >
T atomic_add(P p, std::type_identity_t<T> value CUDAMOE_SITE) {
  return detail::atomic_update(detail::atomic_address(p, site), [value](T old) { return static_cast<T>(old + value); });
}
template <class P, class T = detail::PointeeType<P> >
T atomic_min(P p, std::type_identity_t<T> value CUDAMOE_SITE) {
  return detail::atomic_update(detail::atomic_address(p, site), [value](T old) { return value < old ? value : old; });
}
template <class P, class T = detail::PointeeType<P> >
T atomic_max(P p, std::type_identity_t<T> value CUDAMOE_SITE) {
  return detail::atomic_update(detail::atomic_address(p, site), [value](T old) { return value > old ? value : old; });
}
template <class P, class T = detail::PointeeType<P> >
T atomic_or(P p, std::type_identity_t<T> value CUDAMOE_SITE) {
  return detail::atomic_update(detail::atomic_address(p, site), [value](T old) { return old | value; });
}
template <class P, class T = detail::PointeeType<P> >
T atomic_exchange(P p, std::type_identity_t<T> value CUDAMOE_SITE) {
  return detail::atomic_update(detail::atomic_address(p, site), [value](T) { return value; });
}
template <class P, class T = detail::PointeeType<P> >
T atomic_compare_exchange(P p, std::type_identity_t<T> expected, std::type_identity_t<T> value CUDAMOE_SITE) {
  return detail::atomic_update(detail::atomic_address(p, site), [=](T old) { return old == expected ? value : old; });
}

CUDAMOE_DEVICE bool arrive_last(uint32_t* counter, uint32_t blocks) {
  simt::may_switch();
  const bool last = __atomic_fetch_add(counter, 1u, __ATOMIC_ACQ_REL) == blocks - 1;
  simt::made_progress();
  return last;
}

#endif

}  // namespace cudamoe::kernels
