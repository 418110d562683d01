// Where the objects behind opaque handles live. Any pointer can be asked whether it is a live handle, without reading through it: a
// stale, foreign or wild pointer is an error of the caller and not a crash.
//
// Slots lie in chunks that are never given back, each twice as large as the one before. A slot is used again only after all slots that were
// freed before it, so a stale handle is not soon taken for a new one.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

namespace cudamoe {

template <class T>
class HandlePool {
 public:
  HandlePool() = default;
  HandlePool(const HandlePool&) = delete;
  HandlePool& operator=(const HandlePool&) = delete;

  // A new, live object. Throws std::bad_alloc.
  template <class... Arguments>
  T* create(Arguments&&... arguments) {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) grow();
    Slot* slot = free_.front();
    T* object = new (slot->storage) T(std::forward<Arguments>(arguments)...);
    free_.pop_front();
    slot->alive.store(true, std::memory_order_release);
    return object;
  }

  // Whether `object` came from create and was not destroyed since. Reads nothing through the pointer unless it is a slot of this pool.
  bool alive(const T* object) const {
    const Slot* slot = find(object);
    return slot != nullptr && slot->alive.load(std::memory_order_acquire);
  }

  // Destroys the object; false when it was not alive, so that of two threads that destroy the same handle one is refused.
  bool destroy(T* object) {
    Slot* slot = const_cast<Slot*>(find(object));
    if (slot == nullptr || !slot->alive.exchange(false, std::memory_order_acq_rel)) return false;
    object->~T();
    const std::lock_guard lock(mutex_);
    free_.push_back(slot);
    return true;
  }

 private:
  struct Slot {
    alignas(T) unsigned char storage[sizeof(T)];  // first, so that a handle is the address of its slot
    std::atomic<bool> alive{false};
  };
  static constexpr size_t kFirstChunk = 64;
  static constexpr size_t kChunks = 24;
  static constexpr size_t chunk_slots(size_t chunk) { return kFirstChunk << chunk; }

  const Slot* find(const T* object) const {
    const auto address = reinterpret_cast<uintptr_t>(object);
    for (size_t i = 0; i < kChunks; ++i) {
      const Slot* chunk = chunks_[i].load(std::memory_order_acquire);
      if (chunk == nullptr) return nullptr;
      const uintptr_t begin = reinterpret_cast<uintptr_t>(chunk);
      if (address < begin || address >= begin + chunk_slots(i) * sizeof(Slot)) continue;
      return (address - begin) % sizeof(Slot) == 0 ? chunk + (address - begin) / sizeof(Slot) : nullptr;
    }
    return nullptr;
  }

  void grow() {
    if (used_chunks_ == kChunks) throw std::bad_alloc();
    auto chunk = std::make_unique<Slot[]>(chunk_slots(used_chunks_));
    for (size_t i = 0; i < chunk_slots(used_chunks_); ++i) free_.push_back(&chunk[i]);
    chunks_[used_chunks_].store(chunk.release(), std::memory_order_release);
    ++used_chunks_;
  }

  std::mutex mutex_;
  std::deque<Slot*> free_;
  size_t used_chunks_ = 0;
  std::array<std::atomic<Slot*>, kChunks> chunks_{};
};

}  // namespace cudamoe
