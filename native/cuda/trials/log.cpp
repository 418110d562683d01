#include "cuda/trials/log.h"

#include <algorithm>
#include <cctype>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace cudamoe::cuda {
namespace {

constexpr const char* kVerdicts[] = {"wrong", "right"};

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// The folder, or nothing.
std::filesystem::path cache_folder() {
  const std::string own = variable("CUDAMOE_CACHE");
  if (own == "off") return {};
  if (!own.empty()) return own;
  if (const std::string local = variable("LOCALAPPDATA"); !local.empty()) return std::filesystem::path(local) / "CudaMoE" / "cache";
  if (const std::string caches = variable("XDG_CACHE_HOME"); !caches.empty()) return std::filesystem::path(caches) / "cudamoe";
  if (const std::string home = variable("HOME"); !home.empty()) return std::filesystem::path(home) / ".cache" / "cudamoe";
  return {};
}

}  // namespace

std::string trial_log_path(const std::string& device_name, int driver_version) {
  const std::filesystem::path folder = cache_folder();
  if (folder.empty()) return "";
  std::string name = device_name;
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '-');
  return (folder / ("kernels-" + name + "-driver-" + std::to_string(driver_version) + "-" + CUDAMOE_KERNELS_DIGEST + ".txt")).string();
}

TrialLog::TrialLog(std::string path) : path_(std::move(path)) {
  if (path_.empty()) return;
  std::ifstream file(path_);
  for (std::string line; std::getline(file, line);) {
    if (!file.eof()) read_line(line);  // a last line without its end was torn
  }
}

void TrialLog::read_line(const std::string& line) {
  uint64_t shape = 0, form = 0;
  char candidate[64], verdict[8];
  double microseconds = 0;
  if (std::sscanf(line.c_str(), "%" SCNx64 " %" SCNx64 " %63s %7s %lf", &shape, &form, candidate, verdict, &microseconds) != 5) return;
  for (int right = 0; right < 2; ++right) {
    if (verdict == std::string(kVerdicts[right])) entries_[{shape, form, candidate}] = {right == 1, microseconds};
  }
}

const TrialLog::Entry* TrialLog::find(uint64_t shape, uint64_t form, const std::string& candidate) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find({shape, form, candidate});
  return found == entries_.end() ? nullptr : &found->second;
}

bool TrialLog::append(uint64_t shape, uint64_t form, const std::string& candidate, const Entry& entry, const std::string& words) {
  const std::lock_guard lock(mutex_);
  entries_[{shape, form, candidate}] = entry;
  if (path_.empty()) return true;
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), error);
  char head[160];
  std::snprintf(head, sizeof head, "%016" PRIx64 " %016" PRIx64 " %s %s %.2f ", shape, form, candidate.c_str(),
                kVerdicts[entry.right ? 1 : 0], entry.microseconds);
  const std::string line = head + words + "\n";
  std::FILE* file = std::fopen(path_.c_str(), "ab");
  if (file == nullptr) return false;
  const bool written = std::fwrite(line.data(), 1, line.size(), file) == line.size();
  return std::fclose(file) == 0 && written;
}

}  // namespace cudamoe::cuda
