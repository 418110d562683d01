// Devices, streams, memory and error texts used in every wrong way.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "abi/calls.h"
#include "cudamoe.h"
#include "support/test_device.h"

namespace cudamoe::test {
namespace {

cudamoe_device* open_cpu() {
  cudamoe_device* device = nullptr;
  EXPECT_EQ(cudamoe_device_open("cpu:threads=1", &device), CUDAMOE_OK) << last_error();
  return device;
}

// Pointers that are no handle: null is treated apart.
std::vector<void*> foreign_pointers(void* own_memory) {
  return {own_memory, reinterpret_cast<void*>(1), reinterpret_cast<void*>(8), reinterpret_cast<void*>(UINTPTR_MAX)};
}

TEST(Handles, DeviceClosedTwiceIsRefused) {
  cudamoe_device* device = open_cpu();
  CUDAMOE_EXPECT_OK(cudamoe_device_close(device));
  CUDAMOE_EXPECT_REFUSED(cudamoe_device_close(device), "cudamoe_device_close: device ");
  CUDAMOE_EXPECT_REFUSED(cudamoe_device_close(device), "is not an open device");
}

TEST(Handles, StreamDestroyedTwiceIsRefused) {
  cudamoe_device* device = open_cpu();
  cudamoe_stream* stream = nullptr;
  CUDAMOE_ASSERT_OK(cudamoe_stream_create(device, &stream));
  CUDAMOE_EXPECT_OK(cudamoe_stream_destroy(stream));
  CUDAMOE_EXPECT_REFUSED(cudamoe_stream_destroy(stream), "is not a live stream");
  CUDAMOE_EXPECT_OK(cudamoe_device_close(device));
}

TEST(Handles, NullIsReleasedSilently) {
  CUDAMOE_EXPECT_OK(cudamoe_device_close(nullptr));
  CUDAMOE_EXPECT_OK(cudamoe_stream_destroy(nullptr));
  CUDAMOE_EXPECT_OK(cudamoe_memory_free(nullptr, nullptr));
}

TEST(Handles, DeviceWithLiveStreamsStaysOpen) {
  cudamoe_device* device = open_cpu();
  cudamoe_stream* first = nullptr;
  cudamoe_stream* second = nullptr;
  CUDAMOE_ASSERT_OK(cudamoe_stream_create(device, &first));
  CUDAMOE_ASSERT_OK(cudamoe_stream_create(device, &second));
  CUDAMOE_EXPECT_REFUSED(cudamoe_device_close(device), "2 streams are still open");
  CUDAMOE_EXPECT_OK(cudamoe_stream_destroy(first));
  CUDAMOE_EXPECT_REFUSED(cudamoe_device_close(device), "1 streams are still open");
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(second));
  CUDAMOE_EXPECT_OK(cudamoe_stream_destroy(second));
  CUDAMOE_EXPECT_OK(cudamoe_device_close(device));
}

TEST(Handles, ClosedDeviceIsRefusedEverywhere) {
  cudamoe_device* device = open_cpu();
  CUDAMOE_ASSERT_OK(cudamoe_device_close(device));
  cudamoe_device_info info{};
  info.struct_size = sizeof info;
  void* memory = nullptr;
  cudamoe_stream* stream = nullptr;
  int target = 0;
  CUDAMOE_EXPECT_REFUSED(cudamoe_device_get_info(device, &info), "cudamoe_device_get_info: device ");
  CUDAMOE_EXPECT_REFUSED(cudamoe_memory_allocate(device, 64, &memory), "cudamoe_memory_allocate: device ");
  CUDAMOE_EXPECT_REFUSED(cudamoe_memory_free(device, &target), "cudamoe_memory_free: device ");
  CUDAMOE_EXPECT_REFUSED(cudamoe_stream_create(device, &stream), "cudamoe_stream_create: device ");
  EXPECT_EQ(memory, nullptr);
  EXPECT_EQ(stream, nullptr);
}

TEST(Handles, ForeignPointersAreNoHandles) {
  TestDevice own;
  alignas(64) unsigned char bytes[512] = {};
  std::vector<void*> pointers = foreign_pointers(bytes);
  pointers.push_back(own.stream());  // a handle of the other kind
  for (void* pointer : pointers) {
    auto* device = static_cast<cudamoe_device*>(pointer);
    cudamoe_device_info info{};
    info.struct_size = sizeof info;
    void* memory = nullptr;
    CUDAMOE_EXPECT_REFUSED(cudamoe_device_close(device), "is not an open device");
    CUDAMOE_EXPECT_REFUSED(cudamoe_device_get_info(device, &info), "is not an open device");
    int64_t length = 0;
    CUDAMOE_EXPECT_REFUSED(cudamoe_device_get_notes(device, nullptr, 0, &length), "is not an open device");
    CUDAMOE_EXPECT_REFUSED(cudamoe_memory_allocate(device, 64, &memory), "is not an open device");
  }
  pointers.back() = own.device();
  for (void* pointer : pointers) {
    auto* stream = static_cast<cudamoe_stream*>(pointer);
    CUDAMOE_EXPECT_REFUSED(cudamoe_stream_destroy(stream), "is not a live stream");
    CUDAMOE_EXPECT_REFUSED(cudamoe_stream_synchronize(stream), "is not a live stream");
    CUDAMOE_EXPECT_REFUSED(cudamoe_memory_fill(stream, bytes, 0, 1), "is not a live stream");
    CUDAMOE_EXPECT_REFUSED(cudamoe_memory_copy(stream, bytes, bytes + 64, 1, CUDAMOE_HOST_TO_DEVICE), "is not a live stream");
  }
}

TEST(Handles, StreamsOfTheCpuAreItsOwn) {
  TestDevice own("cpu");
  cudamoe_stream* stream = nullptr;
  void* native = nullptr;
  int target = 0;
  EXPECT_EQ(cudamoe_stream_get_native(own.stream(), &native), CUDAMOE_ERROR_UNSUPPORTED);
  EXPECT_EQ(cudamoe_stream_wrap(own.device(), &target, &stream), CUDAMOE_ERROR_UNSUPPORTED);
  EXPECT_EQ(stream, nullptr);
  CUDAMOE_EXPECT_REFUSED(cudamoe_stream_wrap(own.device(), nullptr, &stream), "native is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_stream_wrap(own.device(), &target, nullptr), "stream is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_stream_wrap(nullptr, &target, &stream), "device is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_stream_get_native(own.stream(), nullptr), "native is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_stream_get_native(nullptr, &native), "stream is null");
}

TEST(Handles, ManyStreamsAreAllAlive) {
  cudamoe_device* device = open_cpu();
  std::vector<cudamoe_stream*> streams(1000);
  for (cudamoe_stream*& stream : streams) CUDAMOE_ASSERT_OK(cudamoe_stream_create(device, &stream));
  EXPECT_EQ(std::set<cudamoe_stream*>(streams.begin(), streams.end()).size(), streams.size());
  for (cudamoe_stream* stream : streams) CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(stream));
  for (cudamoe_stream* stream : streams) CUDAMOE_EXPECT_OK(cudamoe_stream_destroy(stream));
  for (cudamoe_stream* stream : streams) EXPECT_EQ(cudamoe_stream_synchronize(stream), CUDAMOE_ERROR_ARGUMENT);
  CUDAMOE_EXPECT_OK(cudamoe_device_close(device));
}

