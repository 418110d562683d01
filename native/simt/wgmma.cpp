// wgmma: D[64, n] += A[64, 16] B[16, n] in bf16 by the 128 threads of an aligned warp-group, A from registers or shared memory, B from
// shared memory, both with the swizzle of 128 bytes.
#include <algorithm>

#include "simt/block.h"
#include "simt/launch.h"
#include "simt/swizzle.h"
#include "simt/tsan.h"

namespace cudamoe::simt {

namespace {

constexpr int kDepth = 16;
constexpr int kGroup = 128;
constexpr uint32_t kPoison = 0x7FA17FA1u;  // a signalling NaN

Thread& self() { return *static_cast<Thread*>(const_cast<ThreadView*>(current_thread)); }

// A shared-memory matrix descriptor of the PTX manual: addresses and offsets in units of 16 bytes.
struct Descriptor {
  uint32_t start, leading, stride;
  uint32_t swizzle;
  explicit Descriptor(uint64_t bits)
      : start(static_cast<uint32_t>(bits & 0x3FFF) * 16),
        leading(static_cast<uint32_t>(bits >> 16 & 0x3FFF) * 16),
        stride(static_cast<uint32_t>(bits >> 32 & 0x3FFF) * 16),
        swizzle(static_cast<uint32_t>(bits >> 62)) {}

  // Address of element (outer, k), outer being the row of A or the column of B. K-major: groups of eight outer rows of 128 bytes, `stride`
  // apart. Transposed: 64 outer elements are contiguous; eight k make a group, `stride` apart; the next 64 are `leading` away.
  uint32_t address(int outer, int k, bool transposed) const {
    const auto o = static_cast<uint32_t>(outer), d = static_cast<uint32_t>(k);
    const uint32_t plain =
        transposed ? start + o / 64 * leading + d / 8 * stride + d % 8 * 128 + o % 64 * 2 : start + o / 8 * stride + o % 8 * 128 + d * 2;
    return swizzled(plain, 128);
  }
};

float bf16_at(const SharedMemory& memory, uint32_t address) {
  uint16_t bits;
  __builtin_memcpy(&bits, memory.from_window(address), 2);
  return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
}

void check_descriptor(uint64_t bits, Site site) {
  constexpr uint32_t kSwizzle128 = 1;
  if (Descriptor(bits).swizzle != kSwizzle128) report(Finding::kDescriptor, site, "a matrix descriptor without the swizzle of 128 bytes");
}

// What the product will read was written, and is seen by the asynchronous proxy.
void check_operand(Thread& thread, uint64_t bits, int outers, bool transposed, Site site) {
  const Descriptor descriptor(bits);
  Block& block = *thread.home;
  for (int outer = 0; outer < outers; outer += transposed ? 8 : 1) {
    for (int k = 0; k < kDepth; k += transposed ? 1 : 8) {
      const void* address = block.shared().from_window(descriptor.address(outer, k, transposed));
      block.shared().async_proxy_read(address, 16, block.access(thread, site), block);
    }
  }
}

// Rows lane / 4 and 8 below of the thread's warp, as the lanes brought them in registers: words 4 to 7 of the exchange.
void rows_of_registers(const Exchange& lanes, int lane, float (&rows)[2][kDepth]) {
  for (int half = 0; half < 2; ++half) {
    for (int k = 0; k < kDepth; ++k) {
      const uint32_t pair = lanes.word(lane / 4 * 4 + k % 8 / 2, 4 + half + k / 8 * 2);
      rows[half][k] = __builtin_bit_cast(float, k % 2 == 0 ? pair << 16 : pair & 0xFFFF0000u);
    }
  }
}

// The thread's part of the product: its two rows, columns 2 (lane % 4) and the next of every eight. Sums in ascending k.
void multiply(const Thread& thread, const Product& product, float* accumulators) {
  const WgmmaOperands& o = product.operands;
  const SharedMemory& memory = thread.home->shared();
  const int lane = thread.rank % kWarpSize, warp = thread.rank % kGroup / kWarpSize;
  const Descriptor a(o.a_descriptor), b(o.b_descriptor);
  float rows[2][kDepth];
  for (int half = 0; half < 2; ++half) {
    for (int k = 0; k < kDepth; ++k) {
      rows[half][k] =
          product.a_in_registers ? product.rows[half][k] : bf16_at(memory, a.address(16 * warp + lane / 4 + 8 * half, k, o.a_transposed));
    }
  }
  for (int j = 0; j < o.n / 8; ++j) {
    for (int c = 0; c < 2; ++c) {
      float column[kDepth];
      for (int k = 0; k < kDepth; ++k) column[k] = bf16_at(memory, b.address(8 * j + 2 * (lane % 4) + c, k, o.b_transposed));
      for (int half = 0; half < 2; ++half) {
        float& d = accumulators[4 * j + 2 * half + c];
        float sum = o.accumulate ? d : 0.0f;
        for (int k = 0; k < kDepth; ++k) sum += rows[half][k] * column[k];
        d = sum;
      }
    }
  }
}

// While products on them are under way the kernel's registers are poison; their values are here.
Accumulators& in_flight(Thread& thread, const WgmmaOperands& operands) {
  for (Accumulators& own : thread.accumulators) {
    if (own.address == operands.accumulators) return own;
  }
  const int count = operands.n / 2;
  thread.accumulators.push_back({operands.accumulators, {operands.accumulators, operands.accumulators + count}});
  std::fill_n(reinterpret_cast<uint32_t*>(operands.accumulators), count, kPoison);
  return thread.accumulators.back();
}

void give_back(const Accumulators& own, Site site) {
  for (size_t i = 0; i < own.values.size(); ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, own.address + i, 4);
    if (bits != kPoison) report(Finding::kAccumulator, site, "accumulator %zu was written before the product was waited for", i);
    own.address[i] = own.values[i];
  }
}

}  // namespace

