// What a profiler sees of the operations: the table of native/cuda with the ranges of the CUDA library, on the executor, and a recorder in
// place of the profiler.
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/backend.h"
#include "cuda/device.h"
#include "nvtx/recorder.h"

namespace cudamoe::cuda {
const Backend& backend();
}

namespace cudamoe::test {
namespace {

using Record = std::vector<std::string>;

Record take_record() {
  Record record;
  record.swap(nvtx_record());
  return record;
}

// NVTX looks for a profiler at the process's first range.
const bool recorder_is_known = setenv("NVTX_INJECTION64_PATH", CUDAMOE_NVTX_RECORDER, 1) == 0;

TEST(Ranges, AnOperationOfTheTableIsARange) {
  ASSERT_TRUE(recorder_is_known);
  const Backend& table = cuda::backend();
  void *device = nullptr, *stream = nullptr, *memory = nullptr;
  ASSERT_EQ(table.device_open("", &device), CUDAMOE_OK);
  ASSERT_EQ(table.stream_create(device, &stream), CUDAMOE_OK);
  ASSERT_EQ(table.allocate(device, 64, &memory), CUDAMOE_OK);
  take_record();
  auto* rows = static_cast<float*>(memory);
  cudamoe_sequence_maximum_forward_args maximum{};
  maximum.sequences = maximum.positions = maximum.width = maximum.x_row_stride = maximum.y_row_stride = 1;
  maximum.x = rows;
  maximum.y = rows + 1;
  EXPECT_EQ(table.sequence_maximum_forward(stream, maximum), CUDAMOE_OK);
  EXPECT_EQ(table.stream_synchronize(stream), CUDAMOE_OK);
  EXPECT_EQ(take_record(), (Record{"begin CudaMoE cudamoe_sequence_maximum_forward", "end CudaMoE"}));
  table.release(device, memory, 64);
  table.stream_destroy(stream);
  table.device_close(device);
}

// After the test above: a table that is named takes the place of the one before.
TEST(Ranges, EveryOperationIsARangeOfItsName) {
  static Backend table{};
#define CUDAMOE_STAND_IN(name)                                             \
  table.name = [](void*, const cudamoe_##name##_args&) -> cudamoe_status { \
    nvtx_record().push_back("run " #name);                                 \
    return CUDAMOE_ERROR_DEVICE;                                           \
  };
  CUDAMOE_OPERATIONS(CUDAMOE_STAND_IN)
#undef CUDAMOE_STAND_IN
  table.routing = nullptr;
  table.loss = [](void*, const cudamoe_loss_args&) { return table.gemm_pack(nullptr, {}); };
  cuda::name_ranges(table);
  take_record();
#define CUDAMOE_RUN(name)                                                                            \
  if (const std::string operation = #name; operation != "routing" && operation != "loss") {          \
    EXPECT_EQ(table.name(nullptr, {}), CUDAMOE_ERROR_DEVICE);                                        \
    EXPECT_EQ(take_record(), (Record{"begin CudaMoE cudamoe_" #name, "run " #name, "end CudaMoE"})); \
  }
  CUDAMOE_OPERATIONS(CUDAMOE_RUN)
#undef CUDAMOE_RUN
  EXPECT_EQ(table.routing, nullptr);  // what the backend lacks, it lacks
  EXPECT_EQ(table.loss(nullptr, {}), CUDAMOE_ERROR_DEVICE);
  EXPECT_EQ(take_record(),
            (Record{"begin CudaMoE cudamoe_loss", "begin CudaMoE cudamoe_gemm_pack", "run gemm_pack", "end CudaMoE", "end CudaMoE"}));
}

}  // namespace
}  // namespace cudamoe::test