TEST(Handles, OfManyThreadsThatDestroyAStreamOneSucceeds) {
  cudamoe_device* device = open_cpu();
  for (int round = 0; round < 50; ++round) {
    cudamoe_stream* stream = nullptr;
    CUDAMOE_ASSERT_OK(cudamoe_stream_create(device, &stream));
    std::atomic<int> succeeded{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back([&] { succeeded += cudamoe_stream_destroy(stream) == CUDAMOE_OK; });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(succeeded.load(), 1);
  }
  CUDAMOE_EXPECT_OK(cudamoe_device_close(device));
}

TEST(Handles, NullResultsAreRefused) {
  TestDevice own;
  CUDAMOE_EXPECT_REFUSED(cudamoe_device_open("cpu", nullptr), "device is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_stream_create(own.device(), nullptr), "stream is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_memory_allocate(own.device(), 8, nullptr), "pointer is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_device_get_info(own.device(), nullptr), "args is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_backend_get_info(0, nullptr), "args is null");
}

TEST(Handles, NotesAreCheckedAndEmptyWhereThereIsNothingToSay) {
  TestDevice own;
  char buffer[8] = "before";
  int64_t length = -1;
  CUDAMOE_EXPECT_REFUSED(cudamoe_device_get_notes(own.device(), buffer, -1, &length), "capacity is -1");
  CUDAMOE_EXPECT_REFUSED(cudamoe_device_get_notes(own.device(), nullptr, 8, &length), "buffer is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_device_get_notes(own.device(), buffer, 8, nullptr), "bytes is null");
  EXPECT_STREQ(buffer, "before");
  CUDAMOE_EXPECT_OK(cudamoe_device_get_notes(own.device(), buffer, 8, &length));
  EXPECT_EQ(length, 0);
  EXPECT_STREQ(buffer, "");
}

TEST(Memory, SizesThatCannotBeAreRefused) {
  TestDevice own;
  void* memory = &own;
  for (const int64_t bytes :
       {int64_t{-1}, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(), (int64_t{1} << 48) + 1}) {
    CUDAMOE_EXPECT_REFUSED(cudamoe_memory_allocate(own.device(), bytes, &memory), "bytes is " + std::to_string(bytes));
  }
}

TEST(Memory, MoreThanTheMachineHasIsOutOfMemory) {
  TestDevice own;
  for (const int64_t bytes : {int64_t{1} << 48, (int64_t{1} << 47) - 3, own.info().memory_bytes + 1}) {
    void* memory = &own;
    EXPECT_EQ(cudamoe_memory_allocate(own.device(), bytes, &memory), CUDAMOE_ERROR_OUT_OF_MEMORY) << bytes;
    EXPECT_NE(last_error().find("cudamoe_memory_allocate: " + std::to_string(bytes) + " bytes"), std::string::npos) << last_error();
    EXPECT_EQ(memory, nullptr);
  }
  EXPECT_EQ(own.info().live_allocations, 0);
  EXPECT_EQ(own.info().live_bytes, 0);
}

TEST(Memory, IsZeroedAlignedAndCounted) {
  TestDevice own;
  int64_t sum = 0;
  std::vector<void*> all;
  for (const int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{63}, int64_t{4096}, int64_t{4} << 20, (int64_t{4} << 20) + 1}) {
    void* memory = nullptr;
    CUDAMOE_ASSERT_OK(cudamoe_memory_allocate(own.device(), bytes, &memory));
    ASSERT_NE(memory, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % (bytes >= (4 << 20) ? 2 << 20 : 64), 0u) << bytes;
    std::vector<unsigned char> host(static_cast<size_t>(bytes), 0xCD);
    CUDAMOE_EXPECT_OK(cudamoe_memory_copy(own.stream(), host.data(), memory, bytes, CUDAMOE_DEVICE_TO_HOST));
    EXPECT_TRUE(std::all_of(host.begin(), host.end(), [](unsigned char byte) { return byte == 0; })) << bytes;
    CUDAMOE_EXPECT_OK(cudamoe_memory_fill(own.stream(), memory, 0xCD, bytes));
    all.push_back(memory);
    sum += bytes;
    EXPECT_EQ(own.info().live_bytes, sum);
    EXPECT_EQ(own.info().live_allocations, static_cast<int64_t>(all.size()));
  }
  EXPECT_EQ(std::set<void*>(all.begin(), all.end()).size(), all.size());
  for (void* memory : all) CUDAMOE_EXPECT_OK(cudamoe_memory_free(own.device(), memory));
  EXPECT_EQ(own.info().live_bytes, 0);
}

TEST(MappedMemory, IsZeroedCopiedFilledAndCountedApart) {
  TestDevice own;
  constexpr int64_t kBytes = 100000;
  void *mapped = nullptr, *on_device = nullptr, *empty = nullptr;
  CUDAMOE_ASSERT_OK(cudamoe_memory_allocate_mapped(own.device(), 0, &empty));
  CUDAMOE_ASSERT_OK(cudamoe_memory_allocate_mapped(own.device(), kBytes, &mapped));
  CUDAMOE_ASSERT_OK(cudamoe_memory_allocate(own.device(), kBytes, &on_device));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(mapped) % 64, 0u);
  EXPECT_EQ(own.info().mapped_bytes, kBytes);
  EXPECT_EQ(own.info().live_bytes, kBytes);
  EXPECT_EQ(own.info().live_allocations, 3);
  std::vector<unsigned char> host(kBytes, 0xCD);
  const auto read = [&](const void* source) {
    CUDAMOE_EXPECT_OK(cudamoe_memory_copy(own.stream(), host.data(), source, kBytes, CUDAMOE_DEVICE_TO_HOST));
    return host;
  };
  EXPECT_EQ(read(mapped), std::vector<unsigned char>(kBytes, 0));
  CUDAMOE_EXPECT_OK(cudamoe_memory_fill(own.stream(), mapped, 7, kBytes));
  CUDAMOE_EXPECT_OK(cudamoe_memory_copy(own.stream(), on_device, mapped, kBytes, CUDAMOE_DEVICE_TO_DEVICE));
  EXPECT_EQ(read(on_device), std::vector<unsigned char>(kBytes, 7));
  std::vector<unsigned char> values(kBytes);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<unsigned char>(i * 7 + i / 256);
  CUDAMOE_EXPECT_OK(cudamoe_memory_copy(own.stream(), mapped, values.data(), kBytes, CUDAMOE_HOST_TO_DEVICE));
  EXPECT_EQ(read(mapped), values);
  // The host has it at the same address.
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(own.stream()));
  EXPECT_EQ(std::memcmp(mapped, values.data(), kBytes), 0);
  CUDAMOE_EXPECT_OK(cudamoe_memory_copy(own.stream(), mapped, on_device, kBytes, CUDAMOE_DEVICE_TO_DEVICE));
  EXPECT_EQ(read(mapped), std::vector<unsigned char>(kBytes, 7));
  CUDAMOE_EXPECT_REFUSED(cudamoe_host_free(own.device(), mapped), "is not live host memory of this device");
  CUDAMOE_EXPECT_REFUSED(cudamoe_device_close(own.device()), "streams are still open");
  // Freeing it waits for what is queued.
  CUDAMOE_EXPECT_OK(cudamoe_memory_fill(own.stream(), mapped, 9, kBytes));
  CUDAMOE_EXPECT_OK(cudamoe_memory_copy(own.stream(), on_device, mapped, kBytes, CUDAMOE_DEVICE_TO_DEVICE));
  CUDAMOE_EXPECT_OK(cudamoe_memory_free(own.device(), mapped));
  CUDAMOE_EXPECT_REFUSED(cudamoe_memory_free(own.device(), mapped), "is not a live allocation of this device");
  EXPECT_EQ(read(on_device), std::vector<unsigned char>(kBytes, 9));
  CUDAMOE_EXPECT_OK(cudamoe_memory_free(own.device(), empty));
  EXPECT_EQ(own.info().mapped_bytes, 0);
  EXPECT_EQ(own.info().live_bytes, kBytes);
  CUDAMOE_EXPECT_OK(cudamoe_memory_free(own.device(), on_device));
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(own.stream()));
}

