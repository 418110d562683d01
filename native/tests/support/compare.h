// Comparison of results with a reference.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace cudamoe::test {

// |result - reference| / |reference| in the Frobenius norm, |result| when the reference is zero, infinity when the sizes differ.
// NaN when either holds a NaN, so that EXPECT_LE fails. `least_norm` replaces |reference| when it is greater: a few sums may all be small
// beside their terms, and their rounding errors are not.
template <class T, class R>
double relative_error(const std::vector<T>& result, const std::vector<R>& reference, double least_norm = 0) {
  if (result.size() != reference.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < result.size(); ++i) {
    const double want = static_cast<double>(reference[i]), have = static_cast<double>(result[i]);
    difference += (have - want) * (have - want);
    norm += want * want;
  }
  norm = std::max(norm, least_norm * least_norm);
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

// The bound of an f32 product summed over `terms` terms: 4 sqrt(terms) 2^-24.
inline double f32_bound(int64_t terms) { return 4 * std::sqrt(static_cast<double>(terms < 1 ? 1 : terms)) * 0x1p-24; }
// The bound of a product of bf16 operands summed in f32.
inline constexpr double kBf16Bound = 1e-2;

// bf16 by its bits: the upper half of an f32, rounded to nearest even, NaN kept.
uint16_t to_bf16(float value);
float from_bf16(uint16_t bits);
std::vector<uint16_t> to_bf16(const std::vector<float>& values);
std::vector<float> from_bf16(const std::vector<uint16_t>& bits);
// Each value rounded to bf16 and back.
std::vector<float> rounded_to_bf16(const std::vector<float>& values);

}  // namespace cudamoe::test
