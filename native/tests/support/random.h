// Seeded random data. The seed is 1 unless CUDAMOE_TEST_SEED is set; a failing test prints it, so that the run can be repeated.
#pragma once

#include <cstdint>
#include <vector>

namespace cudamoe::test {

class Random {
 public:
  // Tests that draw different data from one seed pass different salts.
  explicit Random(uint64_t salt = 0);
  // Prints the seed when the current test has failed.
  ~Random();
  Random(const Random&) = delete;
  Random& operator=(const Random&) = delete;

  uint64_t next();
  // An integer, low <= value <= high, each equally likely.
  int64_t integer(int64_t low, int64_t high);
  // A real number, low <= value < high.
  double real(double low, double high);
  bool coin() { return (next() & 1) != 0; }

  // Small integers: sums of their products are exact in f32 in any order, so results can be compared bitwise.
  std::vector<float> integers(int64_t count, int low = -4, int high = 4);
  std::vector<float> reals(int64_t count, double low = -1, double high = 1);
  // offsets[0] = 0 .. offsets[groups] <= rows, ascending, with empty groups among them.
  std::vector<int64_t> ragged_offsets(int64_t groups, int64_t rows);

 private:
  uint64_t seed_;
  uint64_t state_;
};

}  // namespace cudamoe::test
