#include "core/check.h"

#include <cmath>
#include <cstdarg>
#include <cstdio>

namespace cudamoe {

namespace {
long long ll(int64_t value) { return static_cast<long long>(value); }
}  // namespace

Check& Check::reject(const char* message) {
  status_ = fail(CUDAMOE_ERROR_ARGUMENT, "%s: %s", function_, message);
  return *this;
}

Check& Check::require(bool condition, const char* format, ...) {
  if (!ok() || condition) return *this;
  va_list arguments;
  va_start(arguments, format);
  reject_formatted(format, arguments);
  va_end(arguments);
  return *this;
}

Check& Check::broken(const char* format, ...) {
  if (!ok()) return *this;
  va_list arguments;
  va_start(arguments, format);
  reject_formatted(format, arguments);
  va_end(arguments);
  return *this;
}

Check& Check::reject_formatted(const char* format, va_list arguments) {
  char text[1024];
  std::vsnprintf(text, sizeof text, format, arguments);
  return reject(text);
}

Check& Check::struct_size(const void* args, uint32_t given, size_t known) {
  if (given < known) return require(false, "struct_size is %u; this library needs at least %zu", given, known);
  const auto* bytes = static_cast<const unsigned char*>(args);
  if (given > 65536) return require(false, "struct_size is %u; it must be at most 65536", given);
  for (size_t i = known; i < given; ++i) {
    if (bytes[i] != 0)
      return require(false, "struct_size is %u and byte %zu is set; this library knows %zu bytes, use a newer one", given, i, known);
  }
  return *this;
}

Check& Check::out_of_range(const char* field, int64_t value, int64_t low, int64_t high) {
  if (low == high) return require(false, "%s is %lld; it must be %lld", field, ll(value), ll(low));
  return require(false, "%s is %lld; it must be at least %lld and at most %lld", field, ll(value), ll(low), ll(high));
}

Check& Check::real(const char* field, double value, double low, double high) {
  return require(std::isfinite(value) && value >= low && value <= high, "%s is %g; it must be a number from %g to %g", field, value, low,
                 high);
}

Check& Check::zero(const char* field, int64_t value) { return require(value == 0, "%s is %lld; it must be 0", field, ll(value)); }

Check& Check::bad_pointer(const char* field, const void* pointer, size_t alignment) {
  require(pointer != nullptr, "%s is null; it must point to device memory", field);
  return require(false, "%s is 0x%llx; it must be aligned to %zu bytes", field, address(pointer), alignment);
}

Check& Check::must_be_null(const char* field, const void* pointer, const char* reason) {
  return require(pointer == nullptr, "%s is 0x%llx; it must be null %s", field, address(pointer), reason);
}

Check& Check::exceeds_address_space(const char* field, int64_t stride, int64_t rows) {
  return require(false, "%s is %lld; %lld rows of it exceed the address space", field, ll(stride), ll(rows));
}

Check& Check::workspace(const void* pointer, int64_t bytes, int64_t needed) {
  if (needed > 0) this->pointer("workspace", pointer, 64);
  return require(bytes >= needed, "workspace_bytes is %lld; this call needs %lld", ll(bytes), ll(needed));
}

Check& Check::overlapping(const char* a_field, const void* a, int64_t a_bytes, const char* b_field, const void* b, int64_t b_bytes) {
  return require(false, "%s (0x%llx, %lld bytes) overlaps %s (0x%llx, %lld bytes); they must be apart", a_field, address(a), ll(a_bytes),
                 b_field, address(b), ll(b_bytes));
}

}  // namespace cudamoe
