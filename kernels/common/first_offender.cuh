// The lowest index of bad data that any thread of a kernel found, whatever the order of the threads, as one report.
//
//   if (bad) note_offender(cell, index);                                              by any thread
//   sync_block();
//   if (thread_rank() == 0) report_offender(cell, report, blocks, [&](int64_t index) { return DeviceReport{...}; });
//
// One thread of every block of the launch calls report_offender; the last of them writes the report and clears the cell for the next
// kernel of the stream. It costs an integer atomic a block.
#pragma once

#include "common/atomic.cuh"
#include "common/report.cuh"
#include "common/sync.cuh"

namespace cudamoe::kernels {

CUDAMOE_DEVICE void note_offender(OffenderCell* cell, int64_t index) { atomic_max(&cell->complement, ~static_cast<uint64_t>(index)); }

template <class Describe>
CUDAMOE_DEVICE void report_offender(OffenderCell* cell, DeviceReport* report, uint32_t blocks, Describe&& describe) {
  fence_device();
  if (atomic_add(&cell->blocks, 1u) != blocks - 1) return;
  fence_device();
  const uint64_t found = atomic_exchange(&cell->complement, uint64_t{0});
  atomic_exchange(&cell->blocks, 0u);
  if (found != 0) note_report(report, describe(static_cast<int64_t>(~found)));
}

}  // namespace cudamoe::kernels
