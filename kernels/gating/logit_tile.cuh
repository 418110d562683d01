// Logits of a tile of rows: tile[r][c] = sum over t of x[r][t] * packed[t][c] + bias[c].
//
// 128 threads, kAcross by columns and kDown by rows; a thread has kRowsPer rows (kDown apart) and kColumns / kAcross columns (runs of 4,
// 4 kAcross apart). Four threads across where a thread has several rows: 8 to 16 columns of up to four rows, so that 12 to 20 reads of
// shared memory serve 64 to 256 multiply-adds of four steps of the depth.
// Steps of 32 of the depth come by cp.async through two stages of shared memory: rows of x padded to 36 words, so that eight rows at once
// lie in different banks; rows of the packed weights as they are. A thread reads four steps of its rows and four neighbouring columns at
// once. Order of sums: one chain of fused multiply-adds over ascending depth for each logit, whatever the tile; then the bias.
#pragma once

#include "common/kernel.cuh"
#include "common/ptx/cp_async.cuh"
#include "gating/gating.h"

namespace cudamoe::kernels {

inline constexpr int kGateThreads = 128;

template <int kColumns, int kRowsPer>
struct LogitTile {
  static constexpr int kAcross = kRowsPer == 1 || kColumns == 128 ? 8 : 4, kDown = kGateThreads / kAcross;
  static constexpr int kRows = kDown * kRowsPer, kDepth = 32, kXStride = kDepth + 4;
  static constexpr int kStride = kColumns + 4;  // whole runs of 16 bytes; eight rows' same columns lie in different banks
  static constexpr int kStageFloats = kRows * kXStride + kDepth * kColumns, kStages = 2;
  static constexpr int kFloats = kStages * kStageFloats;  // while it multiplies; the tile takes kRows * kStride of them

  const float* x;  // of the tile's first row
  int64_t x_row_stride;
  const float* packed;  // of its first column
  int64_t packed_stride, depth;
  int rows, columns;           // that there are
  const float* bias;           // of its first column, or null
  bool whole_x, whole_packed;  // 16-byte copies are aligned

  template <int kVector>
  CUDAMOE_DEVICE void copy_x(Shared<float> to, int64_t first) const {
    constexpr int kVectors = kDepth / kVector;
    CUDAMOE_UNROLL
    for (int i = thread_x(); i < kRows * kVectors; i += kGateThreads) {
      const int row = i / kVectors, t = i % kVectors * kVector;
      const int64_t left = row < rows ? depth - first - t : 0;
      const int there = left >= kVector ? kVector : left > 0 ? static_cast<int>(left) : 0;
      ptx::cp_async<4 * kVector>(&to[row * kXStride + t], there > 0 ? x + row * x_row_stride + first + t : x, 4 * there);
    }
  }

  template <int kVector>
  CUDAMOE_DEVICE void copy_packed(Shared<float> to, int64_t first) const {
    constexpr int kVectors = kColumns / kVector;
    CUDAMOE_UNROLL
    for (int i = thread_x(); i < kDepth * kVectors; i += kGateThreads) {
      const int t = i / kVectors, c = i % kVectors * kVector;
      const int left = first + t < depth ? columns - c : 0;
      const int there = left >= kVector ? kVector : left > 0 ? left : 0;
      ptx::cp_async<4 * kVector>(&to[t * kColumns + c], there > 0 ? packed + (first + t) * packed_stride + c : packed, 4 * there);
    }
  }

  CUDAMOE_DEVICE void copy_stage(Shared<float> stage, int64_t first) const {
    if (whole_x) {
      copy_x<4>(stage, first);
    } else {
      copy_x<1>(stage, first);
    }
    if (whole_packed) {
      copy_packed<4>(stage + kRows * kXStride, first);
    } else {
      copy_packed<1>(stage + kRows * kXStride, first);
    }
    ptx::cp_async_commit();
  }

