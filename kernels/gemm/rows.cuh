// Which rows a block works on, and the check of the rows of a launch.
//
// Row tiles are numbered without a table: ragged group g owns the numbers offsets[g] / tile_rows + g up to those of the next group, which
// are at least as many as it has tiles and at least one; numbers beyond its last tile are empty. So the host needs no row count of a
// group to size a grid.
#pragma once

#include "common/kernel.cuh"
#include "common/report.cuh"
#include "gemm/gemm.h"

namespace cudamoe::kernels {

// Row tiles of a launch, and of one strided group.
CUDAMOE_HOST_DEVICE int64_t gemm_tiles_of_strided_group(int64_t rows, int64_t tile_rows) {
  return rows > tile_rows ? ceil_divide(rows, tile_rows) : 1;
}
CUDAMOE_HOST_DEVICE int64_t gemm_first_tile(int64_t offset, int64_t group, int64_t tile_rows) { return offset / tile_rows + group; }
CUDAMOE_HOST_DEVICE int64_t gemm_row_tiles(const GemmRows& rows, int64_t tile_rows) {
  return rows.offsets == nullptr ? rows.groups * gemm_tiles_of_strided_group(rows.rows, tile_rows)
                                 : gemm_first_tile(rows.rows, rows.groups, tile_rows);
}

struct GemmRowTile {
  int64_t begin;  // row of the row space
  int32_t group;  // -1: the tile is empty, or the offsets break the rule and nothing may be computed
  int32_t rows;
  bool first;  // of its group
};

CUDAMOE_DEVICE bool gemm_offset_is_bad(const GemmRows& rows, int64_t group) {
  const int64_t begin = rows.offsets[group], end = rows.offsets[group + 1];
  return begin < 0 || end < begin || end > rows.rows || (group == 0 && begin != 0);
}

// The row tile of that number. All threads of the block call it and get the same: they look at the offsets side by side, so the search
// costs a load and two barriers, and checks all of them.
template <int kThreads>
CUDAMOE_DEVICE GemmRowTile find_row_tile(const GemmRows& rows, int64_t number, int32_t tile_rows) {
  if (rows.offsets == nullptr) {
    const int64_t tiles = gemm_tiles_of_strided_group(rows.rows, tile_rows);
    const int64_t group = number / tiles, index = number % tiles, begin = index * tile_rows, left = rows.rows - begin;
    return {begin, static_cast<int32_t>(group), left < tile_rows ? static_cast<int32_t>(left) : tile_rows, index == 0};
  }
  CUDAMOE_SHARED(int32_t, found);
  bool bad = false;
  int own = -1;
  for (int group = thread_x(); group < rows.groups; group += kThreads) {
    bad = bad || gemm_offset_is_bad(rows, group);
    if (gemm_first_tile(rows.offsets[group], group, tile_rows) <= number &&
        number < gemm_first_tile(rows.offsets[group + 1], group + 1, tile_rows)) {
      own = group;
    }
  }
  if (sync_block_or(bad)) return {0, -1, 0, false};
  if (own >= 0) found[0] = own;
  if (!sync_block_or(own >= 0)) return {0, -1, 0, false};
  const int32_t group = found[0];
  const int64_t group_begin = rows.offsets[group], group_end = rows.offsets[group + 1];
  const int64_t index = number - gemm_first_tile(group_begin, group, tile_rows), begin = group_begin + index * tile_rows;
  const int64_t left = group_end - begin;
  return {begin, group, left < 0 ? 0 : (left < tile_rows ? static_cast<int32_t>(left) : tile_rows), index == 0};
}

// Whether all offsets keep the rule; the same answer in all threads of the block.
template <int kThreads>
CUDAMOE_DEVICE bool offsets_are_good(const GemmRows& rows) {
  if (rows.offsets == nullptr) return true;
  bool bad = false;
  for (int group = thread_x(); group < rows.groups; group += kThreads) bad = bad || gemm_offset_is_bad(rows, group);
  return !sync_block_or(bad);
}

// The row of x for a row of the row space; -1 when its gathered number is out of bounds, which counts as a row of zeros.
CUDAMOE_DEVICE int64_t source_row(const GemmRows& rows, int64_t row) {
  if (rows.gather == nullptr) return row;
  const int32_t source = load_constant(rows.gather + row);
  return source < 0 || source >= rows.x_rows ? -1 : source;
}

// Of the threads' first finds the lowest, in thread 0; kNoFind where there is none.
inline constexpr int64_t kNoFind = INT64_MAX;
template <int kThreads>
CUDAMOE_DEVICE int64_t lowest_find(int64_t found) {
  CUDAMOE_SHARED(int64_t, first_of_thread, [kThreads]);
  if (!sync_block_or(found != kNoFind)) return kNoFind;
  first_of_thread[thread_x()] = found;
  sync_block();
  int64_t low = kNoFind;
  if (thread_x() == 0) {
    for (int t = 0; t < kThreads; ++t) {
      const int64_t other = first_of_thread[t];
      low = other < low ? other : low;
    }
  }
  sync_block();
  return low;
}

// The report of the first offset that breaks the rule, by a block that knows that one does.
template <int kThreads>
CUDAMOE_DEVICE void report_offsets(const GemmRows& rows) {
  int64_t found = kNoFind;
  for (int64_t entry = thread_x(); entry <= rows.groups && found == kNoFind; entry += kThreads) {
    const int64_t offset = rows.offsets[entry], low = entry == 0 ? 0 : rows.offsets[entry - 1];
    if (entry == 0 ? offset != 0 : offset < low || offset > rows.rows) found = entry;
  }
  const int64_t entry = lowest_find<kThreads>(found);
  if (thread_x() != 0) return;
  const int64_t low = entry == 0 ? 0 : rows.offsets[entry - 1];
  note_report(rows.report, {ReportCode::kGemmOffsets,
                            0,
                            {static_cast<int64_t>(rows.function), entry, rows.offsets[entry], low},
                            {static_cast<double>(rows.rows)}});
}

// What a gathered number out of bounds is reported as.
CUDAMOE_DEVICE DeviceReport bad_gather(const GemmRows& rows, int64_t row) {
  return {ReportCode::kGemmGather, 0, {static_cast<int64_t>(rows.function), row, rows.gather[row], rows.x_rows}, {}};
}

// The first block of a launch with ragged groups does no tile. It looks for offsets and gathered rows that break the rule while the others
// work, and reports the first: eight loads of 16 bytes a thread are under way at a time, and reading 4 bytes a row it ends before they do.
template <int kThreads>
CUDAMOE_DEVICE void inspect_rows(const GemmRows& rows) {
  constexpr int kBatch = 8;
  if (!offsets_are_good<kThreads>(rows)) return report_offsets<kThreads>(rows);
  if (rows.gather == nullptr) return;
  const auto is_bad = [&](int32_t source) { return source < 0 || source >= rows.x_rows; };
  const int64_t end = rows.offsets[rows.groups];
  // Rows before the first 16-byte boundary; behind them vectors.
  const int64_t past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(rows.gather) / sizeof(int32_t) % 4), head = (4 - past) % 4;
  int64_t found = kNoFind;
  if (thread_x() < head && thread_x() < end && is_bad(load_constant(rows.gather + thread_x()))) found = thread_x();
  for (int64_t row = head + 4 * thread_x(); row < end && found == kNoFind; row += 4 * kBatch * kThreads) {
    Vector<int32_t, 4> source[kBatch];
    CUDAMOE_UNROLL
    for (int i = 0; i < kBatch; ++i) {
      const int64_t at = row + 4 * i * kThreads;
      source[i] = {};
      if (at + 4 <= end) {
        source[i] = load_constant<4>(rows.gather + at);
      } else {
        CUDAMOE_UNROLL
        for (int j = 0; j < 4; ++j) {
          if (at + j < end) source[i][j] = load_constant(rows.gather + at + j);
        }
      }
    }
    CUDAMOE_UNROLL
    for (int i = kBatch - 1; i >= 0; --i) {
      CUDAMOE_UNROLL
      for (int j = 3; j >= 0; --j) {
        const int64_t at = row + 4 * i * kThreads + j;
        if (at < end && is_bad(source[i][j])) found = at;
      }
    }
  }
  const int64_t row = lowest_find<kThreads>(found);
  if (row != kNoFind && thread_x() == 0) note_report(rows.report, bad_gather(rows, row));
}

}  // namespace cudamoe::kernels
