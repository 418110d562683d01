// mbarriers and TMA copies of a block.
#include <algorithm>
#include <cstring>

#include "simt/block.h"
#include "simt/launch.h"
#include "simt/swizzle.h"
#include "simt/traffic.h"
#include "simt/tsan.h"

namespace cudamoe::simt {
namespace {

constexpr int kMostArrivals = (1 << 20) - 1;

int64_t box_bytes(const TensorMapFields& map) {
  int64_t bytes = map.element_bytes;
  for (int d = 0; d < map.rank; ++d) bytes *= map.box[d];
  return bytes;
}

}  // namespace

// ---- mbarriers ----

void Block::init_object(Thread& self, uint64_t* address, int count, Site site) {
  if (count < 1 || count > kMostArrivals) report(Finding::kBarrierObject, site, "an mbarrier for %d arrivals", count);
  shared_.write(address, 8, access(self, site), *this);
  for (BarrierObject& object : objects_) {
    if (object.address == address) report(Finding::kBarrierObject, site, "an mbarrier that is initialised already");
  }
  objects_.push_back({address, count, count, 0, 0, new_token()});
}

BarrierObject& Block::find_object(Thread& self, const uint64_t* address, Site site) {
  shared_.atomic(const_cast<uint64_t*>(address), 8, access(self, site), *this);
  for (BarrierObject& object : objects_) {
    if (object.address == address) return object;
  }
  report(Finding::kBarrierObject, site, "an mbarrier that was not initialised");
}

void Block::complete_object(BarrierObject& object) {
  if (object.pending > 0 || object.bytes != 0) return;
  ++object.phase;
  object.pending = object.expected;
  ++clock_;
  for (int rank = 0; rank < thread_count(); ++rank) {
    Thread& thread = this->thread(rank);
    if (thread.waiting == Waiting::kBarrierObject && thread.object == object.address && (object.phase & 1u) != thread.parity) wake(thread);
  }
  launch_.progress();
}

void Block::arrive_object(Thread& self, uint64_t* address, int bytes, Site site) {
  BarrierObject& object = find_object(self, address, site);
  if (object.pending == 0) report(Finding::kBarrierObject, site, "more than the %d arrivals of a phase of an mbarrier", object.expected);
  --object.pending;
  object.bytes += bytes;
  release_token(object.token);
  complete_object(object);
  launch_.progress();
}

bool Block::test_object(Thread& self, uint64_t* address, uint32_t parity, Site site) {
  const BarrierObject& object = find_object(self, address, site);
  if ((object.phase & 1u) == (parity & 1u)) return false;
  self.acquired = clock_;
  acquire_token(object.token);
  return true;
}

void Block::wait_object(Thread& self, uint64_t* address, uint32_t parity, Site site) {
  BarrierObject& object = find_object(self, address, site);
  void* const token = object.token;
  if ((object.phase & 1u) == (parity & 1u)) {
    self.waiting = Waiting::kBarrierObject;
    self.site = site;
    self.object = address;
    self.parity = parity & 1u;
    ready_.erase(self.rank);
    launch_.wait(self);
  }
  self.acquired = clock_;
  acquire_token(token);
}

// ---- TMA ----

void Block::start_load(Thread& self, const BulkCopy& copy) {
  const int bytes = static_cast<int>(box_bytes(copy.map));
  const bool late = launch_.copies_late();
  find_object(self, copy.barrier, copy.site);
  shared_.begin_copy(copy.shared, bytes, access(self, copy.site), *this, late);
  bulk_copies_.push_back(copy);
  if (!late) {
    // This one, though others may wait.
    std::swap(bulk_copies_.front(), bulk_copies_.back());
    land_one();
  }
}

bool Block::land_one() {
  if (bulk_copies_.empty()) return false;
  const size_t which = launch_.copies_late() ? static_cast<size_t>(launch_.random().below(static_cast<int>(bulk_copies_.size()))) : 0;
  const BulkCopy copy = bulk_copies_[which];
  bulk_copies_.erase(bulk_copies_.begin() + static_cast<std::ptrdiff_t>(which));
  const auto bytes = box_bytes(copy.map);
  move(copy);
  shared_.end_copy(copy.shared, static_cast<int>(bytes), {copy.thread, clock_, copy.site}, true);
  for (BarrierObject& object : objects_) {
    if (object.address != copy.barrier) continue;
    object.bytes -= bytes;
    complete_object(object);
  }
  return true;
}

void Block::move(const BulkCopy& copy) {
  const TensorMapFields& map = copy.map;
  const auto base = static_cast<char*>(shared_.from_window(shared_.window_address(copy.shared)));
  const uint32_t start = shared_.window_address(copy.shared);
  int at[5] = {};
  for (int64_t i = 0, count = box_bytes(map) / map.element_bytes; i < count; ++i) {
    bool inside = true;
    char* global = map.base;
    for (int d = 0; d < map.rank; ++d) {
      const int64_t c = int64_t{copy.coordinates[d]} + at[d];
      inside = inside && c >= 0 && c < map.extent[d];
      global += c * map.stride_bytes[d];
    }
    const auto offset = start + static_cast<uint32_t>(i * map.element_bytes);
    char* local = base + (static_cast<int64_t>(swizzled(offset, map.swizzle_bytes)) - start);
    const auto bytes = static_cast<size_t>(map.element_bytes);
    if (!copy.to_shared) {
      if (inside) std::memcpy(global, local, bytes);
      if (inside && traffic_listener != nullptr) traffic_listener->access(global, bytes, true);
    } else if (inside) {
      if (traffic_listener != nullptr) traffic_listener->access(global, bytes, false);
      std::memcpy(local, global, bytes);
    } else {
      std::memset(local, 0, bytes);
    }
    for (int d = 0; d < map.rank && ++at[d] == map.box[d]; ++d) at[d] = 0;
  }
}

namespace {

Thread& self() { return *static_cast<Thread*>(const_cast<ThreadView*>(current_thread)); }

void check_map(const TensorMapFields& map, const void* shared, Site site) {
  if (map.magic != kTensorMapMagic) report(Finding::kDescriptor, site, "a tensor map that was not encoded");
  const int alignment = map.swizzle_bytes == 128 ? 1024 : 128;
  if (self().home->shared().window_address(shared) % static_cast<uint32_t>(alignment) != 0)
    report(Finding::kMisaligned, site, "a TMA box in shared memory that is not aligned to %d bytes", alignment);
}

BulkCopy bulk_copy(bool to_shared, void* shared, const TensorMapFields& map, const int (&coordinates)[5], const uint64_t* barrier,
                   Site site) {
  check_map(map, shared, site);
  BulkCopy copy{to_shared, shared, map, {}, barrier, self().rank, self().store_group, site};
  std::copy(coordinates, coordinates + 5, copy.coordinates);
  return copy;
}

}  // namespace

void fence_proxy_async() {
  const Unwatched unwatched;
  self().proxy_fence = self().home->advance_clock();
}

void mbarrier_init(uint64_t* barrier, int count, Site site) {
  const Unwatched unwatched;
  self().home->init_object(self(), barrier, count, site);
}

void mbarrier_arrive(uint64_t* barrier, int bytes, Site site) {
  const Unwatched unwatched;
  self().home->arrive_object(self(), barrier, bytes, site);
}

bool mbarrier_test(uint64_t* barrier, uint32_t parity, Site site) {
  const Unwatched unwatched;
  return self().home->test_object(self(), barrier, parity, site);
}

void mbarrier_wait(uint64_t* barrier, uint32_t parity, Site site) {
  const Unwatched unwatched;
  self().home->wait_object(self(), barrier, parity, site);
}

void tma_load(void* destination, const TensorMapFields& map, const int (&coordinates)[5], uint64_t* barrier, Site site) {
  const Unwatched unwatched;
  self().home->start_load(self(), bulk_copy(true, destination, map, coordinates, barrier, site));
}

void tma_store(const TensorMapFields& map, const int (&coordinates)[5], const void* source, Site site) {
  const Unwatched unwatched;
  Block& block = *self().home;
  const BulkCopy copy = bulk_copy(false, const_cast<void*>(source), map, coordinates, nullptr, site);
  const auto bytes = box_bytes(map);
  for (int64_t i = 0; i < bytes; i += 16)
    block.shared().async_proxy_read(static_cast<const char*>(source) + i, static_cast<int>(std::min<int64_t>(16, bytes - i)),
                                    block.access(self(), site), block);
  if (block.launch().copies_late()) {
    self().stores.push_back(copy);
  } else {
    block.move(copy);
  }
}

void tma_store_commit() { ++self().store_group; }

void tma_store_wait(int pending, Site) {
  const Unwatched unwatched;
  Thread& thread = self();
  size_t kept = 0;
  for (const BulkCopy& copy : thread.stores) {
    if (copy.group >= thread.store_group - pending) {
      thread.stores[kept++] = copy;
    } else {
      thread.home->move(copy);
    }
  }
  thread.stores.erase(thread.stores.begin() + static_cast<std::ptrdiff_t>(kept), thread.stores.end());
}

}  // namespace cudamoe::simt