  // `memory` has room for kFloats; the tile is left at its beginning, in rows of kStride. All threads call it; it begins and ends with a
  // barrier.
  CUDAMOE_DEVICE void multiply(Shared<float> memory) const {
    constexpr int kRun = 4 * kAcross, kRuns = kColumns / kRun;
    const int column = thread_x() % kAcross * 4, row = thread_x() / kAcross;
    float sum[kRowsPer][kRuns][4] = {};
    const int64_t steps = ceil_divide(depth, int64_t{kDepth});
    sync_block();
    copy_stage(memory, 0);
    CUDAMOE_NO_UNROLL
    for (int64_t step = 0; step < steps; ++step) {
      const Shared<float> stage = memory + step % kStages * kStageFloats;
      if (step + 1 < steps) {
        copy_stage(memory + (step + 1) % kStages * kStageFloats, (step + 1) * kDepth);
        ptx::cp_async_wait<1>();
      } else {
        ptx::cp_async_wait<0>();
      }
      sync_block();
      const Shared<float> weights = stage + kRows * kXStride;
      // Unrolled by half: a whole step at once takes more registers than there are.
      CUDAMOE_NO_UNROLL
      for (int half = 0; half < kDepth; half += kDepth / 2) {
        CUDAMOE_UNROLL
        for (int t = half; t < half + kDepth / 2; t += 4) {
          Vector<float, 4> a[kRowsPer];
          CUDAMOE_UNROLL
          for (int i = 0; i < kRowsPer; ++i) a[i] = load<4>(stage + ((row + kDown * i) * kXStride + t));
          CUDAMOE_UNROLL
          for (int q = 0; q < 4; ++q) {
            CUDAMOE_UNROLL
            for (int run = 0; run < kRuns; ++run) {
              const Vector<float, 4> b = load<4>(weights + ((t + q) * kColumns + kRun * run + column));
              CUDAMOE_UNROLL
              for (int i = 0; i < kRowsPer; ++i) {
                CUDAMOE_UNROLL
                for (int c = 0; c < 4; ++c) sum[i][run][c] = fma(a[i][q], b[c], sum[i][run][c]);
              }
            }
          }
        }
      }
      sync_block();
    }
    CUDAMOE_UNROLL
    for (int run = 0; run < kRuns; ++run) {
      const int at = kRun * run + column;
      Vector<float, 4> added = {};
      CUDAMOE_UNROLL
      for (int c = 0; c < 4; ++c) {
        if (bias != nullptr && at + c < columns) added[c] = bias[at + c];
      }
      CUDAMOE_UNROLL
      for (int i = 0; i < kRowsPer; ++i) {
        Vector<float, 4> logits;
        CUDAMOE_UNROLL
        for (int c = 0; c < 4; ++c) logits[c] = sum[i][run][c] + added[c];
        store(memory + ((row + kDown * i) * kStride + at), logits);
      }
    }
    sync_block();
  }

  // The tile to rows of `to`: of each run of `own` columns the first `taken`, beside each other. Neighbouring threads write neighbouring
  // columns, 16 bytes at once where alignment allows it.
  CUDAMOE_DEVICE void store_rows(Shared<float> memory, int own, int taken, float* to, int64_t to_stride) const {
    if (taken % 4 == 0 && own % 4 == 0 && aligned_for<4>(to, to_stride)) {
      store_runs<4>(memory, own, taken, to, to_stride);
    } else {
      store_runs<1>(memory, own, taken, to, to_stride);
    }
  }

 private:
  template <int N>
  CUDAMOE_DEVICE void store_runs(Shared<float> memory, int own, int taken, float* to, int64_t to_stride) const {
    const int across = columns / own * taken / N, step_rows = kGateThreads / across, step = kGateThreads - step_rows * across;
    int row = thread_x() / across, at = thread_x() - row * across;
    while (row < rows) {
      const int column = at * N;
      store(to + row * to_stride + column,
            load<N>(memory + (row * kStride + (own == taken ? column : column / taken * own + column % taken))));
      row += step_rows;
      at += step;
      if (at >= across) {
        at -= across;
        ++row;
      }
    }
  }
};

}  // namespace cudamoe::kernels