TEST(MappedMemory, OfAWrongSizeIsRefusedAndTooMuchIsOutOfMemory) {
  TestDevice own;
  void* memory = &own;
  CUDAMOE_EXPECT_REFUSED(cudamoe_memory_allocate_mapped(own.device(), -1, &memory), "cudamoe_memory_allocate_mapped: bytes is -1");
  CUDAMOE_EXPECT_REFUSED(cudamoe_memory_allocate_mapped(own.device(), 8, nullptr), "pointer is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_memory_allocate_mapped(nullptr, 8, &memory), "device is null");
  EXPECT_EQ(cudamoe_memory_allocate_mapped(own.device(), int64_t{1} << 47, &memory), CUDAMOE_ERROR_OUT_OF_MEMORY);
  EXPECT_NE(last_error().find("cudamoe_memory_allocate_mapped: "), std::string::npos) << last_error();
  EXPECT_NE(last_error().find(std::to_string(int64_t{1} << 47) + " bytes"), std::string::npos) << last_error();
  EXPECT_EQ(memory, nullptr);
  EXPECT_EQ(own.info().mapped_bytes, 0);
  EXPECT_EQ(own.info().live_allocations, 0);
  // The device goes on.
  CUDAMOE_EXPECT_OK(cudamoe_memory_allocate_mapped(own.device(), 8, &memory));
  CUDAMOE_EXPECT_OK(cudamoe_memory_free(own.device(), memory));
}

TEST(Memory, OnlyLivePointersOfTheDeviceAreFreed) {
  TestDevice own, other;
  void* memory = nullptr;
  CUDAMOE_ASSERT_OK(cudamoe_memory_allocate(own.device(), 1000, &memory));
  int local = 0;
  std::vector<void*> pointers = foreign_pointers(&local);
  pointers.push_back(static_cast<char*>(memory) + 64);
  for (void* pointer : pointers)
    CUDAMOE_EXPECT_REFUSED(cudamoe_memory_free(own.device(), pointer), "is not a live allocation of this device");
  CUDAMOE_EXPECT_REFUSED(cudamoe_memory_free(other.device(), memory), "is not a live allocation of this device");
  CUDAMOE_EXPECT_OK(cudamoe_memory_free(own.device(), memory));
  CUDAMOE_EXPECT_REFUSED(cudamoe_memory_free(own.device(), memory), "is not a live allocation of this device");
}

TEST(HostMemory, IsAlignedAndOnlyItsDeviceFreesIt) {
  std::vector<std::string> specs{"cpu:threads=1"};
#if !defined(_WIN32)  // the executor is not built there
  specs.push_back("simt");
#endif
  for (const std::string& spec : specs) {
    TestDevice own(spec), other(spec);
    for (const int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{5000}, int64_t{5} << 20}) {
      void* memory = nullptr;
      CUDAMOE_ASSERT_OK(cudamoe_host_allocate(own.device(), bytes, &memory));
      ASSERT_NE(memory, nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % 64, 0u);
      std::memset(memory, 0xCD, static_cast<size_t>(bytes));
      CUDAMOE_EXPECT_REFUSED(cudamoe_host_free(other.device(), memory), "is not live host memory of this device");
      CUDAMOE_EXPECT_REFUSED(cudamoe_memory_free(own.device(), memory), "is not a live allocation of this device");
      CUDAMOE_EXPECT_OK(cudamoe_host_free(own.device(), memory));
      CUDAMOE_EXPECT_REFUSED(cudamoe_host_free(own.device(), memory), "is not live host memory of this device");
    }
    void* memory = nullptr;
    CUDAMOE_EXPECT_REFUSED(cudamoe_host_allocate(own.device(), -1, &memory), "bytes is -1");
    CUDAMOE_EXPECT_REFUSED(cudamoe_host_allocate(own.device(), 1, nullptr), "pointer is null");
    CUDAMOE_EXPECT_REFUSED(cudamoe_host_allocate(nullptr, 1, &memory), "device is null");
    CUDAMOE_EXPECT_OK(cudamoe_host_free(own.device(), nullptr));
    EXPECT_EQ(cudamoe_host_allocate(own.device(), own.info().memory_bytes + 1, &memory), CUDAMOE_ERROR_OUT_OF_MEMORY);
    EXPECT_EQ(memory, nullptr);
    EXPECT_EQ(own.info().live_allocations, 0);
  }
}

