#include "support/buffer.h"

#include <cstring>
#include <utility>

namespace cudamoe::test {
namespace {

void require(cudamoe_status status) {
  if (status != CUDAMOE_OK) throw std::runtime_error(last_error());
}

}  // namespace

GuardedMemory::GuardedMemory(TestDevice& device, int64_t bytes, int64_t misalignment, Place place)
    : device_(device.device()),
      stream_(device.stream()),
      in_process_(test_device_reaches_host_memory()),
      bytes_(bytes),
      misalignment_(misalignment) {
  void* pointer = nullptr;
  const int64_t total = 2 * kBand + misalignment_ + bytes_;
  require((place == Place::kMapped ? cudamoe_memory_allocate_mapped : cudamoe_memory_allocate)(device_, total, &pointer));
  base_ = static_cast<char*>(pointer);
  require(cudamoe_memory_fill(stream_, base_, kPattern, total));
  poison();
  // A device may queue the fills; they are over when something can be read.
  char byte;
  require(cudamoe_memory_copy(stream_, &byte, base_, 1, CUDAMOE_DEVICE_TO_HOST));
  protect(true);
}

GuardedMemory::GuardedMemory(GuardedMemory&& other) noexcept
    : device_(other.device_),
      stream_(other.stream_),
      in_process_(other.in_process_),
      bytes_(other.bytes_),
      misalignment_(other.misalignment_),
      base_(std::exchange(other.base_, nullptr)) {}

GuardedMemory::~GuardedMemory() {
  if (base_ == nullptr) return;
  protect(false);
  cudamoe_memory_free(device_, base_);
}

void GuardedMemory::write(const void* source) { require(cudamoe_memory_copy(stream_, data(), source, bytes_, CUDAMOE_HOST_TO_DEVICE)); }

void GuardedMemory::read(void* destination) const {
  require(cudamoe_memory_copy(stream_, destination, data(), bytes_, CUDAMOE_DEVICE_TO_HOST));
}

// 0xFF bytes are a quiet NaN as f32, f64 and bf16, and -1 as an integer.
void GuardedMemory::poison() { require(cudamoe_memory_fill(stream_, data(), 0xFF, bytes_)); }

bool GuardedMemory::guards_intact() const {
  const int64_t front = kBand + misalignment_;
  std::vector<unsigned char> band(static_cast<size_t>(front));
  protect(false);
  bool intact = true;
  const auto check = [&](const char* source, int64_t bytes) {
    require(cudamoe_memory_copy(stream_, band.data(), source, bytes, CUDAMOE_DEVICE_TO_HOST));
    for (int64_t i = 0; i < bytes; ++i) intact = intact && band[static_cast<size_t>(i)] == kPattern;
  };
  check(base_, front);
  check(base_ + front + bytes_, kBand);
  protect(true);
  return intact;
}

void GuardedMemory::protect([[maybe_unused]] bool on) const {
#if defined(__SANITIZE_ADDRESS__)
  if (!in_process_) return;
  const int64_t front = kBand + misalignment_;
  if (on) {
    __asan_poison_memory_region(base_, static_cast<size_t>(front));
    __asan_poison_memory_region(base_ + front + bytes_, kBand);
  } else {
    __asan_unpoison_memory_region(base_, static_cast<size_t>(2 * kBand + misalignment_ + bytes_));
  }
#endif
}

}  // namespace cudamoe::test
