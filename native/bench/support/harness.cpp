#include "support/harness.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "support/peaks.h"
#include "support/peers.h"

namespace cudamoe::bench {
namespace {

double seconds_of(int threads, const std::function<void()>& run, int64_t repeats) {
  const double begin = now(threads);
  for (int64_t i = 0; i < repeats; ++i) run();
  return (now(threads) - begin) / static_cast<double>(repeats);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct NamedSuite {
  const char* name;
  void (*run)(Bench&, Engine&);
  const char* about;
};
std::vector<NamedSuite>& suites() {
  static std::vector<NamedSuite> all;
  return all;
}

}  // namespace

void require(cudamoe_status status) {
  if (status == CUDAMOE_OK) return;
  char text[1024];
  cudamoe_last_error(text, sizeof text);
  throw std::runtime_error(text);
}

Engine::Engine(int threads) : threads_(threads) {
  require(cudamoe_device_open(("cpu:threads=" + std::to_string(threads)).c_str(), &device_));
  require(cudamoe_stream_create(device_, &stream_));
  set_peer_threads(threads);
}

Engine::~Engine() {
  for (void* pointer : memory_) cudamoe_memory_free(device_, pointer);
  cudamoe_stream_destroy(stream_);
  cudamoe_device_close(device_);
}

void* Engine::allocate(int64_t bytes) {
  void* pointer = nullptr;
  require(cudamoe_memory_allocate(device_, bytes, &pointer));
  memory_.push_back(pointer);
  return pointer;
}

float* Engine::random(int64_t count) {
  auto* values = allocate_of<float>(count);
  uint32_t state = 12345;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    values[i] = static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
  }
  return values;
}

void Bench::table(Engine& engine, const std::string& title, const Work& work, const std::vector<Entry>& entries) {
  if (!selected(title)) return;
  struct Running {
    const Entry* entry;
    int64_t repeats;
    std::vector<double> seconds, ratios;
  };
  std::vector<Running> running;
  for (const Entry& entry : entries) {
    if (!entry.run) continue;
    entry.run();
    const double once = std::min(seconds_of(engine.threads(), entry.run, 1), seconds_of(engine.threads(), entry.run, 1));
    running.push_back({&entry, std::clamp<int64_t>(static_cast<int64_t>(settings_.sample_seconds / once), 1, 1 << 20), {}, {}});
  }
  std::vector<double> flop_floors, byte_floors;
  for (int round = 0; round < settings_.rounds; ++round) {
    flop_floors.push_back(work.flops > 0 ? work.flops / multiply_add_peak(engine.threads(), settings_.sample_seconds) : 0);
    byte_floors.push_back(work.bytes > 0 ? work.bytes / copy_bandwidth(engine.threads()) : 0);
    double floor = std::max(flop_floors.back(), byte_floors.back());
    if (work.floor_seconds) floor = work.floor_seconds(engine.threads());
    for (Running& run : running) {
      // Thread pools of the previous entry spin for a while before they sleep.
      std::this_thread::sleep_for(std::chrono::milliseconds(3));
      run.entry->run();
      const double seconds = seconds_of(engine.threads(), run.entry->run, run.repeats);
      run.seconds.push_back(seconds);
      run.ratios.push_back(floor / seconds);
    }
  }
  std::printf("%s, %d thread%s", title.c_str(), engine.threads(), engine.threads() == 1 ? "" : "s");
  if (work.flops > 0 && work.bytes > 0)
    std::printf("; floors: multiply-adds %.2f us, bytes %.2f us", median(flop_floors) * 1e6, median(byte_floors) * 1e6);
  std::printf("\n");
  for (const Running& run : running) {
    Result result{title,
                  run.entry->name,
                  engine.threads(),
                  median(run.seconds),
                  *std::min_element(run.seconds.begin(), run.seconds.end()),
                  0,
                  0,
                  median(run.ratios),
                  *std::max_element(run.ratios.begin(), run.ratios.end())};
    result.gflops = work.flops / result.best_seconds * 1e-9;
    result.gbytes = work.bytes / result.best_seconds * 1e-9;
    std::printf("  %-22s median %10.2f us  best %10.2f us  %8.1f GFLOP/s  %7.1f GB/s  of floor: median %.3f best %.3f\n",
                result.entry.c_str(), result.median_seconds * 1e6, result.best_seconds * 1e6, result.gflops, result.gbytes,
                result.median_ratio, result.best_ratio);
    results_.push_back(result);
  }
  std::fflush(stdout);
}

void Bench::write_json() const {
  if (settings_.json.empty()) return;
  std::ofstream out(settings_.json);
  out << "{\"rounds\": " << settings_.rounds << ", \"results\": [";
  const char* separator = "\n";
  for (const Result& r : results_) {
    out << separator << "  {\"table\": \"" << r.table << "\", \"entry\": \"" << r.entry << "\", \"threads\": " << r.threads
        << ", \"median_seconds\": " << r.median_seconds << ", \"best_seconds\": " << r.best_seconds << ", \"gflops\": " << r.gflops
        << ", \"gbytes\": " << r.gbytes << ", \"median_of_floor\": " << r.median_ratio << ", \"best_of_floor\": " << r.best_ratio << "}";
    separator = ",\n";
  }
  out << "\n]}\n";
  if (!out.flush()) throw std::runtime_error("cannot write " + settings_.json);
}

Suite::Suite(const char* name, void (*run)(Bench&, Engine&), const char* about) { suites().push_back({name, run, about}); }

namespace {

[[noreturn]] void usage(int status) {
  std::printf(
      "cudamoe_bench [--suite NAME] [--filter TEXT] [--threads N] [--rounds N] [--sample-ms X] [--json FILE]\n"
      "Measures the kernels of the cpu backend beside the peak of the machine and other libraries. \"of floor\" is the time that the work\n"
      "takes at least, divided by the time that it took: its multiply-adds at the peak, or its bytes at the bandwidth of a copy, "
      "whichever\n"
      "is longer. Both are measured in the same round; a table that has both prints both. Suites:\n");
  for (const NamedSuite& suite : suites()) std::printf("  %s%s%s\n", suite.name, *suite.about == '\0' ? "" : ": ", suite.about);
  std::exit(status);
}

int run(int argc, char** argv) {
  Settings settings;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--help") usage(0);
    if (i + 1 == argc) usage(2);
    const char* value = argv[++i];
    if (option == "--suite") {
      only = value;
    } else if (option == "--filter") {
      settings.filter = value;
    } else if (option == "--threads") {
      settings.threads = std::max(1, std::atoi(value));
    } else if (option == "--rounds") {
      settings.rounds = std::max(1, std::atoi(value));
    } else if (option == "--sample-ms") {
      settings.sample_seconds = std::atof(value) * 1e-3;
    } else if (option == "--json") {
      settings.json = value;
    } else {
      usage(2);
    }
  }
  Bench bench(settings);
  std::vector<int> threads{1};
  if (const int all = static_cast<int>(std::thread::hardware_concurrency()); all > 1) threads.push_back(all);
  if (settings.threads > 0) threads = {settings.threads};
  for (const int count : threads) {
    for (const NamedSuite& suite : suites()) {
      if (!only.empty() && only != suite.name) continue;
      Engine engine(count);
      suite.run(bench, engine);
    }
  }
  bench.write_json();
  return 0;
}

}  // namespace
}  // namespace cudamoe::bench

int main(int argc, char** argv) {
  cudamoe::bench::prepare_peers(argv);
  try {
    return cudamoe::bench::run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "cudamoe_bench: %s\n", e.what());
    return 1;
  }
}