TEST(HostMemory, KeepsItsDeviceOpen) {
  cudamoe_device* device = open_cpu();
  void* memory = nullptr;
  CUDAMOE_ASSERT_OK(cudamoe_host_allocate(device, 8, &memory));
  CUDAMOE_EXPECT_REFUSED(cudamoe_device_close(device), "1 host allocations are still live");
  CUDAMOE_EXPECT_OK(cudamoe_host_free(device, memory));
  CUDAMOE_EXPECT_OK(cudamoe_device_close(device));
}

TEST(Memory, CopyAndFillCheckTheirArguments) {
  TestDevice own;
  unsigned char bytes[256] = {};
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min(), kMax = std::numeric_limits<int64_t>::max();
  for (const int64_t count : {int64_t{-1}, kMin, kMax}) {
    CUDAMOE_EXPECT_REFUSED(cudamoe_memory_copy(own.stream(), bytes, bytes + 128, count, CUDAMOE_HOST_TO_DEVICE), "bytes is ");
    CUDAMOE_EXPECT_REFUSED(cudamoe_memory_fill(own.stream(), bytes, 0, count), "bytes is ");
  }
  for (const int32_t direction : {-1, 3, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()}) {
    CUDAMOE_EXPECT_REFUSED(cudamoe_memory_copy(own.stream(), bytes, bytes + 128, 1, direction), "direction is ");
  }
  for (const int32_t value : {-1, 256}) CUDAMOE_EXPECT_REFUSED(cudamoe_memory_fill(own.stream(), bytes, value, 1), "value is ");
  CUDAMOE_EXPECT_REFUSED(cudamoe_memory_copy(own.stream(), nullptr, bytes, 1, CUDAMOE_HOST_TO_DEVICE), "destination is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_memory_copy(own.stream(), bytes, nullptr, 1, CUDAMOE_HOST_TO_DEVICE), "source is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_memory_copy(own.stream(), bytes, bytes + 63, 64, CUDAMOE_HOST_TO_DEVICE), "overlaps");
  CUDAMOE_EXPECT_REFUSED(cudamoe_memory_fill(own.stream(), nullptr, 0, 1), "destination is null");
  CUDAMOE_EXPECT_OK(cudamoe_memory_copy(own.stream(), bytes, bytes + 64, 64, CUDAMOE_HOST_TO_DEVICE));
  CUDAMOE_EXPECT_OK(cudamoe_memory_copy(own.stream(), nullptr, nullptr, 0, CUDAMOE_DEVICE_TO_DEVICE));
  CUDAMOE_EXPECT_OK(cudamoe_memory_fill(own.stream(), nullptr, 0, 0));
}

