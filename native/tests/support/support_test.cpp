// The test library itself: a guard that never reports would make every other test worth less.
#include <gtest/gtest.h>

#include <cmath>

#include "support/buffer.h"
#include "support/compare.h"
#include "support/random.h"

namespace cudamoe::test {
namespace {

TEST(Support, BufferIsPoisonedAndKeepsWhatIsSet) {
  TestDevice device;
  Buffer<float> buffer(device, 5, 1);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 4u);
  for (float value : buffer.get()) EXPECT_TRUE(std::isnan(value));
  buffer.set({1, 2, 3, 4, 5});
  EXPECT_EQ(buffer.get(), (std::vector<float>{1, 2, 3, 4, 5}));
  EXPECT_TRUE(buffer.guards_intact());
}

#if !defined(__SANITIZE_ADDRESS__)
TEST(Support, GuardsReportAWriteOnEitherSide) {
  TestDevice device;
  Buffer<float> front(device, 3), back(device, 3);
  volatile float* before = front.data() - 1;
  *before = 0;
  volatile float* after = back.data() + 3;
  *after = 0;
  EXPECT_FALSE(front.guards_intact());
  EXPECT_FALSE(back.guards_intact());
}
#endif

TEST(Support, RelativeErrorSeesNanAndSize) {
  EXPECT_EQ(relative_error(std::vector<float>{3, 4}, std::vector<double>{3, 4}), 0.0);
  EXPECT_EQ(relative_error(std::vector<float>{3, 5}, std::vector<double>{0, 0}), std::sqrt(34.0));
  EXPECT_TRUE(std::isnan(relative_error(std::vector<float>{NAN}, std::vector<double>{1})));
  EXPECT_TRUE(std::isinf(relative_error(std::vector<float>{1}, std::vector<double>{1, 2})));
}

TEST(Support, Bf16RoundsToNearestEven) {
  EXPECT_EQ(from_bf16(to_bf16(1.0f)), 1.0f);
  EXPECT_EQ(to_bf16(1.0f + 0x1p-8f), to_bf16(1.0f));                  // half way, down to even
  EXPECT_EQ(from_bf16(to_bf16(1.0f + 3 * 0x1p-8f)), 1.0f + 0x1p-6f);  // half way, up to even
  EXPECT_TRUE(std::isinf(from_bf16(to_bf16(std::numeric_limits<float>::max()))));
  EXPECT_TRUE(std::isnan(from_bf16(to_bf16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(Support, RaggedOffsetsAscend) {
  Random random(3);
  for (int i = 0; i < 100; ++i) {
    const int64_t rows = random.integer(0, 20);
    const std::vector<int64_t> offsets = random.ragged_offsets(random.integer(1, 9), rows);
    EXPECT_EQ(offsets.front(), 0);
    for (size_t g = 1; g < offsets.size(); ++g) EXPECT_LE(offsets[g - 1], offsets[g]);
    EXPECT_LE(offsets.back(), rows);
  }
}

}  // namespace
}  // namespace cudamoe::test
