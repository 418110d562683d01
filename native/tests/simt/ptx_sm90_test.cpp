// The PTX wrappers of the sm_90a path: boxes and swizzles of TMA, phases of mbarriers, layouts of wgmma; on small integers, which are
// exact.
#include "common/ptx/fence.cuh"
#include "common/ptx/mbarrier.cuh"
#include "common/ptx/tma.cuh"
#include "common/ptx/wgmma.cuh"
#include "cuda/tensor_map.h"
#include "simt/harness.h"

namespace cudamoe::test {
namespace {

using namespace kernels;

// Every schedule on a Hopper.
std::vector<simt::DeviceOptions> hopper_schedules() {
  std::vector<simt::DeviceOptions> list = all_schedules();
  for (simt::DeviceOptions& options : list) options.architecture = 90;
  return list;
}

// A row-major matrix, its boxes `rows` high and `columns` wide.
ptx::TensorMap matrix_map(void* base, int64_t height, int64_t width, int rows, int columns, int element_bytes, int swizzle_bytes) {
  ptx::TensorMap map;
  const cuda::TensorShape shape{base, 2, {width, height}, {0, width * element_bytes}, {columns, rows}, element_bytes, swizzle_bytes};
  EXPECT_EQ(cuda::encode_tensor_map(shape, &map), cudaSuccess);
  return map;
}

uint16_t bf16_of(int value) { return static_cast<uint16_t>(__builtin_bit_cast(uint32_t, static_cast<float>(value)) >> 16); }

// ---- TMA and mbarriers ----

// A ring of two stages that one thread fills and all read; the matrix goes out again by TMA, one higher.
CUDAMOE_KERNEL(64, 1)
ring_kernel(const CUDAMOE_GRID_CONSTANT ptx::TensorMap in, const CUDAMOE_GRID_CONSTANT ptx::TensorMap out, int tiles) {
  constexpr int kStages = 2, kBox = 8 * 32;
  CUDAMOE_SHARED_ALIGNED(1024, float, ring, [kStages][kBox]);
  CUDAMOE_SHARED_ALIGNED(1024, float, result, [kBox]);
  CUDAMOE_SHARED_ALIGNED(8, uint64_t, full, [kStages]);
  CUDAMOE_SHARED_ALIGNED(8, uint64_t, empty, [kStages]);
  const int t = thread_x();
  if (t == 0) {
    for (int s = 0; s < kStages; ++s) {
      ptx::mbarrier_init(&full[s], 1);
      ptx::mbarrier_init(&empty[s], 64);
    }
    ptx::fence_mbarrier_init();
  }
  sync_block();
  const auto fill = [&](int tile) {
    if (t != 0 || tile >= tiles) return;
    const int s = tile % kStages;
    ptx::mbarrier_wait(&empty[s], static_cast<uint32_t>(tile / kStages % 2 ^ 1));
    ptx::mbarrier_arrive_expect(&full[s], kBox * 4);
    ptx::tma_load_2d(&ring[s][0], in, 0, 8 * tile - 2, &full[s]);
  };
  for (int tile = 0; tile < kStages; ++tile) fill(tile);
  for (int tile = 0; tile < tiles; ++tile) {
    const int s = tile % kStages;
    ptx::mbarrier_wait(&full[s], static_cast<uint32_t>(tile / kStages % 2));
    if (t == 0) ptx::tma_store_wait<0>();  // the last result is out
    sync_block();
    for (int i = t; i < kBox; i += 64) {
      const float value = ring[s][i];
      result[i] = value + 1;
    }
    ptx::mbarrier_arrive(&empty[s]);
    ptx::fence_proxy_async();
    sync_block();
    if (t == 0) {
      ptx::tma_store_2d(out, 0, 8 * tile - 2, &result[0]);
      ptx::tma_store_commit();
    }
    fill(tile + kStages);
  }
  if (t == 0) ptx::tma_store_wait<0>();
}

TEST(SimtPtx90, TmaMovesBoxesThroughARing) {
  constexpr int kRows = 37, kColumns = 28;  // the boxes of 8 x 32 leave the matrix on three sides
  for (const simt::DeviceOptions& options : hopper_schedules()) {
    for (const int swizzle : {0, 128}) {
      Executor executor(options);
      std::vector<float> values(kRows * kColumns);
      for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
      DeviceArray<float> in(executor, values), out(executor, std::vector<float>(values.size(), -7));
      cudaStreamSynchronize(executor.stream());
      const ptx::TensorMap from = matrix_map(in.data(), kRows, kColumns, 8, 32, 4, swizzle);
      const ptx::TensorMap to = matrix_map(out.data(), kRows, kColumns, 8, 32, 4, swizzle);
      EXPECT_EQ(executor.run({"ring", {1}, {64}}, ring_kernel, from, to, 5), "");
      const std::vector<float> have = out.get();
      for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(have[i], values[i] + 1) << i;
    }
  }
}

// Whether phases 0 and 1 are seen as complete: before the first ends, after it, after the second.
CUDAMOE_KERNEL(32, 1) phases_kernel(int32_t* out) {
  CUDAMOE_SHARED_ALIGNED(8, uint64_t, barrier);
  if (thread_x() == 0) {
    ptx::mbarrier_init(&barrier[0], 32);
    ptx::fence_mbarrier_init();
  }
  for (int phase = 0; phase < 3; ++phase) {
    sync_block();
    for (uint32_t parity = 0; parity < 2; ++parity)
      out[(phase * 2 + static_cast<int>(parity)) * 32 + thread_x()] = ptx::mbarrier_test(&barrier[0], parity) ? 1 : 0;
    sync_block();
    ptx::mbarrier_arrive(&barrier[0]);
    ptx::mbarrier_wait(&barrier[0], static_cast<uint32_t>(phase % 2));
  }
}

TEST(SimtPtx90, PhasesOfAnMbarrierAreTestedWithoutWaiting) {
  for (const simt::DeviceOptions& options : hopper_schedules()) {
    Executor executor(options);
    DeviceArray<int32_t> out(executor, std::vector<int32_t>(6 * 32, -1));
    cudaStreamSynchronize(executor.stream());
    EXPECT_EQ(executor.run({"phases", {1}, {32}}, phases_kernel, out.data()), "");
    const std::vector<int32_t> have = out.get();
    const int32_t want[6] = {0, 1, 1, 0, 0, 1};
    for (size_t i = 0; i < have.size(); ++i) EXPECT_EQ(have[i], want[i / 32]) << i;
  }
}

CUDAMOE_KERNEL(32, 1) layout_kernel(const CUDAMOE_GRID_CONSTANT ptx::TensorMap in, uint16_t* out) {
  CUDAMOE_SHARED_ALIGNED(1024, uint16_t, tile, [2 * 8 * 64]);
  CUDAMOE_SHARED_ALIGNED(8, uint64_t, full);
  if (thread_x() == 0) {
    ptx::mbarrier_init(&full[0], 1);
    ptx::fence_mbarrier_init();
  }
  sync_block();
  if (thread_x() == 0) {
    ptx::mbarrier_arrive_expect(&full[0], 2 * 8 * 64 * 2);
    ptx::tma_load_3d(&tile[0], in, 0, 0, 1, &full[0]);
  }
  ptx::mbarrier_wait(&full[0], 0);
  for (int i = thread_x(); i < 2 * 8 * 64; i += 32) out[i] = tile[i];
}

TEST(SimtPtx90, TmaSwizzlesByRowOfEight) {
  for (const int swizzle : {0, 128}) {
    Executor executor({{}, 90});
    std::vector<uint16_t> values(3 * 8 * 64);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint16_t>(i);
    DeviceArray<uint16_t> in(executor, values), out(executor, std::vector<uint16_t>(2 * 8 * 64, 0));
    cudaStreamSynchronize(executor.stream());
    ptx::TensorMap map;
    ASSERT_EQ(cuda::encode_tensor_map({in.data(), 3, {64, 8, 3}, {0, 128, 1024}, {64, 8, 2}, 2, swizzle}, &map), cudaSuccess);
    EXPECT_EQ(executor.run({"layout", {1}, {32}}, layout_kernel, map, out.data()), "");
    const std::vector<uint16_t> have = out.get();
    for (size_t row = 0; row < 16; ++row) {
      for (size_t column = 0; column < 64; ++column) {
        const size_t unit = swizzle == 128 ? (column / 8) ^ (row % 8) : column / 8;
        EXPECT_EQ(have[row * 64 + unit * 8 + column % 8], values[512 + row * 64 + column]) << row << " " << column;
      }
    }
  }
}

TEST(SimtPtx90, TensorMapsKeepTheRulesOfTheDriver) {
  alignas(16) static float memory[64];
  ptx::TensorMap map;
  const cuda::TensorShape good{memory, 2, {8, 8}, {0, 32}, {8, 8}, 4, 32};
  EXPECT_EQ(cuda::encode_tensor_map(good, &map), cudaSuccess);
  const auto refused = [&](auto&& change) {
    cuda::TensorShape shape = good;
    change(shape);
    EXPECT_EQ(cuda::encode_tensor_map(shape, &map), cudaErrorInvalidValue);
  };
  refused([](auto& s) { s.base = memory + 1; });
  refused([](auto& s) { s.stride_bytes[1] = 36; });
  refused([](auto& s) { s.box[1] = 257; });
  refused([](auto& s) { s.box[0] = 3; });
  refused([](auto& s) { s.box[0] = 16; });  // 64 bytes in a swizzle of 32
  refused([](auto& s) { s.rank = 6; });
  refused([](auto& s) { s.extent[0] = 0; });
  refused([](auto& s) { s.element_bytes = 3; });
}

// ---- wgmma ----

struct Operands {
  ptx::TensorMap a, b;
};

// D[64, n] = A[64, 64] B: A by rows of k; B[n, 64] by rows of k or, transposed, B[64, n] by rows of n.
template <int kN, bool kTransposeB, bool kRegistersA>
CUDAMOE_KERNEL(128, 1)
product_kernel(const CUDAMOE_GRID_CONSTANT Operands operands, const uint16_t* a_plain, float* out) {
  CUDAMOE_SHARED_ALIGNED(1024, uint16_t, a, [64 * 64]);
  CUDAMOE_SHARED_ALIGNED(1024, uint16_t, b, [64 * kN]);
  CUDAMOE_SHARED_ALIGNED(8, uint64_t, full);
  if (thread_x() == 0) {
    ptx::mbarrier_init(&full[0], 1);
    ptx::fence_mbarrier_init();
  }
  sync_block();
  if (thread_x() == 0) {
    ptx::mbarrier_arrive_expect(&full[0], (64 + kN) * 128);
    ptx::tma_load_2d(&a[0], operands.a, 0, 0, &full[0]);
    if (kTransposeB) {
      for (int n = 0; n < kN; n += 64) ptx::tma_load_2d(&b[64 * n], operands.b, n, 0, &full[0]);
    } else {
      ptx::tma_load_2d(&b[0], operands.b, 0, 0, &full[0]);
    }
  }
  ptx::mbarrier_wait(&full[0], 0);
  const int g = lane_id() / 4, t = lane_id() % 4;
  const uint64_t a_tile = ptx::matrix_descriptor(shared_address(&a[0]), 1024),
                 b_tile = ptx::matrix_descriptor(shared_address(&b[0]), 1024, 8192);
  float d[kN / 2];
  for (float& x : d) x = 1000;
  ptx::wgmma_fence();
  for (int k = 0; k < 64; k += 16) {
    const uint64_t b_step = ptx::advance(b_tile, kTransposeB ? k / 8 * 1024 : 2 * k);
    if constexpr (kRegistersA) {
      uint32_t fragment[4];
      for (int i = 0; i < 4; ++i) {
        const uint16_t* at = a_plain + (16 * warp_id() + g + i % 2 * 8) * 64 + k + 2 * t + i / 2 * 8;
        fragment[i] = static_cast<uint32_t>(at[0]) | static_cast<uint32_t>(at[1]) << 16;
      }
      ptx::wgmma<kTransposeB>(d, fragment, b_step, k > 0);
    } else {
      ptx::wgmma<false, kTransposeB>(d, ptx::advance(a_tile, 2 * k), b_step, k > 0);
    }
    ptx::wgmma_commit();
  }
  ptx::wgmma_wait<0>();
  for (int i = 0; i < kN / 2; ++i) out[(16 * warp_id() + g + i / 2 % 2 * 8) * kN + i / 4 * 8 + 2 * t + i % 2] = d[i];
}

template <int kN, bool kTransposeB, bool kRegistersA>
void expect_product() {
  for (const simt::DeviceOptions& options : hopper_schedules()) {
    if (kN > 64 && options.schedule.seed % 2 == 0) continue;
    Executor executor(options);
    const auto a_at = [](int row, int k) { return (row * 5 + k * 3) % 11 - 5; };
    const auto b_at = [](int k, int n) { return (k * 7 + n * 2) % 9 - 4; };
    std::vector<uint16_t> a(64 * 64), b(static_cast<size_t>(64 * kN));
    for (int row = 0; row < 64; ++row) {
      for (int k = 0; k < 64; ++k) a[static_cast<size_t>(row * 64 + k)] = bf16_of(a_at(row, k));
    }
    for (int k = 0; k < 64; ++k) {
      for (int n = 0; n < kN; ++n) b[static_cast<size_t>(kTransposeB ? k * kN + n : n * 64 + k)] = bf16_of(b_at(k, n));
    }
    DeviceArray<uint16_t> da(executor, a), db(executor, b);
    DeviceArray<float> out(executor, std::vector<float>(64 * kN, 0));
    cudaStreamSynchronize(executor.stream());
    const Operands operands{matrix_map(da.data(), 64, 64, 64, 64, 2, 128),
                            kTransposeB ? matrix_map(db.data(), 64, kN, 64, 64, 2, 128) : matrix_map(db.data(), kN, 64, kN, 64, 2, 128)};
    EXPECT_EQ(executor.run({"product", {1}, {128}}, product_kernel<kN, kTransposeB, kRegistersA>, operands, da.data(), out.data()), "");
    const std::vector<float> have = out.get();
    for (int row = 0; row < 64; ++row) {
      for (int n = 0; n < kN; ++n) {
        int want = 0;
        for (int k = 0; k < 64; ++k) want += a_at(row, k) * b_at(k, n);
        ASSERT_EQ(have[static_cast<size_t>(row * kN + n)], static_cast<float>(want)) << row << " " << n;
      }
    }
  }
}

TEST(SimtPtx90, WgmmaMultipliesTilesInSharedMemory) {
  expect_product<64, false, false>();
  expect_product<128, false, false>();
  expect_product<256, false, false>();
}
TEST(SimtPtx90, WgmmaTakesTransposedB) {
  expect_product<64, true, false>();
  expect_product<128, true, false>();
}
TEST(SimtPtx90, WgmmaTakesAInRegisters) { expect_product<64, false, true>(); }

}  // namespace
}  // namespace cudamoe::test
