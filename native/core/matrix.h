// A matrix among an operation's arguments, with the names of its fields; and matrices that may be different columns of one.
#pragma once

#include "core/check.h"

namespace cudamoe {

struct Matrix {
  const char* field;
  const float* data;
  const char* stride_field;
  int64_t stride, rows, width;

  int64_t bytes() const { return span_bytes(rows, width, stride, sizeof(float)); }
};

inline void check_matrix(Check& check, const Matrix& m) {
  check.data(m.field, m.data, alignof(float), m.rows).stride(m.stride_field, m.stride, m.width, m.rows);
}

// Whether b, at a higher address, has other columns of the matrix that a is a part of. Strides must have been checked.
inline bool side_by_side(const Matrix& a, const Matrix& b) {
  if (a.stride != b.stride) return false;
  const auto bytes = static_cast<uintptr_t>(a.stride) * sizeof(float);
  const auto distance = (reinterpret_cast<uintptr_t>(b.data) - reinterpret_cast<uintptr_t>(a.data)) % bytes;
  const auto a_width = static_cast<uintptr_t>(a.width) * sizeof(float), b_width = static_cast<uintptr_t>(b.width) * sizeof(float);
  return distance >= a_width && distance + b_width <= bytes;
}

// That an output has no element in common with another matrix.
inline void check_apart(Check& check, const Matrix& out, const Matrix& other) {
  if (!check.ok() || out.data == nullptr || other.data == nullptr) return;
  // Distances are taken from the lower address, so that they do not wrap.
  const bool ordered = reinterpret_cast<uintptr_t>(out.data) <= reinterpret_cast<uintptr_t>(other.data);
  if (ordered ? side_by_side(out, other) : side_by_side(other, out)) return;
  check.disjoint(out.field, out.data, out.bytes(), other.field, other.data, other.bytes());
}

}  // namespace cudamoe
