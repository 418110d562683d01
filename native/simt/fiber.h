// Fibers: stacks that are switched between by hand. Each CUDA thread of a running block is one.
//
// A switch saves the callee-saved registers and the stack pointer (about 10 ns); on processors without an assembly switch it is
// swapcontext. AddressSanitizer is told of every change of stack; ThreadSanitizer takes every fiber for a thread, and a switch for no
// synchronisation, so that only what the executor declares (barriers, warp operations) orders the accesses of two CUDA threads.
#pragma once

#include <cstddef>

#if defined(__x86_64__) || defined(__aarch64__)
#define CUDAMOE_SIMT_ASSEMBLY_SWITCH 1
#else
#define CUDAMOE_SIMT_ASSEMBLY_SWITCH 0
#include <ucontext.h>
#endif

namespace cudamoe::simt {

// Memory of one fiber, with an inaccessible page below it.
struct Stack {
  char* bottom = nullptr;
  size_t bytes = 0;
};

// Stacks are made once and used again. Not thread-safe: the executor runs one launch at a time.
class StackPool {
 public:
  static Stack take();
  static void give_back(Stack stack);
};

class Fiber {
 public:
  // With no stack of its own: stands for the code that calls switch_to first.
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Makes this a fiber that will run entry(argument), which must end in leave().
  void start(Stack stack, void (*entry)(void*), void* argument);
  // ThreadSanitizer: what a fiber that will not run again did happens before what those do who acquire the token.
  void release(void* token);
  // Forgets what the fiber was doing; gives up the stack.
  Stack retire();

  // Leaves the running fiber `from` and runs `to` until something switches back.
  static void switch_to(Fiber& from, Fiber& to);
  // The same, and `from` never runs again.
  [[noreturn]] static void leave(Fiber& from, Fiber& to);

 private:
  static void enter(void* fiber);
  void arrive();
  static void swap(Fiber& from, Fiber& to, bool last);

  Stack stack_;
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
#if CUDAMOE_SIMT_ASSEMBLY_SWITCH
  void* pointer_ = nullptr;  // of the stack, while the fiber does not run
#else
  ucontext_t context_;
#endif
  void* shadow_ = nullptr;      // AddressSanitizer's fake stack or ThreadSanitizer's fiber
  Fiber* came_from_ = nullptr;  // whose stack was left last to run this one
};

}  // namespace cudamoe::simt
