// What the wgmma kernels share: twelve warps, of which two warp-groups multiply what the others copy, and rings of slabs between them.
// Slabs are of bf16. Rows of bf16 are copied as they lie (cp.async); rows of f32 are rounded on the way, through registers.
#pragma once

#include "common/kernel.cuh"
#include "common/ptx/convert.cuh"
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

// Runs of eight f32 that a lane has under way at a time, in 32 registers.
constexpr int kRunsTogether = 4;

// Runs of eight numbers, rounded, to 16 bytes of a slab each, at to(i). `from` of a run is aligned to 16 bytes; null: a run of zeros. The
// first `count` of all runs are there, the others zeros.
template <int kRuns, class To>
CUDAMOE_DEVICE void round_runs(const float* const (&from)[kRuns], int count, To&& to) {
  Vector<float, 4> half[kRuns][2] = {};
  if (count >= 8) {
    CUDAMOE_UNROLL
    for (int i = 0; i < kRuns; ++i) {
      if (from[i] == nullptr) continue;
      half[i][0] = load<4>(from[i]);
      half[i][1] = load<4>(from[i] + 4);
    }
  } else {
    CUDAMOE_UNROLL
    for (int i = 0; i < kRuns; ++i) {
      CUDAMOE_UNROLL
      for (int e = 0; e < 8; ++e) {
        if (from[i] != nullptr && e < count) half[i][e / 4][e % 4] = from[i][e];
      }
    }
  }
  CUDAMOE_UNROLL
  for (int i = 0; i < kRuns; ++i) {
    Vector<uint32_t, 4> words;
    CUDAMOE_UNROLL
    for (int w = 0; w < 4; ++w) words[w] = ptx::pack_bf16(half[i][w / 2][w % 2 * 2], half[i][w / 2][w % 2 * 2 + 1]);
    store(shared_cast<uint32_t>(to(i)), words);
  }
}

}  // namespace cudamoe::kernels
