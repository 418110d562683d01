// Device memory for a test, poisoned before use and guarded on both sides.
//
// The elements lie between two guard bands. The bands and the elements are filled with a poison (quiet NaN for floating-point types,
// 0xCD bytes for others), so that an element that an operation forgets to write shows. guards_intact() tells whether a
// band was written to; under AddressSanitizer any access to a band stops the program, reads too.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "support/test_device.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace cudamoe::test {

// Where the memory of a buffer lies: on the device, or on the host, mapped.
enum class Place { kDevice, kMapped };

// Untyped part of Buffer.
class GuardedMemory {
 public:
  // `misalignment` bytes past a 64-byte boundary.
  GuardedMemory(TestDevice& device, int64_t bytes, int64_t misalignment, Place place);
  ~GuardedMemory();
  GuardedMemory(GuardedMemory&& other) noexcept;
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  void* data() const { return base_ + kBand + misalignment_; }
  int64_t bytes() const { return bytes_; }
  void write(const void* source);
  void read(void* destination) const;
  void poison();
  bool guards_intact() const;

 private:
  static constexpr int64_t kBand = 4096;
  static constexpr unsigned char kPattern = 0xCD;
  void protect(bool on) const;

  cudamoe_device* device_;
  cudamoe_stream* stream_;
  bool in_process_;
  int64_t bytes_, misalignment_;
  char* base_ = nullptr;
};

template <class T>
class Buffer {
 public:
  // Poisoned elements; `misaligned` shifts the first one by that many elements from a 64-byte boundary.
  Buffer(TestDevice& device, int64_t count, int64_t misaligned = 0, Place place = Place::kDevice)
      : count_(count), memory_(device, count * static_cast<int64_t>(sizeof(T)), misaligned * static_cast<int64_t>(sizeof(T)), place) {}
  Buffer(TestDevice& device, const std::vector<T>& values, int64_t misaligned = 0, Place place = Place::kDevice)
      : Buffer(device, static_cast<int64_t>(values.size()), misaligned, place) {
    set(values);
  }

  T* data() const { return static_cast<T*>(memory_.data()); }
  int64_t size() const { return count_; }

  void set(const std::vector<T>& values) {
    if (static_cast<int64_t>(values.size()) != count_) throw std::logic_error("Buffer::set: wrong number of elements");
    memory_.write(values.data());
  }
  std::vector<T> get() const {
    std::vector<T> values(static_cast<size_t>(count_));
    memory_.read(values.data());
    return values;
  }
  // Fills the elements with the poison again.
  void poison() { memory_.poison(); }
  bool guards_intact() const { return memory_.guards_intact(); }

 private:
  int64_t count_;
  GuardedMemory memory_;
};

// Work space of exactly the bytes that a query answered.
using Workspace = Buffer<unsigned char>;

}  // namespace cudamoe::test
