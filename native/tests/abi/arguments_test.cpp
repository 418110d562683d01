// What every operation and query does with streams and argument structs that are not what they should be.
#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <string>

#include "abi/calls.h"
#include "abi/header.h"
#include "support/test_device.h"

namespace cudamoe::test {
namespace {

class EveryCall : public ::testing::TestWithParam<Call> {
 protected:
  cudamoe_status invoke(cudamoe_stream* stream, Arguments& args) { return GetParam().invoke(stream, args.pointer(), &result_); }

  // The message of the last error must name the function and `words`.
  void expect_message(const std::string& words) {
    const std::string text = last_error();
    EXPECT_EQ(text.rfind(GetParam().function + ": ", 0), 0u) << text;
    EXPECT_NE(text.find(words), std::string::npos) << text;
  }

  TestDevice device_;
  int64_t result_ = 0;
};

TEST_P(EveryCall, RefusesAnythingThatIsNotALiveStream) {
  cudamoe_stream* destroyed = nullptr;
  CUDAMOE_ASSERT_OK(cudamoe_stream_create(device_.device(), &destroyed));
  CUDAMOE_ASSERT_OK(cudamoe_stream_destroy(destroyed));
  alignas(64) unsigned char own_memory[256] = {};
  const auto pointer = [](uintptr_t address) { return reinterpret_cast<cudamoe_stream*>(address); };
  Arguments args(GetParam().bytes);

  EXPECT_EQ(invoke(nullptr, args), CUDAMOE_ERROR_ARGUMENT);
  expect_message("stream is null");
  const auto stream_address = reinterpret_cast<uintptr_t>(device_.stream());
  for (cudamoe_stream* foreign :
       {destroyed, reinterpret_cast<cudamoe_stream*>(own_memory), reinterpret_cast<cudamoe_stream*>(device_.device()), pointer(1),
        pointer(8), pointer(UINTPTR_MAX), pointer(stream_address + 1), pointer(stream_address + 8)}) {
    EXPECT_EQ(invoke(foreign, args), CUDAMOE_ERROR_ARGUMENT) << static_cast<void*>(foreign);
    expect_message("is not a live stream");
  }
}

TEST_P(EveryCall, RefusesNullArguments) {
  EXPECT_EQ(GetParam().invoke(device_.stream(), nullptr, &result_), CUDAMOE_ERROR_ARGUMENT);
  expect_message("args is null");
}

TEST_P(EveryCall, RefusesStructsThatAreTooSmall) {
  const uint32_t whole = GetParam().bytes;
  for (const uint32_t size : {0u, 1u, 4u, 8u, whole / 2, whole - 8, whole - 1}) {
    Arguments args(size);
    EXPECT_EQ(invoke(device_.stream(), args), CUDAMOE_ERROR_ARGUMENT) << size;
    expect_message("struct_size is " + std::to_string(size));
    expect_message("at least " + std::to_string(whole));
  }
}

TEST_P(EveryCall, RefusesStructsThatAreTooLarge) {
  Arguments args(GetParam().bytes);
  for (const uint32_t size : {65537u, 0x7FFFFFFFu, 0xFFFFFFFFu}) {
    args.set_struct_size(size);
    EXPECT_EQ(invoke(device_.stream(), args), CUDAMOE_ERROR_ARGUMENT) << size;
    expect_message("struct_size is " + std::to_string(size));
  }
}

TEST_P(EveryCall, RefusesUnknownFieldsThatAreSet) {
  const uint32_t whole = GetParam().bytes;
  for (const uint32_t extra : {1u, 8u, 100u}) {
    for (const uint32_t set : {0u, extra - 1}) {
      Arguments args(whole + extra);
      args.bytes()[whole + set] = 1;
      EXPECT_EQ(invoke(device_.stream(), args), CUDAMOE_ERROR_ARGUMENT);
      expect_message("byte " + std::to_string(whole + set));
    }
  }
}

TEST_P(EveryCall, TakesUnknownFieldsThatAreZero) {
  Arguments exact(GetParam().bytes);
  const cudamoe_status status = invoke(device_.stream(), exact);
  const std::string text = status == CUDAMOE_OK ? "" : last_error();
  for (const uint32_t extra : {1u, 8u, 1000u}) {
    Arguments larger(GetParam().bytes + extra);
    EXPECT_EQ(invoke(device_.stream(), larger), status);
    EXPECT_EQ(status == CUDAMOE_OK ? "" : last_error(), text);
  }
}

TEST_P(EveryCall, QueryRefusesANullResult) {
  if (!GetParam().query) return;
  Arguments args(GetParam().bytes);
  EXPECT_EQ(GetParam().invoke(device_.stream(), args.pointer(), nullptr), CUDAMOE_ERROR_ARGUMENT);
  expect_message("bytes is null");
}

// A zero in every field is an empty request for some operations and breaks a rule of the others.
TEST_P(EveryCall, AnswersAllZeros) {
  Arguments args(GetParam().bytes);
  const cudamoe_status status = invoke(device_.stream(), args);
  static const std::set<std::string> kEmptyRequests = {
      "cudamoe_balance_average",          "cudamoe_graph_transpose_workspace", "cudamoe_loss",
      "cudamoe_loss_workspace",           "cudamoe_optimizer_norm_workspace",  "cudamoe_sequence_maximum_forward",
      "cudamoe_sequence_maximum_backward"};
  const bool empty_request = kEmptyRequests.count(GetParam().function) != 0;
  EXPECT_EQ(status, empty_request ? CUDAMOE_OK : CUDAMOE_ERROR_ARGUMENT) << last_error();
  if (status != CUDAMOE_OK) expect_message(" is ");
}

// Every count is -1, every flag out of range, every pointer misaligned, every number NaN.
TEST_P(EveryCall, RefusesAllOnes) {
  Arguments args(GetParam().bytes, 0xFF);
  EXPECT_EQ(invoke(device_.stream(), args), CUDAMOE_ERROR_ARGUMENT);
  expect_message(" is ");
}

INSTANTIATE_TEST_SUITE_P(Abi, EveryCall, ::testing::ValuesIn(all_calls()),
                         [](const ::testing::TestParamInfo<Call>& call) { return call.param.function; });

}  // namespace
}  // namespace cudamoe::test
