// Rows of a matrix as tests hold them, side by side, and as they lie in memory, a stride apart.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

namespace cudamoe::test {

// [rows, width] with `stride` elements from row to row, NaN between them.
inline std::vector<float> spread(const std::vector<float>& values, int64_t rows, int64_t width, int64_t stride) {
  std::vector<float> out(rows > 0 ? (rows - 1) * stride + width : 0, std::numeric_limits<float>::quiet_NaN());
  for (int64_t i = 0; i < rows * width; ++i) out[i / width * stride + i % width] = values[i];
  return out;
}

// The other way.
inline std::vector<float> gathered(const std::vector<float>& values, int64_t rows, int64_t width, int64_t stride) {
  std::vector<float> out(rows * width);
  for (int64_t i = 0; i < rows * width; ++i) out[i] = values[i / width * stride + i % width];
  return out;
}

// In the precision of the references.
inline std::vector<double> wide(const std::vector<float>& values) { return {values.begin(), values.end()}; }

}  // namespace cudamoe::test
