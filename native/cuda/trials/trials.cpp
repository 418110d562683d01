#include "cuda/trials/trials.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "common/report.cuh"
#include "common/samples.h"
#include "core/error.h"
#include "cuda/device.h"

namespace cudamoe::cuda {
namespace {

using kernels::SampleCounts;

constexpr int kTimedRuns = 3;

// Where the counts lie in a stream's scratch: behind what kernels use of it.
constexpr int64_t kCountsOffset = Stream::kScratchBytes - 64;

// A trial says something if this part of its samples could have come out wrong.
bool is_informative(const SampleCounts& counts) { return counts.informative > 0 && counts.informative >= counts.samples / 16; }

}  // namespace

void Trials::note(const std::string& line) {
  const std::lock_guard lock(notes_mutex_);
  if (std::find(notes_.begin(), notes_.end(), line) == notes_.end()) notes_.push_back(line);
}

std::string Trials::notes() const {
  const std::lock_guard lock(notes_mutex_);
  std::string text;
  for (const std::string& line : notes_) text += line + "\n";
  return text;
}

bool Trials::known(const CallKind& kind, size_t* chosen) const {
  const std::shared_lock lock(choices_mutex_);
  const auto found = choices_.find(kind);
  if (found == choices_.end()) return false;
  *chosen = found->second;
  return true;
}

cudamoe_status Trials::choose(const Stream& stream, const char* function, const CallKind& kind, std::span<const Candidate> candidates,
                              size_t plain, Trial& trial, size_t* chosen) {
  *chosen = plain;
  if (stream.captured()) return CUDAMOE_OK;
  const std::lock_guard one_at_a_time(trial_mutex_);
  if (known(kind, chosen)) return CUDAMOE_OK;
  bool decided = false;
  const cudamoe_status status = attempt(stream, function, kind, candidates, plain, trial, chosen, &decided);
  if (status == CUDAMOE_OK && decided) {
    const std::unique_lock lock(choices_mutex_);
    choices_[kind] = *chosen;
  }
  return status;
}

cudamoe_status Trials::attempt(const Stream& stream, const char* function, const CallKind& kind, std::span<const Candidate> candidates,
                               size_t plain, Trial& trial, size_t* chosen, bool* decided) {
  const std::string words = std::string(function) + " " + trial.describe();
  // What the trial's runs report of bad data the call itself will report.
  if (const cudamoe_status status = stream.device().check(cudaStreamSynchronize(stream.get()), function, "earlier work of the stream");
      status != CUDAMOE_OK)
    return status;
  const kernels::DeviceReport reported = *stream.report();
  const cudamoe_status status = judge(stream, function, kind, candidates, plain, trial, words, chosen, decided);
  *stream.report() = reported;
  return status;
}

cudamoe_status Trials::judge(const Stream& stream, const char* function, const CallKind& kind, std::span<const Candidate> candidates,
                             size_t plain, Trial& trial, const std::string& words, size_t* chosen, bool* decided) {
  bool prepared = false;
  std::optional<double> best;
  size_t best_index = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (best && candidates[i].sums != candidates[best_index].sums) break;
    TrialLog::Entry entry{};
    if (const TrialLog::Entry* logged = log_.find(kind.shape, kind.form, candidates[i].name)) {
      entry = *logged;
      if (!entry.right) note(words + ": " + candidates[i].name + " was struck out in an earlier run (" + log_.path() + ")");
    } else {
      if (!prepared) {
        // Without memory for the trial the plain kernel serves the call, and the kind stays unknown.
        if (trial.prepare() != cudaSuccess) {
          cudaGetLastError();
          return CUDAMOE_OK;
        }
        prepared = true;
      }
      std::string fault;
      bool informative = true;
      const cudamoe_status status = test(stream, function, trial, i, plain, &fault, &informative, &entry.microseconds);
      if (status != CUDAMOE_OK && fault.empty()) return status;
      if (!informative && fault.empty()) return CUDAMOE_OK;
      entry.right = fault.empty();
      if (!entry.right) note(words + ": " + candidates[i].name + " is struck out: " + fault);
      if (!log_.append(kind.shape, kind.form, candidates[i].name, entry, words))
        note("verdicts on kernels cannot be kept: " + log_.path() + " cannot be written; CUDAMOE_CACHE names another folder");
      if (status != CUDAMOE_OK) return status;
    }
    if (entry.right && (!best || entry.microseconds < *best)) {
      best = entry.microseconds;
      best_index = i;
    }
  }
  if (best) {
    *chosen = best_index;
    *decided = true;
    return CUDAMOE_OK;
  }
  return fail(CUDAMOE_ERROR_DEVICE, "%s: no kernel gives right results here for %s; the notes of the device say what was tried", function,
              trial.describe().c_str());
}

// Runs a candidate and compares samples. `fault` says why it is struck out; empty with a status that is not OK, the device failed for
// another reason. Not informative: nothing is known of the candidate.
cudamoe_status Trials::test(const Stream& stream, const char* function, Trial& trial, size_t candidate, size_t plain, std::string* fault,
                            bool* informative, double* microseconds) {
  auto* counts = reinterpret_cast<SampleCounts*>(static_cast<char*>(stream.scratch()) + kCountsOffset);
  const auto wait = [&] { return cudaStreamSynchronize(stream.get()); };
  if (const cudamoe_status status = stream.device().check(trial.poison(), function, "the memory of a trial"); status != CUDAMOE_OK)
    return status;
  if (const cudaError_t refused = trial.run(candidate); refused != cudaSuccess) {
    // Not the candidate's fault: earlier work that failed, on whatever stream, or a kernel whose code found no memory when it was loaded.
    if (is_sticky(refused)) return stream.device().check(refused, function, "earlier work of the device");
    cudaGetLastError();
    if (refused == cudaErrorMemoryAllocation) {
      *informative = false;
    } else {
      *fault = std::string("its launch is refused: ") + cudaGetErrorString(refused);
    }
    return CUDAMOE_OK;
  }
  cudaError_t error = wait();
  if (error != cudaSuccess) {
    // The plain kernel is what the others are held against: where it fails, the call's own memory is bad.
    if (candidate != plain) *fault = std::string("it fails: ") + cudaGetErrorString(error);
    return stream.device().check(error, function, "a kernel in its trial");
  }
  SampleCounts seen{};
  error = trial.compare(counts);
  if (error == cudaSuccess) error = cudaMemcpyAsync(&seen, counts, sizeof seen, cudaMemcpyDeviceToHost, stream.get());
  if (error == cudaSuccess) error = cudaMemsetAsync(counts, 0, sizeof seen, stream.get());
  if (error == cudaSuccess) error = wait();
  if (error != cudaSuccess) return stream.device().check(error, function, "the comparison of a trial");
  *informative = is_informative(seen);
  if (seen.wrong > 0) {
    *fault = std::to_string(seen.wrong) + " of " + std::to_string(seen.samples) + " samples are wrong";
    return CUDAMOE_OK;
  }
  if (!*informative) return CUDAMOE_OK;
  *microseconds = 1e12;
  for (int run = 0; run < kTimedRuns && error == cudaSuccess; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    error = trial.run(candidate);
    if (error == cudaSuccess) error = wait();
    *microseconds = std::min(*microseconds, std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
  }
  if (error != cudaSuccess && candidate != plain) *fault = std::string("it fails when it is repeated: ") + cudaGetErrorString(error);
  return stream.device().check(error, function, "a kernel in its trial");
}

}  // namespace cudamoe::cuda
