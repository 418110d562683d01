#include "simt/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <deque>
#include <new>

#include "simt/tsan.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if CUDAMOE_SIMT_ASSEMBLY_SWITCH
extern "C" {
// Pushes the callee-saved registers, stores the stack pointer in *save, takes `load` for it and pops.
void cudamoe_simt_switch(void** save, void* load);
// Where a new fiber begins: calls the function and the argument that its first frame holds.
void cudamoe_simt_begin();
}

#if defined(__x86_64__)
asm(R"(
  .text
  .p2align 4
  .hidden cudamoe_simt_switch
  .globl cudamoe_simt_switch
  .type cudamoe_simt_switch, @function
cudamoe_simt_switch:
  .cfi_startproc
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .cfi_endproc
  .size cudamoe_simt_switch, .-cudamoe_simt_switch
  .hidden cudamoe_simt_begin
  .globl cudamoe_simt_begin
  .type cudamoe_simt_begin, @function
cudamoe_simt_begin:
  .cfi_startproc
  .cfi_undefined rip
  movq %r12, %rdi
  callq *%r13
  ud2
  .cfi_endproc
  .size cudamoe_simt_begin, .-cudamoe_simt_begin
)");
#else
asm(R"(
  .text
  .p2align 4
  .hidden cudamoe_simt_switch
  .globl cudamoe_simt_switch
  .type cudamoe_simt_switch, %function
cudamoe_simt_switch:
  .cfi_startproc
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x2, sp
  str x2, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
  .cfi_endproc
  .size cudamoe_simt_switch, .-cudamoe_simt_switch
  .hidden cudamoe_simt_begin
  .globl cudamoe_simt_begin
  .type cudamoe_simt_begin, %function
cudamoe_simt_begin:
  .cfi_startproc
  .cfi_undefined x30
  mov x0, x19
  blr x20
  brk #1
  .cfi_endproc
  .size cudamoe_simt_begin, .-cudamoe_simt_begin
)");
#endif
#endif  // CUDAMOE_SIMT_ASSEMBLY_SWITCH

