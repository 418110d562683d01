// TMA (sm_90): boxes of a tensor copied between global and shared memory by one thread, asynchronously.
//
//   void kernel(const CUDAMOE_GRID_CONSTANT ptx::TensorMap map) {
//     ptx::mbarrier_arrive_expect(&full[s], bytes of the box);
//     ptx::tma_load_2d(tile, map, column, row, &full[s]);      // then mbarrier_wait(&full[s], parity)
//
// A map describes the tensor and the box; the host encodes it (native/cuda/tensor_map.h). Coordinates are elements, innermost first; what
// leaves the tensor is zero in a load and left out of a store. The box in shared memory is aligned to 128 bytes, with the swizzle of 128
// bytes to 1024. Stores read what was written before fence_proxy_async() and a barrier.
#pragma once

#include "common/shared.cuh"
#include "common/target.cuh"

namespace cudamoe::kernels::ptx {

// CUtensorMap.
struct alignas(64) TensorMap {
  uint64_t opaque[16];
};

#if defined(__CUDACC__)

template <class T>
CUDAMOE_DEVICE void tma_load_2d(T* destination, const TensorMap& map, int c0, int c1, uint64_t* barrier) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
                   shared_address(destination)),
               "l"(&map), "r"(shared_address(barrier)), "r"(c0), "r"(c1)
               : "memory");
}
template <class T>
CUDAMOE_DEVICE void tma_load_3d(T* destination, const TensorMap& map, int c0, int c1, int c2, uint64_t* barrier) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(
                   shared_address(destination)),
               "l"(&map), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2)
               : "memory");
}
template <class T>
CUDAMOE_DEVICE void tma_store_2d(const TensorMap& map, int c0, int c1, const T* source) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map), "r"(shared_address(source)),
               "r"(c0), "r"(c1)
               : "memory");
}
CUDAMOE_DEVICE void tma_store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until at most kPending groups of the thread's stores still read shared memory.
template <int kPending>
CUDAMOE_DEVICE void tma_store_wait() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
CUDAMOE_DEVICE void tma_prefetch(const TensorMap& map) { asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory"); }

#else

namespace detail {
inline const simt::TensorMapFields& fields_of(const TensorMap& map) {
  static_assert(sizeof(simt::TensorMapFields) <= sizeof(TensorMap));
  return *reinterpret_cast<const simt::TensorMapFields*>(&map);
}
}  // namespace detail

template <class T>
void tma_load_2d(Shared<T> destination, const TensorMap& map, int c0, int c1, Shared<uint64_t> barrier CUDAMOE_SITE) {
  simt::tma_load(destination.raw(1, site), detail::fields_of(map), {c0, c1, 0, 0, 0}, barrier.raw(1, site), site);
}
template <class T>
void tma_load_3d(Shared<T> destination, const TensorMap& map, int c0, int c1, int c2, Shared<uint64_t> barrier CUDAMOE_SITE) {
  simt::tma_load(destination.raw(1, site), detail::fields_of(map), {c0, c1, c2, 0, 0}, barrier.raw(1, site), site);
}
template <class T>
void tma_store_2d(const TensorMap& map, int c0, int c1, Shared<T> source CUDAMOE_SITE) {
  simt::tma_store(detail::fields_of(map), {c0, c1, 0, 0, 0}, source.raw(1, site), site);
}
CUDAMOE_DEVICE void tma_store_commit() { simt::tma_store_commit(); }
template <int kPending>
void tma_store_wait(CUDAMOE_ONLY_SITE) {
  simt::tma_store_wait(kPending, site);
}
CUDAMOE_DEVICE void tma_prefetch(const TensorMap&) {}

#endif

}  // namespace cudamoe::kernels::ptx
