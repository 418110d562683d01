// What kernels/common builds the device language on where a C++ compiler compiles it: the running CUDA thread and what it can do.
// Kernels do not include this header; they use kernels/common/kernel.cuh.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "simt/report.h"
#include "simt/site.h"

namespace cudamoe::simt {

struct Dim3 {
  int x = 1, y = 1, z = 1;
  constexpr int64_t count() const { return int64_t{x} * y * z; }
};

// The running CUDA thread as its kernel sees it.
struct ThreadView {
  Dim3 thread, block, block_size, grid_size;
  int rank = 0;  // of the thread in its block, x fastest
};

// Null outside a kernel. The executor runs one launch at a time, all its CUDA threads on one thread of the host.
extern constinit thread_local const ThreadView* current_thread;

// ---- shared memory ----

// One declaration of a shared array in a kernel; its address names the array within a block.
struct SharedSite {
  const char* name;
  Site site;
};

// The array of that declaration in the running block. Its elements are poison until they are written.
void* shared_array(const SharedSite& declaration, int64_t bytes, int64_t alignment);
// The dynamic shared memory of the launch.
void* dynamic_shared_array(int64_t* bytes);
// Address in the 32-bit window that PTX instructions take, and back.
uint32_t shared_window_address(const void* address);
void* shared_from_window(uint32_t address);

// Before each access of a shared element: bounds of the block's memory, initialisation, races, pending copies.
void before_shared_read(const void* address, int bytes, Site site);
void before_shared_write(void* address, int bytes, Site site);
// An atomic access is ordered with other atomic accesses.
void before_shared_atomic(void* address, int bytes, Site site);

// A read of global memory that nothing may write during the launch; reported when the launch ends if something did.
void before_constant_read(const void* address, int bytes, Site site);

[[noreturn]] void report_shared_index(const char* what, int64_t index, int64_t bound, Site site);

// ---- barriers ----

enum class BarrierReduction { kNone, kCount, kAnd, kOr };

// Waits for all live threads of the block; the reduction of their `value`.
int sync_block(Site site, BarrierReduction reduction = BarrierReduction::kNone, int value = 0);
// PTX bar.sync / bar.arrive `id` (1 .. 15) for `threads` threads, a multiple of 32.
void named_barrier_sync(int id, int threads, Site site);
void named_barrier_arrive(int id, int threads, Site site);

// ---- warps ----

inline constexpr int kWarpSize = 32;
inline constexpr int kMaxExchangeBytes = 64;

// What a warp operation is, so that lanes that meet in different ones are noticed.
enum class WarpOperation { kSync, kShuffle, kVote, kMatch, kReduce, kElect, kLoadMatrix, kStoreMatrix, kMultiply, kWarpgroup, kRegisters };

// What the lanes of a meeting brought.
class Exchange {
 public:
  Exchange(const uint32_t* values, uint32_t present) : values_(values), present_(present) {}
  // Lanes of the mask that have not left the kernel.
  uint32_t present() const { return present_; }
  bool has(int lane) const { return lane >= 0 && lane < kWarpSize && (present_ >> lane & 1u) != 0; }
  // Word i of what the lane brought.
  uint32_t word(int lane, int i) const {
#if defined(CUDAMOE_SIMT_TSAN)
    return unseen_word(lane, i);
#else
    return values_[lane * kMaxExchangeBytes / 4 + i];
#endif
  }
  template <class T>
  T from(int lane) const {
    static_assert(sizeof(T) % 4 == 0);
    uint32_t words[sizeof(T) / 4];
    for (int i = 0; i < static_cast<int>(sizeof(T) / 4); ++i) words[i] = word(lane, i);
    return __builtin_bit_cast(T, words);
  }

 private:
  // A read that ThreadSanitizer does not see: what is exchanged is the executor's own memory.
  uint32_t unseen_word(int lane, int i) const;

  const uint32_t* values_;
  uint32_t present_;
};

// Waits for all live lanes of `mask`, which must name the caller, and hands each what the others brought: a multiple of 4 bytes. It
// stays readable until the caller's next meeting.
Exchange meet(uint32_t mask, WarpOperation operation, const void* value, int bytes, Site site);
int lane_of_current();

// ---- asynchronous copies (cp.async) ----

// Queues a copy of `bytes` to shared memory, of which `source_bytes` are read and the rest is zero.
void async_copy(void* destination, const void* source, int bytes, int source_bytes, Site site);
void async_copy_commit();
// Waits until at most `pending` of the caller's groups are not complete.
void async_copy_wait(int pending, Site site);
void async_copy_wait_all(Site site);

// ---- sm_90: mbarriers, TMA, wgmma ----

void fence_proxy_async();
void mbarrier_init(uint64_t* barrier, int count, Site site);
// One arrival, which also makes the phase wait for `bytes` of asynchronous copies.
void mbarrier_arrive(uint64_t* barrier, int bytes, Site site);
bool mbarrier_test(uint64_t* barrier, uint32_t parity, Site site);
void mbarrier_wait(uint64_t* barrier, uint32_t parity, Site site);

// What a tensor map holds here; see common/ptx/tma.cuh.
struct TensorMapFields {
  uint64_t magic;
  char* base;
  int64_t extent[5];        // elements, innermost first
  int64_t stride_bytes[5];  // of each dimension; that of the innermost is the element
  int32_t box[5];
  int32_t rank, element_bytes, swizzle_bytes;
};
inline constexpr uint64_t kTensorMapMagic = 0x70616d726f736e74u;

// Copies the box at `coordinates` to shared memory, zeros where it leaves the tensor, and counts its bytes at the barrier.
void tma_load(void* destination, const TensorMapFields& map, const int (&coordinates)[5], uint64_t* barrier, Site site);
// Copies a box of shared memory to the tensor, but for what leaves it.
void tma_store(const TensorMapFields& map, const int (&coordinates)[5], const void* source, Site site);
void tma_store_commit();
void tma_store_wait(int pending, Site site);

// One wgmma of the warp-group; accumulators [n / 2]. a_registers: four, or null for the descriptor.
struct WgmmaOperands {
  float* accumulators;
  int n;
  const uint32_t* a_registers;
  uint64_t a_descriptor, b_descriptor;
  bool accumulate, a_transposed, b_transposed;
};
void wgmma_fence(Site site);
void wgmma(const WgmmaOperands& operands, Site site);
void wgmma_commit(Site site);
void wgmma_wait(int pending, Site site);

// ---- the rest ----

// Floating-point operations of the calling thread, counted in the counting build only.
#if defined(CUDAMOE_SIMT_COUNTS)
void count_operations(int operations);
#else
inline void count_operations(int) {}
#endif

// A point where another thread may run: atomics, fences.
void may_switch();
// Memory that others may wait for has changed.
void made_progress();
// In a loop that waits for another thread. A launch in which threads only wait is reported.
void pause_thread(Site site);
// Compute capability times ten of the architecture whose limits the launch keeps: 80, 86, 89 or 90.
int architecture();

inline void check_alignment(const void* address, int bytes, Site site) {
  if (reinterpret_cast<uintptr_t>(address) % static_cast<uintptr_t>(bytes) != 0)
    report(Finding::kMisaligned, site, "an access of %d bytes at %p", bytes, address);
}

}  // namespace cudamoe::simt
