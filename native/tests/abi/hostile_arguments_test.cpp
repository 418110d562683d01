// Random and hostile argument structs for every operation and query. A call must come back, with CUDAMOE_OK or with an error that names
// the function; it must never crash, and never answer with an internal error.
//
// Three kinds of arguments are made from the fields that cudamoe.h declares:
//   wild     every field has random bits, pointers are null: no value of a count, stride or flag may make a call read through null;
//   extreme  every number is drawn from values at the edges of what is allowed, device pointers are null, host arrays are valid and hold
//            structs of the same kind: products of counts must not overflow;
//   small    numbers are small or forbidden, pointers are null, misaligned or lead to zeroed memory of their own: what passes the
//            checks runs, within 64 KiB a pointer.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <string>

#include "abi/calls.h"
#include "abi/header.h"
#include "support/random.h"
#include "support/test_device.h"

namespace cudamoe::test {
namespace {

constexpr int kTrials = 5000;
constexpr int64_t kRegion = 64 << 10;
constexpr int64_t kWorkspace = 4 << 20;
constexpr int64_t kHostStructs = 3;  // in a host array, so its count is drawn from -1 .. 3

// Zeroed memory for one pointer, aligned to 64 bytes, without slack: under AddressSanitizer any access outside stops the test.
class Region {
 public:
  explicit Region(int64_t bytes) : bytes_(bytes), memory_(static_cast<unsigned char*>(::operator new(static_cast<size_t>(bytes), kAlign))) {
    clear();
  }
  Region(Region&& other) noexcept : bytes_(other.bytes_), memory_(std::exchange(other.memory_, nullptr)) {}
  Region(const Region&) = delete;
  ~Region() {
    if (memory_ != nullptr) ::operator delete(memory_, kAlign);
  }

  void clear() { std::memset(memory_, 0, static_cast<size_t>(bytes_)); }
  unsigned char* data() { return memory_; }

 private:
  static constexpr std::align_val_t kAlign{64};
  int64_t bytes_;
  unsigned char* memory_;
};

enum class Kind { kWild, kExtreme, kSmall };

class ArgumentMaker {
 public:
  ArgumentMaker(Kind kind, Random& random) : kind_(kind), random_(random) {}

  void fill(const Struct& type, unsigned char* bytes, const std::string& path = "") {
    for (const Field& field : type.fields) {
      if (field.name == "struct_size") continue;
      unsigned char* at = bytes + field.offset;
      if (field.pointer) {
        store(at, pointer(field, path + field.name));
      } else if (kind_ == Kind::kWild && !is_host_count(field.name)) {
        for (int64_t i = 0; i < field.bytes; ++i) at[i] = static_cast<unsigned char>(random_.next());
      } else if (field.type == "float") {
        store(at, number());
      } else if (field.bytes == sizeof(int32_t)) {
        store(at, is_host_count(field.name) ? static_cast<int32_t>(random_.integer(-1, kHostStructs)) : integer32());
      } else {
        ASSERT_EQ(field.bytes, static_cast<int64_t>(sizeof(int64_t))) << field.name << ": a field of a size that is not drawn here";
        store(at, field.name == "workspace_bytes" || field.name == "packed_bytes" ? memory_size() : integer64());
      }
    }
  }

  // After a call that succeeded: what it wrote is zeroed again.
  void clear_regions() {
    for (auto& [path, region] : regions_) region.clear();
  }

 private:
  template <class T>
  static void store(unsigned char* at, T value) {
    std::memcpy(at, &value, sizeof value);
  }

  template <class T, size_t N>
  T pick(const std::array<T, N>& values) {
    return values[static_cast<size_t>(random_.integer(0, static_cast<int64_t>(N) - 1))];
  }

  static bool is_host_count(const std::string& name) {
    return name == "table_count" || name == "feature_count" || name == "task_count" || name == "tensor_count";
  }

  unsigned char* region(const std::string& path, int64_t bytes) { return regions_.try_emplace(path, bytes).first->second.data(); }

