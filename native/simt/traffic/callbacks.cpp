// What code compiled with -fsanitize=thread calls, for the traffic counter in place of ThreadSanitizer. Atomics are done here.
#include <cstddef>
#include <cstdint>

#include "simt/traffic/counter.h"

namespace {

void read(const void* address, size_t bytes) { cudamoe::simt::TrafficCounter::instance().access(address, bytes, false); }
void write(const void* address, size_t bytes) { cudamoe::simt::TrafficCounter::instance().access(address, bytes, true); }

template <class T>
bool exchange_if(volatile T* p, T* expected, T value) {
  read(const_cast<T*>(p), sizeof(T));
  const bool done = __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  if (done) write(const_cast<T*>(p), sizeof(T));
  return done;
}

}  // namespace

#define CUDAMOE_ACCESSES(bytes)                                        \
  void __tsan_read##bytes(const void* p) { read(p, bytes); }           \
  void __tsan_write##bytes(void* p) { write(p, bytes); }               \
  void __tsan_unaligned_read##bytes(const void* p) { read(p, bytes); } \
  void __tsan_unaligned_write##bytes(void* p) { write(p, bytes); }     \
  void __tsan_volatile_read##bytes(const void* p) { read(p, bytes); }  \
  void __tsan_volatile_write##bytes(void* p) { write(p, bytes); }

#define CUDAMOE_ATOMICS(bits)                                                                                                             \
  uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t* p, int) {                                                      \
    read(const_cast<uint##bits##_t*>(p), bits / 8);                                                                                       \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                                                          \
  }                                                                                                                                       \
  void __tsan_atomic##bits##_store(volatile uint##bits##_t* p, uint##bits##_t value, int) {                                               \
    write(const_cast<uint##bits##_t*>(p), bits / 8);                                                                                      \
    __atomic_store_n(p, value, __ATOMIC_SEQ_CST);                                                                                         \
  }                                                                                                                                       \
  uint##bits##_t __tsan_atomic##bits##_fetch_add(volatile uint##bits##_t* p, uint##bits##_t value, int) {                                 \
    read(const_cast<uint##bits##_t*>(p), bits / 8);                                                                                       \
    write(const_cast<uint##bits##_t*>(p), bits / 8);                                                                                      \
    return __atomic_fetch_add(p, value, __ATOMIC_SEQ_CST);                                                                                \
  }                                                                                                                                       \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile uint##bits##_t* p, uint##bits##_t* expected, uint##bits##_t value, int, int) { \
    return exchange_if(p, expected, value);                                                                                               \
  }                                                                                                                                       \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile uint##bits##_t* p, uint##bits##_t* expected, uint##bits##_t value, int,      \
                                                    int) {                                                                                \
    return exchange_if(p, expected, value);                                                                                               \
  }

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_read_range(const void* p, size_t bytes) { read(p, bytes); }
void __tsan_write_range(void* p, size_t bytes) { write(p, bytes); }
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
CUDAMOE_ACCESSES(1)
CUDAMOE_ACCESSES(2)
CUDAMOE_ACCESSES(4)
CUDAMOE_ACCESSES(8)
CUDAMOE_ACCESSES(16)
CUDAMOE_ATOMICS(32)
CUDAMOE_ATOMICS(64)
}
