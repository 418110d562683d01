// cp.async (sm_80): copies from global to shared memory that go past the registers and complete later.
//
//   cp_async<16>(&tile[r][c], source);              16, 8 or 4 bytes; both addresses aligned to that
//   cp_async<16>(&tile[r][c], source, bytes_left);   reads only that many bytes, writes zeros for the rest
//   cp_async_commit();                               closes a group
//   cp_async_wait<N>();                              until at most N of the thread's groups are under way
//
// What a thread's copies brought is seen by that thread after its wait, by others after a barrier behind it.
#pragma once

#include "common/memory.cuh"
#include "common/shared.cuh"
#include "common/target.cuh"

namespace cudamoe::kernels::ptx {

#if defined(CUDAMOE_PLAIN)

// Copies that are done when they are issued, for readers of PTX that know only the classic instructions (target.cuh).
template <int kBytes, class T>
CUDAMOE_DEVICE void cp_async(Shared<T> destination, const std::type_identity_t<T>* source, int source_bytes = kBytes CUDAMOE_SITE) {
  constexpr int kElements = kBytes / static_cast<int>(sizeof(T));
  Vector<T, kElements> part = {};
  if (source_bytes == kBytes) {
    part = load<kElements>(source CUDAMOE_PASS_SITE);
  } else {
    CUDAMOE_UNROLL
    for (int i = 0; i < kElements; ++i) {
      if (i * static_cast<int>(sizeof(T)) < source_bytes) part[i] = source[i];
    }
  }
  store(destination, part CUDAMOE_PASS_SITE);
}
CUDAMOE_DEVICE void cp_async_commit() {}
template <int kPending>
CUDAMOE_DEVICE void cp_async_wait() {}
CUDAMOE_DEVICE void cp_async_wait_all() {}

#elif defined(__CUDACC__)

template <int kBytes, class T>
CUDAMOE_DEVICE void cp_async(T* destination, const T* source, int source_bytes = kBytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "a copy is of 4, 8 or 16 bytes");
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(destination)), "l"(source), "r"(source_bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(destination)), "l"(source), "n"(kBytes),
                 "r"(source_bytes)
                 : "memory");
  }
}
CUDAMOE_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
CUDAMOE_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}
CUDAMOE_DEVICE void cp_async_wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }

#else

template <int kBytes, class T>
void cp_async(Shared<T> destination, const std::type_identity_t<T>* source, int source_bytes = kBytes CUDAMOE_SITE) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "a copy is of 4, 8 or 16 bytes");
  static_assert(kBytes % sizeof(T) == 0);
  simt::async_copy(destination.raw(kBytes / static_cast<int>(sizeof(T)), site), source, kBytes, source_bytes, site);
}
CUDAMOE_DEVICE void cp_async_commit() { simt::async_copy_commit(); }
template <int kPending>
void cp_async_wait(CUDAMOE_ONLY_SITE) {
  simt::async_copy_wait(kPending, site);
}
CUDAMOE_DEVICE void cp_async_wait_all(CUDAMOE_ONLY_SITE) { simt::async_copy_wait_all(site); }

#endif

}  // namespace cudamoe::kernels::ptx