  void* pointer(const Field& field, const std::string& path) {
    if (kind_ == Kind::kWild || random_.integer(0, 7) == 0) return nullptr;
    if (const Struct* element = header().find(field.type); element != nullptr) {
      unsigned char* structs = region(path, kHostStructs * element->bytes);
      for (int64_t i = 0; i < kHostStructs; ++i) fill(*element, structs + i * element->bytes, path + std::to_string(i) + ".");
      return structs;
    }
    if (kind_ == Kind::kExtreme && !field.host) return nullptr;
    unsigned char* memory = region(path, field.name == "workspace" ? kWorkspace : kRegion);
    return random_.integer(0, 15) == 0 ? memory + random_.integer(1, 3) : memory;
  }

  float number() {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    return pick(
        std::array{0.f, 1.f, 0.5f, 0.9f, 1e-8f, -1.f, 3e38f, 1e-45f, kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()});
  }

  int32_t integer32() {
    constexpr int32_t kMin = std::numeric_limits<int32_t>::min(), kMax = std::numeric_limits<int32_t>::max();
    if (kind_ == Kind::kExtreme) return pick(std::array{0, 1, 2, 3, 5, -1, 64, 65, 4096, 65535, 65536, 1 << 30, kMin, kMax});
    return random_.integer(0, 19) == 0 ? pick(std::array{-1, kMin}) : static_cast<int32_t>(random_.integer(0, 3));
  }

  int64_t integer64() {
    constexpr int64_t kMin = std::numeric_limits<int64_t>::min(), kMax = std::numeric_limits<int64_t>::max(), kOne = 1;
    if (kind_ == Kind::kExtreme) {
      return pick(std::array{int64_t{0}, kOne, int64_t{7}, -kOne, kOne << 20, kOne << 31, kOne << 40, kOne << 47, kOne << 48,
                             (kOne << 48) + 1, kOne << 60, kMax, kMin});
    }
    if (random_.integer(0, 19) == 0) return pick(std::array{-kOne, kMin, kMax, (kOne << 48) + 1});
    return random_.integer(0, 5);
  }

  int64_t memory_size() {
    if (kind_ == Kind::kExtreme) return integer64();
    return pick(std::array{int64_t{0}, int64_t{-1}, kRegion, kWorkspace, kWorkspace, kWorkspace});
  }

  Kind kind_;
  Random& random_;
  std::map<std::string, Region> regions_;
};

class HostileArguments : public ::testing::TestWithParam<Call> {
 protected:
  void run(Kind kind) {
    const Call& call = GetParam();
    const Struct* type = header().find(call.arguments);
    ASSERT_NE(type, nullptr) << call.arguments;
    ASSERT_EQ(type->bytes, call.bytes);
    TestDevice device;
    Random random;
    ArgumentMaker maker(kind, random);
    int refused = 0;
    for (int trial = 0; trial < kTrials; ++trial) {
      Arguments args(call.bytes);
      maker.fill(*type, args.bytes());
      int64_t bytes = 0;
      const cudamoe_status status = call.invoke(device.stream(), args.pointer(), &bytes);
      ASSERT_GE(bytes, 0) << "trial " << trial;
      if (status == CUDAMOE_OK) {
        if (!call.query) maker.clear_regions();
        continue;
      }
      ++refused;
      const std::string text = last_error();
      ASSERT_TRUE(status == CUDAMOE_ERROR_ARGUMENT || status == CUDAMOE_ERROR_UNSUPPORTED || status == CUDAMOE_ERROR_OUT_OF_MEMORY)
          << "trial " << trial << ": status " << status << ": " << text;
      ASSERT_EQ(text.rfind(call.function + ": ", 0), 0u) << "trial " << trial << ": " << text;
    }
    EXPECT_GT(refused, kTrials / 20);
    // Bad data that a call met is reported here, which is right; only the device must still work.
    cudamoe_stream_synchronize(device.stream());
    CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
  }
};

TEST_P(HostileArguments, WildBits) { run(Kind::kWild); }
TEST_P(HostileArguments, ExtremeNumbers) { run(Kind::kExtreme); }
TEST_P(HostileArguments, SmallShapesAndBrokenRules) { run(Kind::kSmall); }

INSTANTIATE_TEST_SUITE_P(Abi, HostileArguments, ::testing::ValuesIn(all_calls()),
                         [](const ::testing::TestParamInfo<Call>& call) { return call.param.function; });

}  // namespace
}  // namespace cudamoe::test
