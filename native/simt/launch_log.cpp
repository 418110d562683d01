#include "simt/launch_log.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

namespace cudamoe::simt {
namespace {

std::string text_of(Dim3 size) { return std::to_string(size.x) + "," + std::to_string(size.y) + "," + std::to_string(size.z); }

// The words of a launch's parameters.
class ParameterText {
 public:
  explicit ParameterText(const std::map<void*, size_t>& device_memory) : device_memory_(device_memory) {}

  void add(const void* value, size_t bytes) {
    if (!text_.empty()) text_ += ";";
    for (size_t at = 0; at < bytes;) {
      if (at != 0) text_ += " ";
      uintptr_t pointer = 0;
      if (at % sizeof pointer == 0 && at + sizeof pointer <= bytes)
        std::memcpy(&pointer, static_cast<const char*>(value) + at, sizeof pointer);
      if (pointer != 0 && add_pointer(pointer)) {
        at += sizeof pointer;
        continue;
      }
      uint32_t word = 0;
      std::memcpy(&word, static_cast<const char*>(value) + at, bytes - at < sizeof word ? bytes - at : sizeof word);
      char hexadecimal[16];
      std::snprintf(hexadecimal, sizeof hexadecimal, "%x", word);
      text_ += hexadecimal;
      at += sizeof word;
    }
  }
  const std::string& text() const { return text_; }
  std::string buffers() const {
    std::string sizes;
    for (const auto& buffer : buffers_) {
      if (!sizes.empty()) sizes += ',';
      sizes += std::to_string(buffer->second);
    }
    return sizes;
  }

 private:
  using Buffer = std::map<void*, size_t>::const_iterator;

  bool add_pointer(uintptr_t pointer) {
    Buffer after = device_memory_.upper_bound(reinterpret_cast<void*>(pointer));
    if (after == device_memory_.begin()) return false;
    const Buffer buffer = --after;
    const uintptr_t offset = pointer - reinterpret_cast<uintptr_t>(buffer->first);
    if (offset > buffer->second) return false;
    size_t number = 0;
    while (number < buffers_.size() && buffers_[number] != buffer) ++number;
    if (number == buffers_.size()) buffers_.push_back(buffer);
    text_ += "buffer" + std::to_string(number) + "+" + std::to_string(offset);
    return true;
  }

  const std::map<void*, size_t>& device_memory_;
  std::vector<Buffer> buffers_;
  std::string text_;
};

class LaunchLog {
 public:
  explicit LaunchLog(const char* path) : path_(path) {}
  ~LaunchLog() {
    std::FILE* file = std::fopen(path_.c_str(), "a");
    if (file == nullptr) return;
    for (const auto& [key, line] : lines_) {
      const auto& [kernel, architecture, block, shared] = key;
      Dl_info library{};
      dladdr(kernel, &library);
      std::fprintf(file, "%zx\t%s\t%d\t%s\t%lld\t%lld\t%s\t%s\t%s\n",
                   static_cast<size_t>(static_cast<const char*>(kernel) - static_cast<const char*>(library.dli_fbase)), line.name.c_str(),
                   architecture, block.c_str(), static_cast<long long>(shared), static_cast<long long>(line.launches),
                   text_of(line.grid).c_str(), line.parameters.c_str(), line.buffers.c_str());
    }
    std::fclose(file);
  }

  void add(const LaunchDescription& description, int architecture, const DeviceMemory& device_memory) {
    Line& line = lines_[{description.kernel, architecture, text_of(description.block), description.dynamic_shared_bytes}];
    if (line.launches++ > 0 && line.grid.count() <= description.grid.count()) return;
    const std::map<void*, size_t> blocks = device_memory.blocks();
    ParameterText parameters(blocks);
    for (const LaunchParameter& parameter : description.parameters) parameters.add(parameter.value, parameter.bytes);
    line.name = description.name;
    line.grid = description.grid;
    line.parameters = parameters.text();
    line.buffers = parameters.buffers();
  }

 private:
  struct Line {
    std::string name, parameters, buffers;
    Dim3 grid;
    int64_t launches = 0;
  };
  using Key = std::tuple<const void*, int, std::string, int64_t>;

  std::string path_;
  std::map<Key, Line> lines_;
};

}  // namespace

void log_launch(const LaunchDescription& description, int architecture, const DeviceMemory& device_memory) {
  static const char* const path = std::getenv("CUDAMOE_SIMT_LAUNCHES");
  if (path == nullptr || *path == '\0') return;
  static LaunchLog log(path);
  log.add(description, architecture, device_memory);
}

}  // namespace cudamoe::simt
