// Streams of a device's runtime beside those of this library.
#include <gtest/gtest.h>

#include "support/buffer.h"
#include "support/test_device.h"

namespace cudamoe::test {
namespace {

// averages += (values - averages) / 2.
cudamoe_status average(cudamoe_stream* stream, const Buffer<float>& values, const Buffer<float>& averages) {
  cudamoe_balance_average_args args{};
  args.struct_size = sizeof args;
  args.rate = 0.5f;
  args.count = values.size();
  args.values = values.data();
  args.averages = averages.data();
  return cudamoe_balance_average(stream, &args);
}

TEST(Stream, AWrappedOneIsTheSameQueueAndOutlivesItsWrapper) {
  TestDevice device;
  void* native = nullptr;
  const cudamoe_status has_native = cudamoe_stream_get_native(device.stream(), &native);
  if (device.info().host_accessible != 0) {
    EXPECT_EQ(has_native, CUDAMOE_ERROR_UNSUPPORTED);
    return;
  }
  CUDAMOE_ASSERT_OK(has_native);
  ASSERT_NE(native, nullptr);
  cudamoe_stream* wrapped = nullptr;
  for (const uintptr_t special : {1, 2}) {
    CUDAMOE_EXPECT_REFUSED(cudamoe_stream_wrap(device.device(), reinterpret_cast<void*>(special), &wrapped), "default stream");
  }
  CUDAMOE_ASSERT_OK(cudamoe_stream_wrap(device.device(), native, &wrapped));
  void* again = nullptr;
  CUDAMOE_EXPECT_OK(cudamoe_stream_get_native(wrapped, &again));
  EXPECT_EQ(again, native);

  // In order: 0 -> 4 -> 6 -> 7.
  Buffer<float> values(device, std::vector<float>(5, 8)), averages(device, std::vector<float>(5, 0));
  CUDAMOE_EXPECT_OK(average(device.stream(), values, averages));
  CUDAMOE_EXPECT_OK(average(wrapped, values, averages));
  CUDAMOE_EXPECT_OK(average(device.stream(), values, averages));
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(wrapped));
  EXPECT_EQ(averages.get(), std::vector<float>(5, 7));

  // A capture of it, and the end of the wrapper alone.
  cudamoe_capture* capture = nullptr;
  CUDAMOE_ASSERT_OK(cudamoe_capture_begin(wrapped));
  CUDAMOE_EXPECT_OK(average(wrapped, values, averages));
  CUDAMOE_ASSERT_OK(cudamoe_capture_end(wrapped, &capture));
  CUDAMOE_EXPECT_REFUSED(cudamoe_stream_destroy(wrapped), "1 captures are still live");
  CUDAMOE_EXPECT_OK(cudamoe_capture_launch(capture));
  CUDAMOE_EXPECT_OK(cudamoe_capture_destroy(capture));
  CUDAMOE_EXPECT_OK(cudamoe_stream_destroy(wrapped));
  CUDAMOE_EXPECT_REFUSED(cudamoe_stream_synchronize(wrapped), "is not a live stream");
  CUDAMOE_EXPECT_OK(average(device.stream(), values, averages));
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
  EXPECT_EQ(averages.get(), std::vector<float>(5, 7.75f));
}

}  // namespace
}  // namespace cudamoe::test
