// What ThreadSanitizer is told: who synchronises with whom, and what it must not see. Nothing in other builds. The executor itself is not
// instrumented, so that its own bookkeeping is neither seen nor taken for synchronisation.
#pragma once

#if defined(CUDAMOE_SIMT_TSAN)
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace cudamoe::simt {

// How many reasons there are not to see what the running fiber does.
extern int unwatched_depth;

// Not to see it is to take it for a thread whose accesses are ignored: to ignore those of the fiber's own thread takes longer by far.
#if defined(CUDAMOE_SIMT_TSAN)
void set_watching(bool on);
#else
inline void set_watching(bool) {}
#endif

// The executor at work: the library functions that it calls are instrumented although it is not. A fiber that is switched away from is
// watched (fiber.cpp), so that it may be forgotten there.
class Unwatched {
 public:
  Unwatched() {
    if (unwatched_depth++ == 0) set_watching(false);
  }
  ~Unwatched() {
    if (--unwatched_depth == 0) set_watching(true);
  }
  Unwatched(const Unwatched&) = delete;
  Unwatched& operator=(const Unwatched&) = delete;
};

// Within it, what is done on behalf of a kernel, or by nobody: a fiber that does not run.
class Watched {
 public:
  Watched() : depth_(unwatched_depth) {
    if (depth_ > 0) set_watching(true);
    unwatched_depth = 0;
  }
  ~Watched() {
    unwatched_depth = depth_;
    if (depth_ > 0) set_watching(false);
  }
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;

 private:
  int depth_;
};

// What the caller did so far happens before what those do who acquire the token later. There may be none.
inline void release_token([[maybe_unused]] void* token) {
#if defined(CUDAMOE_SIMT_TSAN)
  if (token == nullptr) return;
  const Watched watched;
  __tsan_release(token);
#endif
}

inline void acquire_token([[maybe_unused]] void* token) {
#if defined(CUDAMOE_SIMT_TSAN)
  if (token == nullptr) return;
  const Watched watched;
  __tsan_acquire(token);
#endif
}

// An address that no earlier synchronisation has used, out of a ring so large that an old one is long forgotten when it returns.
void* new_token();
// The same for lanes of a warp; none where they are one thread to ThreadSanitizer.
void* new_lane_token();

}  // namespace cudamoe::simt
