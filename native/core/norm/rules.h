// Rules that the operations of the norm family have in common.
#pragma once

#include "core/abi.h"
#include "core/matrix.h"

namespace cudamoe {

template <class Args>
void check_norm_shape(Check& check, const Args& args) {
  check.count("rows", args.rows).count("width", args.width, 1);
}

inline void check_epsilon(Check& check, float epsilon) {
  check.require(!check.ok() || epsilon > 0, "epsilon is %g; it must be greater than 0", static_cast<double>(epsilon));
  check.real("epsilon", epsilon, 0, std::numeric_limits<float>::max());
}

// An output may be the input itself, element for element, or be apart from it.
inline void check_same_or_disjoint(Check& check, const Matrix& out, const Matrix& in) {
  if (!check.ok()) return;
  if (out.data == in.data) {
    check.require(out.stride == in.stride || out.rows <= 1, "%s is %s but their row strides are %lld and %lld; in place they must be equal",
                  out.field, in.field, static_cast<long long>(out.stride), static_cast<long long>(in.stride));
  } else {
    check.disjoint(out.field, out.data, out.bytes(), in.field, in.data, in.bytes());
  }
}

}  // namespace cudamoe
