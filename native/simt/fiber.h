// Fibers: stacks that are switched between by hand. Each CUDA thread of a running block is one.
//
// A switch saves the callee-saved registers and the stack pointer (about 10 ns); on processors without an assembly switch it is
// swapcontext. AddressSanitizer is told of every change of stack; ThreadSanitizer takes every fiber for a thread (or, where that takes too
// long, those of a warp for one: CUDAMOE_SIMT_TSAN_LANES=32), and a switch for no synchronisation, so that only what the executor declares
// (barriers, warp operations) orders the accesses of two CUDA threads.
#pragma once

#include <cstddef>

#if defined(__x86_64__) || defined(__aarch64__)
#define CUDAMOE_SIMT_ASSEMBLY_SWITCH 1
#else
#define CUDAMOE_SIMT_ASSEMBLY_SWITCH 0
#include <ucontext.h>
#endif

namespace cudamoe::simt {

class Fiber {
 public:
  // With no stack of its own: stands for the code that calls switch_to first.
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Makes this, which has a stack, a fiber that will run entry(argument) and then go on as the fiber that this returns.
  void start(Fiber& (*entry)(void*), void* argument);
  // ThreadSanitizer: what a fiber that will not run again did happens before what those do who acquire the token.
  void release(void* token);

  // Leaves the running fiber `from` and runs `to` until something switches back.
  static void switch_to(Fiber& from, Fiber& to);

 private:
  friend class FiberPool;
  static void enter(void* fiber);
  void begin();
  void arrive();

  char* bottom_ = nullptr;  // of the stack
  size_t bytes_ = 0;
  Fiber& (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
  bool idle_ = false;  // its entry has returned: it waits for the next
#if CUDAMOE_SIMT_ASSEMBLY_SWITCH
  void* pointer_ = nullptr;  // of the stack, while the fiber does not run
#else
  ucontext_t context_;
#endif
  void* shadow_ = nullptr;      // AddressSanitizer's fake stack or ThreadSanitizer's fiber
  Fiber* came_from_ = nullptr;  // whose stack was left last to run this one
};

// As many as a warp has lanes.
struct FiberGroup {
  static constexpr int kFibers = 32;
  Fiber fibers[kFibers];
};

// Fibers with stacks, each above an inaccessible page. They are made once and used again, in the order that leaves their memory in the
// caches; under ThreadSanitizer in turn, so that blocks that follow each other are different threads to it. Not thread-safe: the executor
// runs one launch at a time.
class FiberPool {
 public:
  static FiberGroup& take();
  // Forgets what the fibers were doing.
  static void give_back(FiberGroup& group);

 private:
  static FiberGroup& make();
  static void name_threads(FiberGroup& group);
};

}  // namespace cudamoe::simt
