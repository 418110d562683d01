// The file of verdicts: a line each, appended whole, so that processes may share it and a torn line is one that is not read.
//
//   <shape> <form> <candidate> right|wrong <microseconds> <the call in words>
//
// Its name holds the GPU, the driver's version and a digest of the sources of the kernels, so a verdict never outlives what it is about.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

namespace cudamoe::cuda {

class TrialLog {
 public:
  struct Entry {
    bool right;
    double microseconds;
  };

  // Reads the file, if there is one. An empty path: nothing is kept.
  explicit TrialLog(std::string path);

  const std::string& path() const { return path_; }
  // The verdict on a candidate, or null.
  const Entry* find(uint64_t shape, uint64_t form, const std::string& candidate) const;
  // False when the line could not be written; it holds for this process all the same.
  bool append(uint64_t shape, uint64_t form, const std::string& candidate, const Entry& entry, const std::string& words);

 private:
  using Key = std::tuple<uint64_t, uint64_t, std::string>;

  void read_line(const std::string& line);

  std::string path_;
  mutable std::mutex mutex_;
  std::map<Key, Entry> entries_;
};

// Where the log of a device lies: $CUDAMOE_CACHE, else the user's folder for caches; empty when there is neither. CUDAMOE_CACHE=off keeps
// none.
std::string trial_log_path(const std::string& device_name, int driver_version);

}  // namespace cudamoe::cuda
