// Runs one kernel launch: brings blocks in, lets their threads run in the order that the schedule asks for, and says what was found.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "simt/block.h"
#include "simt/schedule.h"

namespace cudamoe::simt {

struct LaunchRequest {
  const char* name = "";
  Dim3 grid, block;
  int64_t dynamic_shared_bytes = 0;
  void (*body)(const void* arguments) = nullptr;
  const void* arguments = nullptr;
  Schedule schedule;
  int architecture = 80;
  bool cooperative = false;  // all blocks are resident together
};

struct Limits {
  int threads_per_block, block_z, grid_yz;
  int64_t grid_x, shared_bytes;
};
Limits limits_of(int architecture);

class Launch {
 public:
  // Returns the report, empty when the launch ended well. One launch runs at a time in the process.
  static std::string run(const LaunchRequest& request);

  const LaunchRequest& request() const { return request_; }
  Random& random() { return random_; }
  // Whether the copy that is issued now lands late.
  bool copies_late();

  // The running thread gives way: it goes on when it is ready and picked. Reports a deadlock when no thread is ready.
  void wait(Thread& self);
  // The running thread has exited; who goes on.
  Fiber& leave(Thread& self);
  // Ends the launch with `text`. Called by the running thread, which is forgotten where it is: nothing on its stack may own memory.
  [[noreturn]] void fail(Thread& self, const char* text);
  // The running thread waits in a loop: another one, any, goes on.
  void pause(Thread& self);
  // Some thread did something that another may have waited for.
  void progress() { pauses_ = 0; }
  int64_t count_pause() { return ++pauses_; }
  int ready_threads() const;
  void note_constant_read(const void* address, int bytes, Site site);
  // What the launcher did before is known to a thread that begins; what a thread did is known to the launcher when the launch has ended.
  // Two tokens, so that no thread that begins knows of one that has ended.
  void* begin_token() { return &begin_token_; }
  void* end_token() { return &end_token_; }

 private:
  explicit Launch(const LaunchRequest& request);
  ~Launch();
  std::string execute();
  std::string check_limits() const;
  Dim3 block_index(int64_t turn) const;
  Thread* pick();
  bool land_one();
  Thread* pick_in(Block& block);
  void bring_in();
  void check_constant_reads();

  struct ConstantRead {
    const void* address;
    int bytes;
    Site site;
    unsigned char value[16];
  };

  const LaunchRequest& request_;
  Random random_;
  Fiber launcher_;
  std::vector<std::unique_ptr<Block>> resident_, idle_;
  std::vector<int64_t> order_;  // of blocks
  size_t next_ = 0, window_ = 1;
  std::string failure_;
  int64_t pauses_ = 0;
  std::vector<ConstantRead> constant_reads_;
  uint64_t begin_token_ = 0, end_token_ = 0;
};

}  // namespace cudamoe::simt
