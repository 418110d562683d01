// The random numbers of kernels: the known answers of the generator's authors (Random123, kat_vectors) for zeros, ones and digits of pi.
#include "common/philox.cuh"

#include "simt/harness.h"

namespace cudamoe::test {
namespace {

using namespace kernels;

CUDAMOE_KERNEL(1, 1) philox_kernel(uint32_t key0, uint32_t key1, Philox counter, uint32_t* out) {
  const Philox random = philox(key0, key1, counter);
  for (int i = 0; i < 4; ++i) out[i] = random.word[i];
}

TEST(SimtLanguage, PhiloxKnownAnswers) {
  Executor executor;
  DeviceArray<uint32_t> out(executor, std::vector<uint32_t>(4, 0));
  const auto run = [&](uint32_t key0, uint32_t key1, const Philox& counter) {
    EXPECT_EQ(executor.run({"philox", {1}, {1}}, philox_kernel, key0, key1, counter, out.data()), "");
    return out.get();
  };
  EXPECT_EQ(run(0, 0, {{0, 0, 0, 0}}), (std::vector<uint32_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(run(0xffffffff, 0xffffffff, {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}),
            (std::vector<uint32_t>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(run(0xa4093822, 0x299f31d0, {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}),
            (std::vector<uint32_t>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

}  // namespace
}  // namespace cudamoe::test
