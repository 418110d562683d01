#include "simt/traffic/counter.h"

#include <algorithm>
#include <utility>

#include "simt/kernel_api.h"

namespace cudamoe::simt {

TrafficCounter& TrafficCounter::instance() {
  static auto& counter = *new TrafficCounter;
  return counter;
}

namespace {

const bool listening = [] {
  traffic_listener = &TrafficCounter::instance();
  return true;
}();

}  // namespace

void count_operations(int operations) { TrafficCounter::instance().count_operations(operations); }

void TrafficCounter::begin_launch(std::map<void*, size_t> device_memory) {
  device_memory_ = std::move(device_memory);
  ++launch_;
  ++total_.launches;
}

void TrafficCounter::transfer(size_t bytes_read, size_t bytes_written) {
  ++total_.launches;
  total_.memory_read += static_cast<int64_t>(bytes_read);
  total_.cache_read += static_cast<int64_t>(bytes_read);
  total_.memory_written += static_cast<int64_t>(bytes_written);
  total_.cache_written += static_cast<int64_t>(bytes_written);
}

bool TrafficCounter::is_device_memory(uintptr_t address) const {
  auto after = device_memory_.upper_bound(reinterpret_cast<void*>(address));
  if (after == device_memory_.begin()) return false;
  const auto& [begin, size] = *--after;
  return address - reinterpret_cast<uintptr_t>(begin) < size;
}

TrafficCounter::Page& TrafficCounter::page_of(uintptr_t address) {
  const uintptr_t number = address / kPage;
  if (last_page_ == nullptr || number != last_number_) {
    last_page_ = &pages_[number];
    last_number_ = number;
  }
  Page& page = *last_page_;
  if (page.checked != launch_) {
    const uintptr_t begin = number * kPage;
    auto after = device_memory_.lower_bound(reinterpret_cast<void*>(begin + kPage));
    page.checked = launch_;
    page.whole = false;
    page.none = true;
    if (after != device_memory_.begin()) {
      const auto& [block, size] = *--after;
      const auto from = reinterpret_cast<uintptr_t>(block);
      page.whole = from <= begin && begin + kPage <= from + size;
      page.none = from + size <= begin;
    }
  }
  return page;
}

void TrafficCounter::access(const void* pointer, size_t bytes, bool writes) {
  if (device_memory_.empty() || bytes == 0) return;
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  for (uintptr_t sector = address / kSector; sector <= (address + bytes - 1) / kSector; ++sector) {
    Page& page = page_of(sector * kSector);
    if (page.none) return;
    if (!page.whole && !is_device_memory(std::max(sector * kSector, address))) return;
    Stamps& stamps = page.sector[sector % (kPage / kSector)];
    if (stamps.launch[writes] != launch_) {
      stamps.launch[writes] = launch_;
      (writes ? total_.memory_written : total_.memory_read) += static_cast<int64_t>(kSector);
    }
    if (stamps.block[writes] != block_) {
      stamps.block[writes] = block_;
      (writes ? total_.cache_written : total_.cache_read) += static_cast<int64_t>(kSector);
    }
  }
}

Traffic TrafficCounter::take() {
  const Traffic total = total_;
  total_ = {};
  return total;
}

}  // namespace cudamoe::simt

// For benchmarks: launches, bytes of memory read and written, of cache read and written, operations since the last call.
extern "C" __attribute__((visibility("default"))) void cudamoe_simt_take_traffic(int64_t (&numbers)[6]) {
  const cudamoe::simt::Traffic traffic = cudamoe::simt::TrafficCounter::instance().take();
  numbers[0] = traffic.launches;
  numbers[1] = traffic.memory_read;
  numbers[2] = traffic.memory_written;
  numbers[3] = traffic.cache_read;
  numbers[4] = traffic.cache_written;
  numbers[5] = traffic.operations;
}