TEST(Backends, MissingPluginIsNamedWithItsFileAndReason) {
  std::set<std::string> names;
  for (int32_t i = 0; i < cudamoe_backend_count(); ++i) {
    cudamoe_backend_info info{};
    info.struct_size = sizeof info;
    CUDAMOE_ASSERT_OK(cudamoe_backend_get_info(i, &info));
    names.insert(info.name);
    EXPECT_EQ(info.usable != 0, std::string(info.reason).empty()) << info.name;
    if (std::string(info.name) == "cpu") {
      EXPECT_EQ(info.usable, 1);
      EXPECT_STREQ(info.library, "");
      continue;
    }
    EXPECT_NE(std::string(info.library).find("cudamoe_" + std::string(info.name)), std::string::npos) << info.library;
    if (info.usable != 0) continue;
    cudamoe_device* device = nullptr;
    EXPECT_EQ(cudamoe_device_open(info.name, &device), CUDAMOE_ERROR_DEVICE);
    EXPECT_EQ(device, nullptr);
    EXPECT_NE(last_error().find("cudamoe_device_open: the " + std::string(info.name) + " backend is not usable: "), std::string::npos)
        << last_error();
    EXPECT_NE(last_error().find(info.reason), std::string::npos) << last_error();
    EXPECT_NE(last_error().find("cudamoe_" + std::string(info.name)), std::string::npos) << last_error();
  }
  EXPECT_EQ(names, (std::set<std::string>{"cpu", "cuda", "simt"}));
  for (const int32_t index : {-1, cudamoe_backend_count(), std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()}) {
    cudamoe_backend_info info{};
    info.struct_size = sizeof info;
    CUDAMOE_EXPECT_REFUSED(cudamoe_backend_get_info(index, &info), "cudamoe_backend_get_info: index is ");
  }
}

