// The executor as a device of native/cuda. Options: order=forward|reverse|random|ahead, copies=early|late|random, seed=N, arch=80|86|89|90,
// exits=strict, memory=BYTES, fault=N, separated by commas.
#include "cuda/platform.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "simt/runtime/device.h"

namespace cudamoe::cuda {
namespace {

// The value of a word in a list, or -1.
template <size_t N>
int word_index(const char* const (&words)[N], const std::string& word) {
  for (size_t i = 0; i < N; ++i) {
    if (word == words[i]) return static_cast<int>(i);
  }
  return -1;
}

bool set_option(const std::string& name, const std::string& value, simt::DeviceOptions& options) {
  constexpr const char* kOrders[] = {"forward", "reverse", "random", "ahead"};
  constexpr const char* kCopies[] = {"early", "late", "random"};
  if (name == "order") {
    const int index = word_index(kOrders, value);
    options.schedule.order = static_cast<simt::Order>(index);
    return index >= 0;
  }
  if (name == "copies") {
    const int index = word_index(kCopies, value);
    options.schedule.copies = static_cast<simt::Completion>(index);
    return index >= 0;
  }
  if (name == "exits") {
    options.schedule.strict_exits = true;
    return value == "strict";
  }
  char* end = nullptr;
  const long number = std::strtol(value.c_str(), &end, 10);
  if (value.empty() || *end != '\0' || number < 0) return false;
  if (name == "seed") options.schedule.seed = static_cast<uint64_t>(number);
  if (name == "memory") options.memory_bytes = static_cast<size_t>(number);
  if (name == "fault") options.fault_at = static_cast<uint64_t>(number);
  if (name == "arch") options.architecture = static_cast<int>(number);
  if ((name == "memory" || name == "fault") && number > 0) return true;
  return name == "seed" || (name == "arch" && (number == 80 || number == 86 || number == 89 || number == 90));
}

}  // namespace

const char* backend_name() { return "simt"; }

bool platform_usable(char*, size_t) { return true; }

cudamoe_status find_device(const char* text, int* ordinal) {
  simt::DeviceOptions options;
  const std::string all = text;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(all.find(',', begin), all.size());
    const std::string option = all.substr(begin, end - begin);
    const size_t equals = option.find('=');
    if (equals == std::string::npos || !set_option(option.substr(0, equals), option.substr(equals + 1), options)) {
      return fail(
          CUDAMOE_ERROR_ARGUMENT,
          "cudamoe_device_open: spec is \"simt:%s\", of which \"%s\" is not an option; they are order=forward|reverse|random|ahead, "
          "copies=early|late|random, seed=N, arch=80|86|89|90, exits=strict, memory=BYTES and fault=N",
          text, option.c_str());
    }
    begin = end + 1;
  }
  *ordinal = simt::add_device(options);
  return CUDAMOE_OK;
}

void leave_device(int ordinal) { simt::remove_device(ordinal); }

std::string failure_detail(int ordinal) { return simt::device_failure(ordinal); }

bool tries_kernels() { return false; }

int driver_version() { return 0; }

bool host_accessible() { return false; }

}  // namespace cudamoe::cuda
