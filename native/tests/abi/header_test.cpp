#include "abi/header.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <set>
#include <sstream>

#include "abi/calls.h"
#include "compile/header_c99.h"
#include "cudamoe.h"

namespace cudamoe::test {
namespace {

#if defined(__linux__)
std::set<std::string> exported_symbols() {
  const std::string command = "nm -D --defined-only '" CUDAMOE_LIBRARY "'";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  if (pipe == nullptr) throw std::runtime_error("cannot run " + command);
  std::set<std::string> symbols;
  std::array<char, 4096> line;
  while (std::fgets(line.data(), line.size(), pipe.get()) != nullptr) {
    std::istringstream words(line.data());
    std::string address, kind, name;
    words >> address >> kind >> name;
    if (kind != "A") symbols.insert(name.substr(0, name.find('@')));
  }
  return symbols;
}

TEST(Header, DeclaresWhatTheLibraryExportsAndNothingElse) {
  const std::set<std::string> declared(header().functions.begin(), header().functions.end());
  EXPECT_GT(declared.size(), 30u);
  EXPECT_EQ(exported_symbols(), declared);
}
#endif

TEST(Header, DeclaresEveryOperationAndQueryOfTheBackendTable) {
  const std::set<std::string> declared(header().functions.begin(), header().functions.end());
  for (const Call& call : all_calls()) EXPECT_EQ(declared.count(call.function), 1u) << call.function;
}

// Functions that are neither an operation nor a query are tested by hand, in handles_test.cpp.
TEST(Header, HasNoFunctionThatNoTableHolds) {
  std::set<std::string> known = {"cudamoe_abi_version",       "cudamoe_version",
                                 "cudamoe_last_error",        "cudamoe_struct_size",
                                 "cudamoe_backend_count",     "cudamoe_backend_get_info",
                                 "cudamoe_device_open",       "cudamoe_device_close",
                                 "cudamoe_device_get_info",   "cudamoe_memory_allocate",
                                 "cudamoe_memory_free",       "cudamoe_memory_copy",
                                 "cudamoe_memory_fill",       "cudamoe_host_allocate",
                                 "cudamoe_host_free",         "cudamoe_stream_create",
                                 "cudamoe_stream_destroy",    "cudamoe_stream_synchronize",
                                 "cudamoe_capture_begin",     "cudamoe_capture_end",
                                 "cudamoe_capture_launch",    "cudamoe_capture_destroy",
                                 "cudamoe_device_get_notes",  "cudamoe_stream_wrap",
                                 "cudamoe_stream_get_native", "cudamoe_memory_allocate_mapped",
                                 "cudamoe_step_numbers_make"};
  for (const Call& call : all_calls()) known.insert(call.function);
  for (const std::string& function : header().functions) EXPECT_EQ(known.count(function), 1u) << function;
}

TEST(Header, LayoutByTheRulesOfCIsTheLibrarys) {
  ASSERT_GT(header().structs.size(), 20u);
  for (const Struct& declared : header().structs) EXPECT_EQ(cudamoe_struct_size(declared.name.c_str()), declared.bytes) << declared.name;
}

TEST(Header, ArgumentAndInfoStructsBeginWithStructSize) {
  const auto ends_with = [](const std::string& text, const std::string& end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
  };
  int found = 0;
  for (const Struct& declared : header().structs) {
    if (!ends_with(declared.name, "_args") && !ends_with(declared.name, "_info")) continue;
    ++found;
    ASSERT_FALSE(declared.fields.empty()) << declared.name;
    EXPECT_EQ(declared.fields[0].name, "struct_size") << declared.name;
    EXPECT_EQ(declared.fields[0].type, "uint32_t") << declared.name;
  }
  EXPECT_GT(found, 20);
}

// Bytes that no field covers would be undefined in a caller's struct, yet a newer library could not tell.
TEST(Header, StructsHaveNoHiddenPadding) {
  for (const Struct& declared : header().structs) {
    int64_t end = 0;
    for (const Field& field : declared.fields) {
      EXPECT_EQ(field.offset, end) << declared.name << ": padding before " << field.name;
      end = field.offset + field.bytes;
    }
    EXPECT_EQ(declared.bytes, end) << declared.name << ": padding at the end";
  }
}

TEST(Header, MeansTheSameToACCompiler) {
  EXPECT_EQ(header_c99_abi_version(), cudamoe_abi_version());
  int compared = 0;
  for (const Struct& declared : header().structs) {
    const int64_t size = header_c99_size(declared.name.c_str());
    if (size < 0) continue;
    ++compared;
    EXPECT_EQ(size, cudamoe_struct_size(declared.name.c_str())) << declared.name;
  }
  EXPECT_EQ(compared, 12);
}

TEST(StructSize, IsMinusOneForUnknownNames) {
  for (const char* name : {"", "cudamoe_", "cudamoe_gemm_forward", "CUDAMOE_GEMM_FORWARD_ARGS", "cudamoe_gemm_forward_args "}) {
    EXPECT_EQ(cudamoe_struct_size(name), -1) << name;
  }
  EXPECT_EQ(cudamoe_struct_size(nullptr), -1);
}

}  // namespace
}  // namespace cudamoe::test