TEST(Backends, AutoAlwaysFindsADevice) {
  cudamoe_device* device = nullptr;
  CUDAMOE_ASSERT_OK(cudamoe_device_open("auto", &device));
  CUDAMOE_EXPECT_OK(cudamoe_device_close(device));
}

TEST(Backends, InfoStructsMayComeFromANewerCaller) {
  struct Newer {
    cudamoe_backend_info known;
    unsigned char more[40];
  };
  Newer info{};
  info.known.struct_size = sizeof info;
  CUDAMOE_EXPECT_OK(cudamoe_backend_get_info(0, &info.known));
  info.more[39] = 1;
  CUDAMOE_EXPECT_REFUSED(cudamoe_backend_get_info(0, &info.known), "struct_size is ");
  info.known.struct_size = sizeof info.known - 1;
  CUDAMOE_EXPECT_REFUSED(cudamoe_backend_get_info(0, &info.known), "struct_size is ");
}

TEST(LastError, BelongsToItsThread) {
  CUDAMOE_EXPECT_REFUSED(cudamoe_memory_fill(nullptr, nullptr, 0, 0), "cudamoe_memory_fill: stream is null");
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  std::atomic<int> mixed_up{0}, not_empty{0};
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([i, &mixed_up, &not_empty] {
      if (cudamoe_last_error(nullptr, 0) != 0) ++not_empty;
      TestDevice own("cpu:threads=1");
      for (int round = 0; round < 500; ++round) {
        void* memory = nullptr;
        const int64_t bytes = -1 - i - kThreads * round;
        cudamoe_memory_allocate(own.device(), bytes, &memory);
        if (last_error().find("bytes is " + std::to_string(bytes) + ";") == std::string::npos) ++mixed_up;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(not_empty.load(), 0);
  EXPECT_EQ(mixed_up.load(), 0);
  EXPECT_NE(last_error().find("cudamoe_memory_fill: stream is null"), std::string::npos);
}

TEST(LastError, FitsIntoAnyBuffer) {
  CUDAMOE_EXPECT_REFUSED(cudamoe_stream_synchronize(nullptr), "stream is null");
  const std::string whole = last_error();
  const auto length = static_cast<int64_t>(whole.size());
  for (const int64_t capacity : {int64_t{1}, int64_t{2}, length, length + 1, length + 100}) {
    std::vector<char> buffer(static_cast<size_t>(capacity), 'x');
    EXPECT_EQ(cudamoe_last_error(buffer.data(), capacity), length);
    EXPECT_EQ(std::string(buffer.data()), whole.substr(0, static_cast<size_t>(capacity) - 1));
  }
  char untouched = 'x';
  EXPECT_EQ(cudamoe_last_error(&untouched, 0), length);
  EXPECT_EQ(cudamoe_last_error(&untouched, -1), length);
  EXPECT_EQ(cudamoe_last_error(nullptr, 100), length);
  EXPECT_EQ(untouched, 'x');
}

TEST(Version, IsThatOfTheHeader) {
  EXPECT_EQ(cudamoe_abi_version(), CUDAMOE_ABI_VERSION);
  int major = -1, minor = -1, patch = -1;
  EXPECT_EQ(std::sscanf(cudamoe_version(), "%d.%d.%d", &major, &minor, &patch), 3) << cudamoe_version();
}

}  // namespace
}  // namespace cudamoe::test
