// Argument checks of the ABI. A check that fails stores a message that names the function, the field, the value and the rule;
// after the first failure the others do nothing, so a function lists its checks in a row and asks for the status once.
#pragma once

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "core/error.h"

namespace cudamoe {

// Rows, columns and strides are limited so that products of two of them fit into int64 with room for the element size.
inline constexpr int64_t kMaxCount = int64_t{1} << 48;

// a * b, or kOverflow when that does not fit or one of them is negative; so products of products keep an overflow.
inline constexpr int64_t kOverflow = -1;
inline int64_t checked_product(int64_t a, int64_t b) {
  constexpr int kHalfBits = 29;
  if (((a | b) >> kHalfBits) == 0) return a * b;  // the common case, without the division
  constexpr int64_t kLimit = int64_t{1} << (2 * kHalfBits);
  return a < 0 || b < 0 || (b != 0 && a > kLimit / b) ? kOverflow : a * b;
}

// A pointer for the format 0x%llx: %p looks different on every system.
inline unsigned long long address(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

inline int64_t dtype_bytes(int32_t dtype) { return dtype == CUDAMOE_BF16 ? 2 : 4; }

class Check {
 public:
  explicit Check(const char* function) : function_(function) {}

  bool ok() const { return status_ == CUDAMOE_OK; }
  cudamoe_status status() const { return status_; }
  const char* function() const { return function_; }

  // struct_size, and zeros in the part of a newer, larger struct that this library does not know.
  template <class Args>
  Check& arguments(const Args* args) {
    if (!ok()) return *this;
    if (args == nullptr) return reject("args is null");
    return struct_size(args, args->struct_size, sizeof(Args));
  }

  // The common checks are inline up to the first failure: a small product takes about a microsecond, forty calls would show.
  Check& range(const char* field, int64_t value, int64_t low, int64_t high) {
    return value >= low && value <= high ? *this : out_of_range(field, value, low, high);
  }
  Check& count(const char* field, int64_t value, int64_t low = 0) { return range(field, value, low, kMaxCount); }
  // A number that must be finite and within [low, high].
  Check& real(const char* field, double value, double low, double high = std::numeric_limits<double>::max());
  Check& flag(const char* field, int32_t value) { return range(field, value, 0, 1); }
  Check& dtype(const char* field, int32_t value) { return range(field, value, CUDAMOE_F32, CUDAMOE_BF16); }
  Check& zero(const char* field, int64_t value);
  // Not null and aligned.
  Check& pointer(const char* field, const void* pointer, size_t alignment) {
    return pointer != nullptr && aligned(pointer, alignment) ? *this : bad_pointer(field, pointer, alignment);
  }
  // As pointer, but null is accepted.
  Check& optional(const char* field, const void* pointer, size_t alignment) {
    return aligned(pointer, alignment) ? *this : bad_pointer(field, pointer, alignment);
  }
  // Required when `elements` > 0: an empty matrix may have a null pointer.
  Check& data(const char* field, const void* pointer, size_t alignment, int64_t elements) {
    return elements > 0 ? this->pointer(field, pointer, alignment) : optional(field, pointer, alignment);
  }
  Check& must_be_null(const char* field, const void* pointer, const char* reason);
  // low <= stride, and (rows - 1) * stride + width addressable.
  Check& stride(const char* field, int64_t stride, int64_t low, int64_t rows) {
    range(field, stride, low, kMaxCount);
    return !ok() || checked_product(rows, stride) != kOverflow ? *this : exceeds_address_space(field, stride, rows);
  }
  Check& workspace(const void* pointer, int64_t bytes, int64_t needed);
  // The byte ranges of an output and another matrix must be disjoint; null or empty ones are.
  Check& disjoint(const char* a_field, const void* a, int64_t a_bytes, const char* b_field, const void* b, int64_t b_bytes) {
    if (a == nullptr || b == nullptr || a_bytes <= 0 || b_bytes <= 0) return *this;
    const auto a0 = reinterpret_cast<uintptr_t>(a), b0 = reinterpret_cast<uintptr_t>(b);
    const bool apart = a0 + static_cast<uintptr_t>(a_bytes) <= b0 || b0 + static_cast<uintptr_t>(b_bytes) <= a0;
    return apart ? *this : overlapping(a_field, a, a_bytes, b_field, b, b_bytes);
  }
  // The general case: message after "function: ".
  CUDAMOE_PRINTF(3, 4) Check& require(bool condition, const char* format, ...);
  // The same for a condition that the caller has tested: in a loop over tables or features, the call itself would show.
  CUDAMOE_PRINTF(2, 3) Check& broken(const char* format, ...);

 private:
  static bool aligned(const void* pointer, size_t alignment) { return reinterpret_cast<uintptr_t>(pointer) % alignment == 0; }

  // The failures; like all checks they do nothing after the first one.
  Check& out_of_range(const char* field, int64_t value, int64_t low, int64_t high);
  Check& bad_pointer(const char* field, const void* pointer, size_t alignment);
  Check& exceeds_address_space(const char* field, int64_t stride, int64_t rows);
  Check& overlapping(const char* a_field, const void* a, int64_t a_bytes, const char* b_field, const void* b, int64_t b_bytes);
  Check& reject(const char* message);
  Check& reject_formatted(const char* format, va_list arguments);
  Check& struct_size(const void* args, uint32_t given, size_t known);

  const char* function_;
  cudamoe_status status_ = CUDAMOE_OK;
};

// Bytes that rows of `width` elements at `stride` span; 0 for an empty matrix. Strides and counts must have been checked.
inline int64_t span_bytes(int64_t rows, int64_t width, int64_t stride, int64_t element_bytes) {
  return rows <= 0 || width <= 0 ? 0 : ((rows - 1) * stride + width) * element_bytes;
}

}  // namespace cudamoe
