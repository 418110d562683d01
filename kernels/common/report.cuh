// What a kernel tells the host about bad data: a record of its stream, in memory that both see. The first offender of the first operation
// is kept; later operations only count.
#pragma once

#include "common/target.cuh"

namespace cudamoe::kernels {

enum class ReportCode : int32_t {
  kNone = 0,
  kLossRow = 1,            // index: task, row, classes; value: label, weight
  kEmbeddingId = 2,        // index: function, feature, position, id, table, rows, number of bad ids
  kEmbeddingOffsets = 3,   // index: function, feature, bag, offset, look-ups
  kGemmOffsets = 4,        // index: GemmFunction, entry, its value, the value before; value: rows
  kGemmGather = 5,         // index: GemmFunction, row, its value, rows of x
  kGateChosen = 6,         // index: choice, expert, experts
  kRoutingChosen = 7,      // the same
  kCombineSlot = 8,        // index: backward, pair, slot, rows of expert
  kAttentionKeyCount = 9,  // index: backward, sequence, its count, keys
  kGraphOffsets = 10,      // index: GraphFunction, row, its offset, edges
  kGraphNeighbour = 11,    // index: GraphFunction, edge, neighbour, columns
  kExpertChosen = 12,      // index: pair, expert, experts
  kMaximumCount = 13,      // index: sequence, its count, positions
};

struct DeviceReport {
  ReportCode code;
  int32_t operations;  // that reported since the record was cleared
  int64_t index[7];
  double value[2];
};

// In a stream's scratch: where the threads of a kernel meet over the first offender; see first_offender.cuh.
struct OffenderCell {
  uint64_t complement;  // of the lowest index found so far; 0 when there is none
  uint32_t blocks;      // that are through
};

// Called by one thread of an operation; operations of a stream follow each other.
CUDAMOE_DEVICE void note_report(DeviceReport* report, const DeviceReport& found) {
  const int32_t before = report->operations;
  if (before == 0) *report = found;
  report->operations = before + 1;
}

}  // namespace cudamoe::kernels
