// What the wgmma kernels share: twelve warps, of which two warp-groups multiply what the others copy, and rings of slabs between them.
#pragma once

#include "common/kernel.cuh"
#include "common/ptx/cp_async.cuh"
#include "common/ptx/fence.cuh"
#include "common/ptx/mbarrier.cuh"
#include "common/ptx/wgmma.cuh"

namespace cudamoe::kernels {

constexpr int kDepth = 64;  // of a slab
constexpr int kSlots = 4;   // of a ring
constexpr int kGroup = 4 * kWarp, kMultipliers = 2 * kGroup, kSpareWarp = kMultipliers / kWarp, kCopyWarps = 3;
constexpr int kWgmmaThreads = kMultipliers + (1 + kCopyWarps) * kWarp;
// Of the 168 a thread that the block begins with.
constexpr int kMultiplierRegisters = 216, kCopierRegisters = 72;
// Bytes of eight rows of a slab: the swizzle's unit.
constexpr int kEightRows = 1024;

// The warp's number, which the compiler then knows to be the same in all of its lanes: what follows from it goes to uniform registers.
CUDAMOE_DEVICE int uniform_warp_id() { return shuffle(kFullWarp, warp_id(), 0); }

// A place in a ring that its producer and its consumers go through in the same order.
class RingPlace {
 public:
  CUDAMOE_DEVICE int slot() const { return count_ % kSlots; }
  CUDAMOE_DEVICE uint32_t parity() const { return static_cast<uint32_t>(count_ / kSlots % 2); }
  CUDAMOE_DEVICE int count() const { return count_; }
  CUDAMOE_DEVICE RingPlace ahead(int places) const {
    RingPlace place;
    place.count_ = count_ + places;
    return place;
  }
  CUDAMOE_DEVICE void advance(int places = 1) { count_ += places; }

 private:
  int count_ = 0;
};

}  // namespace cudamoe::kernels
