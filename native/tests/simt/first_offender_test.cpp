// common/first_offender.cuh on the executor.
#include "common/first_offender.cuh"

#include "simt/harness.h"

namespace cudamoe::test {
namespace {

using namespace kernels;

CUDAMOE_KERNEL(64, 1) offender_kernel(const int* values, int count, OffenderCell* cell, DeviceReport* report) {
  const int i = block_x() * 64 + thread_x();
  if (i < count && values[i] < 0) note_offender(cell, i);
  sync_block();
  if (thread_x() == 0) {
    report_offender(cell, report, static_cast<uint32_t>(grid_size_x()), [&](int64_t index) {
      return DeviceReport{ReportCode::kLossRow, 0, {index, values[index]}, {}};
    });
  }
}

TEST(SimtLanguage, TheFirstOffenderIsReportedOnceAnOperation) {
  for (const simt::DeviceOptions& options : all_schedules()) {
    Executor executor(options);
    std::vector<int> values(300, 1);
    const DeviceArray<int> good(executor, values);
    values[290] = -5;
    values[71] = -7;
    values[0] = -9;
    const DeviceArray<int> bad(executor, values);
    const DeviceArray<OffenderCell> cell(executor, {OffenderCell{}});
    const DeviceArray<DeviceReport> report(executor, {DeviceReport{}});
    const auto run = [&](const DeviceArray<int>& from, int first) {
      EXPECT_EQ(executor.run({"offender", {5}, {64}}, offender_kernel, from.data() + first, 300 - first, cell.data(), report.data()), "");
      return report.get()[0];
    };
    EXPECT_EQ(run(good, 0).operations, 0);
    const DeviceReport first = run(bad, 1);
    EXPECT_EQ(first.operations, 1);
    EXPECT_EQ(first.index[0], 70);
    EXPECT_EQ(first.index[1], -7);
    EXPECT_EQ(run(good, 0).operations, 1);
    const DeviceReport second = run(bad, 0);
    EXPECT_EQ(second.operations, 2);
    EXPECT_EQ(second.index[0], 70);
    EXPECT_EQ(cell.get()[0].complement, 0u);
    EXPECT_EQ(cell.get()[0].blocks, 0u);
  }
}

}  // namespace
}  // namespace cudamoe::test
