#include "cpu/device.h"

#include <hwy/highway.h>
#include <hwy/targets.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "cpu/cpuid.h"
#include "cpu/system.h"

namespace cudamoe::cpu {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kHugeFrom = int64_t{4} << 20;
constexpr int kMaxThreads = 1024;

// The part of avx512bf16 that Highway's level does not cover.
bool has_avx512_bf16() { return (cpuid(7, 1).eax & (1u << 5)) != 0; }

Level highest_level() {
  const int64_t targets = hwy::SupportedTargets() & HWY_TARGETS;  // by CPUID and XCR0, and compiled
  if (targets & HWY_AVX3) return has_avx512_bf16() ? Level::kAvx512Bf16 : Level::kAvx512;
  return (targets & HWY_AVX2) ? Level::kAvx2 : Level::kSse4;
}

// The level that is fastest. Zen 4 and 5 do twice as many flops a cycle by vdpbf16ps as by f32 multiply-adds. The Intel processor of
// benchmarks/RESULTS.md starts one in two cycles, which makes half as many, so there bf16 operands are better widened. This is not measured
// when a device is opened: results would depend on what else the machine does.
Level fastest_level() {
  const Level highest = highest_level();
  return highest == Level::kAvx512Bf16 && processor_vendor() != "AuthenticAMD" ? Level::kAvx512 : highest;
}

constexpr const char* kLevelNames[] = {"sse4", "avx2", "avx512", "avx512bf16"};

const char* level_name(Level level) {
#if HWY_ARCH_X86_64
  return kLevelNames[static_cast<int>(level)];
#else
  return "portable";
#endif
}

struct LevelChoice {
  Level level;
  std::string error;  // not empty when CUDAMOE_CPU_LEVEL asks for what cannot be
};

LevelChoice choose_level() {
  const Level highest = highest_level();
  LevelChoice choice{fastest_level(), ""};
  if (const char* wanted = std::getenv("CUDAMOE_CPU_LEVEL"); wanted != nullptr && *wanted != '\0') {
    int index = -1;
    for (int i = 0; i < 4; ++i) {
      if (std::strcmp(wanted, kLevelNames[i]) == 0) index = i;
    }
    if (index < 0) {
      choice.error = std::string("CUDAMOE_CPU_LEVEL is \"") + wanted + "\"; it must be sse4, avx2, avx512 or avx512bf16";
    } else if (index > static_cast<int>(highest)) {
      choice.error = std::string("CUDAMOE_CPU_LEVEL is \"") + wanted + "\", but this machine has at most \"" + level_name(highest) + "\"";
    } else {
      choice.level = static_cast<Level>(index);
    }
  }
#if HWY_ARCH_X86_64
  int64_t disabled = 0;
  // Better targets have lower bits.
  if (choice.level < Level::kAvx512) disabled |= (HWY_AVX3 << 1) - 1;
  if (choice.level < Level::kAvx2) disabled |= HWY_AVX2;
  if (disabled != 0) hwy::DisableTargets(disabled);
#endif
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  return choice;
}

const LevelChoice& level_choice() {
  static const LevelChoice choice = choose_level();
  return choice;
}

bool usable(char*, size_t) { return true; }

cudamoe_status device_open(const char* options, void** device) {
  const char* function = "cudamoe_device_open";
  int threads = usable_processors();
  const std::string text = options;
  if (!text.empty()) {
    constexpr const char* kThreads = "threads=";
    const size_t length = std::strlen(kThreads);
    char* end = nullptr;
    const long value = text.rfind(kThreads, 0) == 0 ? std::strtol(text.c_str() + length, &end, 10) : 0;
    if (end == nullptr || end == text.c_str() + length || *end != '\0') {
      return fail(CUDAMOE_ERROR_ARGUMENT, "%s: spec is \"cpu:%s\"; the cpu backend takes \"cpu\" or \"cpu:threads=N\"", function, options);
    }
    if (value < 1 || value > kMaxThreads)
      return fail(CUDAMOE_ERROR_ARGUMENT, "%s: threads is %ld; it must be at least 1 and at most %d", function, value, kMaxThreads);
    threads = static_cast<int>(value);
  }
  if (!level_choice().error.empty()) return fail(CUDAMOE_ERROR_ARGUMENT, "%s: %s", function, level_choice().error.c_str());
  *device = new Device(threads);
  return CUDAMOE_OK;
}

void device_close(void* device) { delete static_cast<Device*>(device); }

void device_info(void* device, cudamoe_device_info* info) {
  info->threads = static_cast<Device*>(device)->threads();
  info->host_accessible = 1;
  info->supports_bf16 = level() == Level::kAvx512Bf16 ? 1 : 0;
  info->memory_bytes = physical_memory();
  const std::string brand = processor_brand();
  std::snprintf(info->name, sizeof info->name, "%s", brand.empty() ? "unknown processor" : brand.c_str());
  std::snprintf(info->level, sizeof info->level, "%s", level_name(level()));
}

// More than the machine has is refused even where the system would promise it: the memory is going to be written.
cudamoe_status allocate_from_system(const char* function, int64_t bytes, bool huge, void** pointer, int64_t* rounded) {
  const int64_t alignment = huge ? kHugePage : kAlignment;
  *rounded = ((bytes > 0 ? bytes : 1) + alignment - 1) / alignment * alignment;
  *pointer = *rounded <= physical_memory() ? allocate_aligned(*rounded, alignment, huge) : nullptr;
  if (*pointer != nullptr) return CUDAMOE_OK;
  return fail(CUDAMOE_ERROR_OUT_OF_MEMORY, "%s: %lld bytes could not be had", function, static_cast<long long>(bytes));
}

cudamoe_status allocate_zeroed(const char* function, int64_t bytes, void** pointer) {
  int64_t rounded = 0;
  const cudamoe_status status = allocate_from_system(function, bytes, bytes >= kHugeFrom, pointer, &rounded);
  if (status == CUDAMOE_OK) std::memset(*pointer, 0, static_cast<size_t>(rounded));
  return status;
}

cudamoe_status allocate(void*, int64_t bytes, void** pointer) { return allocate_zeroed("cudamoe_memory_allocate", bytes, pointer); }

void release(void*, void* pointer, int64_t) { release_aligned(pointer); }

cudamoe_status mapped_allocate(void*, int64_t bytes, void** pointer) {
  return allocate_zeroed("cudamoe_memory_allocate_mapped", bytes, pointer);
}

void mapped_release(void*, void* pointer) { release_aligned(pointer); }

cudamoe_status host_allocate(void*, int64_t bytes, void** pointer) {
  int64_t rounded = 0;
  return allocate_from_system("cudamoe_host_allocate", bytes, false, pointer, &rounded);
}

void host_release(void*, void* pointer) { release_aligned(pointer); }

cudamoe_status stream_create(void* device, void** stream) {
  *stream = new Stream(*static_cast<Device*>(device));
  return CUDAMOE_OK;
}

void stream_destroy(void* stream) { delete static_cast<Stream*>(stream); }

cudamoe_status stream_synchronize(void* stream) { return stream_of(stream).take_report(); }

cudamoe_status copy(void*, void* destination, const void* source, int64_t bytes, int32_t) {
  if (bytes > 0) std::memcpy(destination, source, static_cast<size_t>(bytes));
  return CUDAMOE_OK;
}

cudamoe_status fill(void*, void* destination, int32_t value, int64_t bytes) {
  if (bytes > 0) std::memset(destination, value, static_cast<size_t>(bytes));
  return CUDAMOE_OK;
}

Backend make_table() {
  Backend table{};
  table.version = kBackendVersion;
  table.name = "cpu";
  table.usable = usable;
  table.device_open = device_open;
  table.device_close = device_close;
  table.device_info = device_info;
  table.allocate = allocate;
  table.release = release;
  table.mapped_allocate = mapped_allocate;
  table.mapped_release = mapped_release;
  table.host_allocate = host_allocate;
  table.host_release = host_release;
  table.stream_create = stream_create;
  table.stream_destroy = stream_destroy;
  table.stream_synchronize = stream_synchronize;
  table.copy = copy;
  table.fill = fill;
  register_gemm(table);
  register_embedding(table);
  register_gating(table);
  register_combine(table);
  register_expert(table);
  register_activation(table);
  register_norm(table);
  register_attention(table);
  register_graph(table);
  register_loss(table);
  register_balance(table);
  register_optimizer(table);
  return table;
}

}  // namespace

Level level() { return level_choice().level; }

void Stream::report(const char* format, ...) {
  const std::lock_guard lock(mutex_);
  if (reports_++ > 0) return;
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(first_, sizeof first_, format, arguments);
  va_end(arguments);
}

cudamoe_status Stream::take_report() {
  const std::lock_guard lock(mutex_);
  if (reports_ == 0) return CUDAMOE_OK;
  const int64_t others = reports_ - 1;
  reports_ = 0;
  return fail(CUDAMOE_ERROR_REPORTED, "%s (and %lld more operations reported bad data)", first_, static_cast<long long>(others));
}

}  // namespace cudamoe::cpu

namespace cudamoe {

const Backend& cpu_backend() {
  static const Backend table = cpu::make_table();
  return table;
}

}  // namespace cudamoe
