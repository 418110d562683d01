// Measures the engine's operations on a device, or counts what they move: cudamoe_device_bench --help.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

#include "device/cases.h"
#include "device/measure.h"
#include "device/traffic.h"

namespace cudamoe::bench {
namespace {

struct Options {
  std::string device = "cuda", filter;
  std::vector<int64_t> batches;
  double seconds = 0.5;
  bool count = false, markdown = false, list = false;
};

[[noreturn]] void usage(int status) {
  std::printf(
      "cudamoe_device_bench [--device SPEC] [--batch N[,N]] [--filter TEXT] [--seconds X] [--markdown]\n"
      "  Times every operation at the reference shape: with the second-level cache flushed before each run (cold) and in runs that follow "
      "each\n"
      "  other (warm); medians, bytes a second as a share of a copy that is measured, flops a second as a share of a large product. "
      "Products\n"
      "  beside cuBLAS where libcublas.so.12 can be loaded. --seconds: how long each may take.\n"
      "cudamoe_device_bench --list\n"
      "  Prints the names of the operations.\n"
      "cudamoe_device_bench --count --batch N,N\n"
      "  Runs every operation once on the counting executor and prints, separated by tabs: operation, batch, launches, bytes of memory, "
      "bytes\n"
      "  between cache and multiprocessors, floating-point operations, floor in bytes, floor in operations.\n");
  std::exit(status);
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--help") usage(0);
    if (option == "--count" || option == "--markdown" || option == "--list") {
      (option == "--count" ? options.count : option == "--list" ? options.list : options.markdown) = true;
      continue;
    }
    if (i + 1 == argc) usage(2);
    const char* value = argv[++i];
    if (option == "--device") {
      options.device = value;
    } else if (option == "--batch") {
      for (const char* p = value; *p != '\0'; p += *p == ',') {
        char* end = nullptr;
        const long long batch = std::strtoll(p, &end, 10);
        // Every expert has the same number of rows, a multiple of the largest tile.
        if (end == p || batch < 1024 || batch % 1024 != 0 || batch > (1 << 22)) usage(2);
        options.batches.push_back(batch);
        p = end;
      }
    } else if (option == "--filter") {
      options.filter = value;
    } else if (option == "--seconds") {
      options.seconds = std::atof(value);
    } else {
      usage(2);
    }
  }
  if (options.batches.empty()) options.batches = {kReferenceBatch};
  if (options.count) options.device = "simt";
  return options;
}

void count(DeviceEngine& engine, const Case& each, int64_t batch) {
  const Prepared prepared = each.prepare(engine, batch);
  engine.synchronize();
  take_traffic();
  prepared.run();
  engine.synchronize();
  const CountedTraffic traffic = take_traffic();
  std::printf("%s\t%lld\t%lld\t%lld\t%lld\t%lld\t%.0f\t%.0f\n", each.name.c_str(), static_cast<long long>(batch),
              static_cast<long long>(traffic.launches), static_cast<long long>(traffic.memory_read + traffic.memory_written),
              static_cast<long long>(traffic.cache_read + traffic.cache_written), static_cast<long long>(traffic.operations),
              prepared.floor.bytes, prepared.floor.operations);
}

int run(const Options& options) {
  std::vector<Case> cases;
  for (auto&& family : {gating_cases(), gemm_cases(), expert_cases(), row_cases(), sequence_cases(), embedding_cases()})
    cases.insert(cases.end(), family.begin(), family.end());
  std::erase_if(cases, [&](const Case& each) { return each.name.find(options.filter) == std::string::npos; });
  if (cases.empty()) throw std::runtime_error("no operation's name contains \"" + options.filter + "\"");
  if (options.list) {
    for (const Case& each : cases) std::printf("%s\n", each.name.c_str());
    return 0;
  }
  DeviceEngine engine(options.device);
  std::unique_ptr<Meter> meter;
  if (!options.count) meter = std::make_unique<Meter>(engine, options.seconds, options.markdown);
  for (const Case& each : cases) {
    for (const int64_t batch : options.batches) {
      try {
        if (options.count) {
          count(engine, each, batch);
        } else {
          meter->measure(each, batch);
        }
      } catch (const std::exception& e) {
        // An operation that the backend does not have yet is no failure.
        if (std::strstr(e.what(), "does not have this operation") == nullptr) throw;
        std::fprintf(stderr, "%s: left out: %s\n", each.name.c_str(), e.what());
      }
      std::fflush(stdout);
      engine.clear();
    }
  }
  return 0;
}

}  // namespace
}  // namespace cudamoe::bench

int main(int argc, char** argv) {
  const cudamoe::bench::Options options = cudamoe::bench::parse(argc, argv);
  try {
    return cudamoe::bench::run(options);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "cudamoe_device_bench: %s\n", e.what());
    return 1;
  }
}
