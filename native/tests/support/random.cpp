#include "support/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace cudamoe::test {
namespace {

uint64_t test_seed() {
  const char* text = std::getenv("CUDAMOE_TEST_SEED");
  return text == nullptr || *text == '\0' ? 1 : std::strtoull(text, nullptr, 10);
}

}  // namespace

Random::Random(uint64_t salt) : seed_(test_seed()), state_(seed_ * 0x9E3779B97F4A7C15u + salt * 0xD1B54A32D192ED03u) {}

Random::~Random() {
  if (::testing::Test::HasFailure())
    std::fprintf(stderr, "random data from CUDAMOE_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed_));
}

// SplitMix64 (Steele, Lea, Flood 2014).
uint64_t Random::next() {
  uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

int64_t Random::integer(int64_t low, int64_t high) { return low + static_cast<int64_t>(next() % (static_cast<uint64_t>(high - low) + 1)); }

double Random::real(double low, double high) { return low + (high - low) * (static_cast<double>(next() >> 11) * 0x1p-53); }

std::vector<float> Random::integers(int64_t count, int low, int high) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(integer(low, high));
  return values;
}

std::vector<float> Random::reals(int64_t count, double low, double high) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(real(low, high));
  return values;
}

std::vector<int64_t> Random::ragged_offsets(int64_t groups, int64_t rows) {
  std::vector<int64_t> offsets(static_cast<size_t>(groups) + 1, 0);
  for (int64_t g = 1; g <= groups; ++g) {
    offsets[static_cast<size_t>(g)] = integer(0, rows);
  }
  std::sort(offsets.begin() + 1, offsets.end());
  if (coin()) offsets.back() = rows;
  // One group in four is emptied: it ends where it begins.
  for (size_t g = 1; g + 1 < offsets.size(); ++g) {
    if (integer(0, 3) == 0) offsets[g] = offsets[g - 1];
  }
  return offsets;
}

}  // namespace cudamoe::test