namespace cudamoe::simt {

int unwatched_depth = 0;

namespace {

// Redzones make frames larger.
#if defined(__SANITIZE_ADDRESS__) || defined(CUDAMOE_SIMT_TSAN)
constexpr size_t kStackBytes = size_t{256} << 10;
#else
constexpr size_t kStackBytes = size_t{64} << 10;
#endif

[[maybe_unused]] constexpr unsigned kNoSynchronisation = 1;  // of __tsan_switch_to_fiber

std::deque<FiberGroup*>& free_groups() {
  static auto& groups = *new std::deque<FiberGroup*>;
  return groups;
}

#if defined(CUDAMOE_SIMT_TSAN)

// How many threads of ThreadSanitizer there are before one is used again. To make one takes a millisecond; what is known to it stays known,
// so that a race between two blocks of a launch that have it is not seen. Each costs all others time when they synchronise.
constexpr int kShadows = 512;

// Fibers that are one thread to ThreadSanitizer.
int lanes_of_shadow() {
  static const int lanes = [] {
    const char* text = std::getenv("CUDAMOE_SIMT_TSAN_LANES");
    return text != nullptr && std::atoi(text) == FiberGroup::kFibers ? FiberGroup::kFibers : 1;
  }();
  return lanes;
}

#endif

}  // namespace

#if defined(CUDAMOE_SIMT_TSAN)

void set_watching(bool on) {
  static void* const executor = [] {
    void* self = __tsan_get_current_fiber();
    void* made = __tsan_create_fiber(0);
    __tsan_switch_to_fiber(made, kNoSynchronisation);
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    __tsan_switch_to_fiber(self, kNoSynchronisation);
    return made;
  }();
  static void* watched = nullptr;
  if (!on) watched = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(on ? watched : executor, kNoSynchronisation);
}

void* new_lane_token() { return lanes_of_shadow() == 1 ? new_token() : nullptr; }

#else

void* new_lane_token() { return nullptr; }

#endif

FiberGroup& FiberPool::take() {
  std::deque<FiberGroup*>& groups = free_groups();
#if defined(CUDAMOE_SIMT_TSAN)
  static int made = 0;
  if (made * FiberGroup::kFibers < kShadows * lanes_of_shadow() || groups.empty()) {
    ++made;
    return make();
  }
  FiberGroup& group = *groups.front();
  groups.pop_front();
#else
  if (groups.empty()) return make();
  FiberGroup& group = *groups.back();
  groups.pop_back();
#endif
  return group;
}

FiberGroup& FiberPool::make() {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t each = page + kStackBytes;
  void* memory = mmap(nullptr, FiberGroup::kFibers * each, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  auto& group = *new FiberGroup;
  for (int i = 0; i < FiberGroup::kFibers; ++i) {
    char* guard = static_cast<char*>(memory) + static_cast<size_t>(i) * each;
    if (mprotect(guard, page, PROT_NONE) != 0) throw std::bad_alloc();
    group.fibers[i].bottom_ = guard + page;
    group.fibers[i].bytes_ = kStackBytes;
  }
  name_threads(group);
  return group;
}

// Gives ThreadSanitizer new threads for fibers that were forgotten in the middle of a function: its stack of calls has no way back.
void FiberPool::name_threads([[maybe_unused]] FiberGroup& group) {
#if defined(CUDAMOE_SIMT_TSAN)
  for (int i = 0; i < FiberGroup::kFibers; ++i) {
    void*& shadow = group.fibers[i].shadow_;
    if (i % lanes_of_shadow() != 0) {
      shadow = group.fibers[i - 1].shadow_;
      continue;
    }
    if (shadow != nullptr) __tsan_destroy_fiber(shadow);
    shadow = __tsan_create_fiber(0);
  }
#endif
}

void FiberPool::give_back(FiberGroup& group) {
#if defined(CUDAMOE_SIMT_TSAN)
  bool forgotten = false;
  for (Fiber& fiber : group.fibers) {
    if (fiber.entry_ == nullptr || fiber.idle_) continue;
    fiber.entry_ = nullptr;
    forgotten = true;
  }
  if (forgotten) name_threads(group);
#endif
  free_groups().push_back(&group);
}

void Fiber::start(Fiber& (*entry)(void*), void* argument) {
  entry_ = entry;
  argument_ = argument;
  // An idle fiber takes its next entry where it is: AddressSanitizer's fake stack, which takes long to make, stays with it.
  if (!idle_) begin();
  idle_ = false;
}

// The next switch to the fiber runs enter() from the top of its stack.
void Fiber::begin() {
#if defined(__SANITIZE_ADDRESS__)
  // A fiber that was forgotten in the middle of a function has left marks there.
  __asan_unpoison_memory_region(bottom_, bytes_);
#endif
#if CUDAMOE_SIMT_ASSEMBLY_SWITCH
  // The frame that cudamoe_simt_switch pops, below a stack pointer that is aligned to 16 when cudamoe_simt_begin runs.
  auto** top = reinterpret_cast<void**>(bottom_ + bytes_);
  const auto begin = reinterpret_cast<void*>(&cudamoe_simt_begin);
  const auto function = reinterpret_cast<void*>(&Fiber::enter);
#if defined(__x86_64__)
  void** frame = top - 9;  // r15 r14 r13 r12 rbx rbp, return address, 16 bytes of padding
  frame[2] = function;
  frame[3] = this;
  frame[6] = begin;
#else
  void** frame = top - 20;  // x19 x20 ... x29 x30, d8 ... d15
  frame[0] = this;
  frame[1] = function;
  frame[11] = begin;
#endif
  pointer_ = frame;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = bottom_;
  context_.uc_stack.ss_size = bytes_;
  context_.uc_link = nullptr;
  const auto address = reinterpret_cast<uintptr_t>(this);
  makecontext(&context_, reinterpret_cast<void (*)()>(+[](unsigned high, unsigned low) {
    Fiber::enter(reinterpret_cast<void*>((static_cast<uintptr_t>(high) << 32) | low));
  }),
              2, static_cast<unsigned>(address >> 32), static_cast<unsigned>(address & 0xFFFFFFFFu));
#endif
}

void Fiber::release([[maybe_unused]] void* token) {
#if defined(CUDAMOE_SIMT_TSAN)
  // In its name: ThreadSanitizer's idea of who runs changes, the stack does not.
  const Watched watched;
  void* self = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(shadow_, kNoSynchronisation);
  __tsan_release(token);
  __tsan_switch_to_fiber(self, kNoSynchronisation);
#endif
}

void Fiber::enter(void* fiber) {
  auto* self = static_cast<Fiber*>(fiber);
  self->arrive();
  for (;;) {
    Fiber& next = self->entry_(self->argument_);
    self->idle_ = true;
    switch_to(*self, next);
  }
}

// The first thing that runs after a switch, on the stack that was switched to.
void Fiber::arrive() {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(shadow_, &bottom, &bytes);
  // The bounds of a stack that is not ours are known only from here.
  if (came_from_->entry_ != nullptr) return;
  came_from_->bottom_ = static_cast<char*>(const_cast<void*>(bottom));
  came_from_->bytes_ = bytes;
#endif
}

void Fiber::switch_to(Fiber& from, Fiber& to) {
  const Watched watched;  // while `from` does not run
  to.came_from_ = &from;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.shadow_, to.bottom_, to.bytes_);
#endif
#if defined(CUDAMOE_SIMT_TSAN)
  if (from.entry_ == nullptr) from.shadow_ = __tsan_get_current_fiber();
  if (to.shadow_ != from.shadow_) __tsan_switch_to_fiber(to.shadow_, kNoSynchronisation);
#endif
#if CUDAMOE_SIMT_ASSEMBLY_SWITCH
  cudamoe_simt_switch(&from.pointer_, to.pointer_);
#else
  swapcontext(&from.context_, &to.context_);
#endif
  from.arrive();
}

}  // namespace cudamoe::simt