void wgmma_fence(Site site) {
  const Unwatched unwatched;
  Thread& thread = self();
  thread.home->meet(thread, 0xFFFFFFFFu, WarpOperation::kWarpgroup, nullptr, 0, site);
  thread.accumulators_fenced = true;
}

void wgmma(const WgmmaOperands& operands, Site site) {
  const Unwatched unwatched;
  Thread& thread = self();
  Block& block = *thread.home;
  if (thread.rank / kGroup * kGroup + kGroup > block.thread_count())
    report(Finding::kDescriptor, site, "a wgmma outside a whole warp-group of %d threads", kGroup);
  if (!thread.accumulators_fenced)
    report(Finding::kAccumulator, site, "a wgmma without wgmma_fence since its accumulators may have been written");
  const bool registers = operands.a_registers != nullptr;
  if (!registers) check_descriptor(operands.a_descriptor, site);
  check_descriptor(operands.b_descriptor, site);
  uint32_t brought[8] = {};
  __builtin_memcpy(brought, &operands.a_descriptor, 8);
  __builtin_memcpy(brought + 2, &operands.b_descriptor, 8);
  if (registers) __builtin_memcpy(brought + 4, operands.a_registers, 16);
  const Exchange lanes = block.meet(thread, 0xFFFFFFFFu, WarpOperation::kWarpgroup, brought, sizeof brought, site);
  for (int lane = 0; lane < kWarpSize; ++lane) {
    for (int word = 0; word < 4; ++word) {
      if (lanes.word(lane, word) != brought[word]) report(Finding::kDescriptor, site, "lane %d has other matrix descriptors", lane);
    }
  }
  Product product{operands, registers, {}, thread.product_group, site};
  if (registers) rows_of_registers(lanes, thread.rank % kWarpSize, product.rows);
  if (thread.rank % kGroup == 0) {
    if (!registers) check_operand(thread, operands.a_descriptor, 64, operands.a_transposed, site);
    check_operand(thread, operands.b_descriptor, operands.n, operands.b_transposed, site);
  }
  Accumulators& own = in_flight(thread, operands);
  // One that lands early may not overtake one on the same accumulators that lands late.
  const bool waits = std::any_of(thread.products.begin(), thread.products.end(), [&](const Product& p) { return !p.done; });
  product.done = !block.launch().copies_late() && !waits;
  if (product.done) multiply(thread, product, own.values.data());
  thread.products.push_back(product);
}

void wgmma_commit(Site) { ++self().product_group; }

void wgmma_wait(int pending, Site site) {
  const Unwatched unwatched;
  Thread& thread = self();
  size_t kept = 0;
  for (size_t i = 0; i < thread.products.size(); ++i) {
    Product& product = thread.products[i];
    if (product.group >= thread.product_group - pending) {
      thread.products[kept++] = product;
    } else if (!product.done) {
      multiply(thread, product, in_flight(thread, product.operands).values.data());
    }
  }
  thread.products.erase(thread.products.begin() + static_cast<std::ptrdiff_t>(kept), thread.products.end());
  for (size_t i = 0; i < thread.accumulators.size();) {
    const Accumulators& own = thread.accumulators[i];
    const bool used = std::any_of(thread.products.begin(), thread.products.end(),
                                  [&](const Product& p) { return p.operands.accumulators == own.address; });
    if (used) {
      ++i;
      continue;
    }
    give_back(own, site);
    thread.accumulators.erase(thread.accumulators.begin() + static_cast<std::ptrdiff_t>(i));
  }
  if (thread.products.empty()) thread.accumulators_fenced = false;
}

}  // namespace cudamoe::simt
