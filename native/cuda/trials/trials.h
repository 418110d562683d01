// Which of several kernels serves a call.
//
// A kernel that has not proven itself on a GPU is not used there. At the first call of a kind (an operation, its shape, how its operands
// lie) the candidates run on the call's own operands, into memory of the trial. Samples of what each computed are held against the same
// sums in double precision by a plain kernel. A candidate that is wrong, that the runtime refuses or that fails is struck out, with a
// note; of the right ones that give the same bits the fastest is kept. Candidates that sum in another way come in an order of preference,
// not of speed, so that no measurement decides which bits a call gives.
//
// Verdicts last as long as the process, and in a file for each GPU, driver and build of this library: see log.h. While a stream is being
// captured nothing can be tried: a call of an unknown kind takes the plain candidate.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <string>
#include <vector>

#include "cuda/trials/log.h"
#include "cudamoe.h"

namespace cudamoe::kernels {
struct SampleCounts;
}

namespace cudamoe::cuda {

class Stream;

// What calls must have in common to share a verdict: the family packs it into 128 bits, and can say it in words.
struct CallKind {
  uint64_t shape = 0, form = 0;
  friend auto operator<=>(const CallKind&, const CallKind&) = default;
};

struct Candidate {
  const char* name;  // in the log and in notes; no spaces
  int sums;          // candidates of one number give the same bits
};

// One call with its candidates, as its family knows them.
class Trial {
 public:
  virtual ~Trial() = default;
  virtual std::string describe() const = 0;
  // Memory for what the candidates compute.
  virtual cudaError_t prepare() = 0;
  // Queues the filling of that memory with NaN, so that what a candidate leaves out shows.
  virtual cudaError_t poison() = 0;
  // Queues the candidate, writing to that memory.
  virtual cudaError_t run(size_t candidate) = 0;
  // Queues the comparison of samples; adds to counts, in device memory.
  virtual cudaError_t compare(kernels::SampleCounts* counts) = 0;
};

class Trials {
 public:
  Trials(bool on, std::string log_path) : on_(on), log_(std::move(log_path)) {}

  bool on() const { return on_; }

  // Whether the kind has been decided: then *chosen is the index of its candidate.
  bool known(const CallKind& kind, size_t* chosen) const;
  // Index of the candidate for a call on the stream, which is tried if its kind is new; `plain` where it cannot be. Fails when no
  // candidate is right, or when one failed so that the device is lost.
  cudamoe_status choose(const Stream& stream, const char* function, const CallKind& kind, std::span<const Candidate> candidates,
                        size_t plain, Trial& trial, size_t* chosen);

  // What a user should know, a line each: candidates that were struck out, a log that cannot be written.
  std::string notes() const;

 private:
  cudamoe_status attempt(const Stream& stream, const char* function, const CallKind& kind, std::span<const Candidate> candidates,
                         size_t plain, Trial& trial, size_t* chosen, bool* decided);
  cudamoe_status judge(const Stream& stream, const char* function, const CallKind& kind, std::span<const Candidate> candidates,
                       size_t plain, Trial& trial, const std::string& words, size_t* chosen, bool* decided);
  cudamoe_status test(const Stream& stream, const char* function, Trial& trial, size_t candidate, size_t plain, std::string* fault,
                      bool* informative, double* microseconds);
  void note(const std::string& line);

  const bool on_;
  TrialLog log_;
  mutable std::shared_mutex choices_mutex_;
  std::map<CallKind, size_t> choices_;
  std::recursive_mutex trial_mutex_;  // one trial at a time, others would disturb its times; a candidate's own parts may be tried in it
  mutable std::mutex notes_mutex_;
  std::vector<std::string> notes_;
};

}  // namespace cudamoe::cuda
