// Benchmarks that can be trusted on a machine that others load: every entry of a table, and the machine's own peak, is measured in
// each of several rounds, one after the other, and what is reported is the ratio to the peak of the same round.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cudamoe.h"

namespace cudamoe::bench {

struct Settings {
  int rounds = 9;
  double sample_seconds = 0.01;  // an entry is repeated in a round until this is full
  int threads = 0;               // 0: 1 and all
  std::string filter;            // tables whose title contains it
  std::string json;              // file to write
};

// A device, its stream, and memory that lives as long as it does. `threads` also limits the peers.
class Engine {
 public:
  explicit Engine(int threads);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  int threads() const { return threads_; }
  cudamoe_stream* stream() const { return stream_; }
  // Zeroed device memory.
  void* allocate(int64_t bytes);
  template <class T>
  T* allocate_of(int64_t count) {
    return static_cast<T*>(allocate(count * static_cast<int64_t>(sizeof(T))));
  }
  // f32 memory with values from -1 to 1, the same in every run.
  float* random(int64_t count);

 private:
  int threads_;
  cudamoe_device* device_ = nullptr;
  cudamoe_stream* stream_ = nullptr;
  std::vector<void*> memory_;
};

// Throws with the library's message unless the call succeeded.
void require(cudamoe_status status);

// What a run has to do at least: the floor is the longer of flops / (f32 multiply-add peak) and bytes / (copy bandwidth), or what
// `floor_seconds` measures where that is neither.
struct Work {
  double flops = 0, bytes = 0;
  std::function<double(int threads)> floor_seconds = nullptr;
};

struct Result {
  std::string table, entry;
  int threads;
  double median_seconds, best_seconds;
  double gflops, gbytes;            // a second, of the best
  double median_ratio, best_ratio;  // floor / time
};

class Bench {
 public:
  explicit Bench(Settings settings) : settings_(std::move(settings)) {}

  const Settings& settings() const { return settings_; }
  // Runs and prints one table. Entries whose function is empty are left out.
  struct Entry {
    std::string name;
    std::function<void()> run;
  };
  void table(Engine& engine, const std::string& title, const Work& work, const std::vector<Entry>& entries);
  bool selected(const std::string& title) const { return title.find(settings_.filter) != std::string::npos; }
  void write_json() const;

 private:
  Settings settings_;
  std::vector<Result> results_;
};

// A family's benchmarks, run for each number of threads. Define one at namespace scope of a file in native/bench. The help prints `about`.
struct Suite {
  Suite(const char* name, void (*run)(Bench&, Engine&), const char* about = "");
};

}  // namespace cudamoe::bench
