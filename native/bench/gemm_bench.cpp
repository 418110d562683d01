// The gemm family at the shapes that the engine trains and serves with, beside OpenBLAS and oneDNN (weights reordered beforehand).
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "support/harness.h"
#include "support/peaks.h"
#include "support/peers.h"

namespace cudamoe::bench {
namespace {

struct Shape {
  int64_t rows, n, k;
  int32_t groups = 1;
  const int64_t* offsets = nullptr;
  const int32_t* gather = nullptr;
  int64_t x_row_stride = 0, x_group_stride = 0;  // 0: as narrow as possible
  int64_t x_gap = 0, y_gap = 0;                  // elements behind a row when the stride is 0
  int32_t activation = CUDAMOE_ACTIVATION_NONE;

  int64_t all_rows() const { return offsets == nullptr ? groups * rows : rows; }
  int64_t x_stride() const { return x_row_stride != 0 ? x_row_stride : k + x_gap; }
  int64_t y_stride() const { return n + y_gap; }
  // Peers take rows without gaps only.
  bool dense() const { return x_row_stride == 0 && x_gap == 0 && y_gap == 0; }
  Work work() const { return {2.0 * static_cast<double>(all_rows()) * static_cast<double>(n) * static_cast<double>(k), 0}; }
};

template <class Args>
Args start(const Shape& shape) {
  Args args{};
  args.struct_size = sizeof args;
  args.groups = shape.groups;
  args.rows = shape.rows;
  args.n = shape.n;
  args.k = shape.k;
  args.offsets = shape.offsets;
  return args;
}

template <class Args>
void give_workspace(Engine& engine, Args& args, cudamoe_status (*query)(cudamoe_stream*, const Args*, int64_t*)) {
  require(query(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
}

const void* pack(Engine& engine, const Shape& shape, const float* weights, int32_t transposed, int32_t dtype) {
  cudamoe_gemm_pack_args args{};
  args.struct_size = sizeof args;
  args.groups = shape.groups;
  args.n = shape.n;
  args.k = shape.k;
  args.weights = weights;
  args.weights_row_stride = shape.k;
  args.weights_group_stride = shape.n * shape.k;
  args.transposed = transposed;
  args.dtype = dtype;
  require(cudamoe_gemm_packed_bytes(engine.stream(), &args, &args.packed_bytes));
  args.packed = engine.allocate(args.packed_bytes);
  require(cudamoe_gemm_pack(engine.stream(), &args));
  return args.packed;
}

std::function<void()> forward(Engine& engine, const Shape& shape, const float* x, const float* weights, float* y, int32_t dtype) {
  auto args = start<cudamoe_gemm_forward_args>(shape);
  args.gather = shape.gather;
  args.x_rows = shape.all_rows();
  args.x = x;
  args.x_row_stride = shape.x_stride();
  args.x_group_stride = shape.x_group_stride != 0 ? shape.x_group_stride : shape.rows * shape.x_stride();
  args.packed = pack(engine, shape, weights, 0, dtype);
  args.bias = engine.random(shape.groups * shape.n);
  args.bias_group_stride = shape.n;
  args.y = y;
  args.y_row_stride = shape.y_stride();
  args.y_group_stride = shape.rows * shape.y_stride();
  args.packed_dtype = dtype;
  args.activation = shape.activation;
  give_workspace(engine, args, cudamoe_gemm_forward_workspace);
  return [&engine, args] { require(cudamoe_gemm_forward(engine.stream(), &args)); };
}

std::function<void()> dgrad(Engine& engine, const Shape& shape, const float* dz, const float* weights, const float* below, float* dx,
                            int32_t dtype) {
  auto args = start<cudamoe_gemm_dgrad_args>(shape);
  args.dz = dz;
  args.dz_row_stride = shape.y_stride();
  args.dz_group_stride = shape.rows * shape.y_stride();
  args.packed = pack(engine, shape, weights, 1, dtype);
  args.dx = dx;
  args.dx_row_stride = shape.x_stride();
  args.dx_group_stride = shape.x_group_stride != 0 ? shape.x_group_stride : shape.rows * shape.x_stride();
  args.below = below;
  args.below_row_stride = args.dx_row_stride;
  args.below_group_stride = args.dx_group_stride;
  args.packed_dtype = dtype;
  args.activation = CUDAMOE_ACTIVATION_RELU;
  give_workspace(engine, args, cudamoe_gemm_dgrad_workspace);
  return [&engine, args] { require(cudamoe_gemm_dgrad(engine.stream(), &args)); };
}

std::function<void()> wgrad(Engine& engine, const Shape& shape, const float* dz, const float* x, float* dw, int32_t compute_dtype) {
  auto args = start<cudamoe_gemm_wgrad_args>(shape);
  args.gather = shape.gather;
  args.x_rows = shape.all_rows();
  args.dz = dz;
  args.dz_row_stride = shape.y_stride();
  args.dz_group_stride = shape.rows * shape.y_stride();
  args.x = x;
  args.x_row_stride = shape.x_stride();
  args.x_group_stride = shape.x_group_stride != 0 ? shape.x_group_stride : shape.rows * shape.x_stride();
  args.dw = dw;
  args.dw_row_stride = shape.k;
  args.dw_group_stride = shape.n * shape.k;
  args.dbias = engine.allocate_of<float>(shape.groups * shape.n);
  args.dbias_group_stride = shape.n;
  args.compute_dtype = compute_dtype;
  give_workspace(engine, args, cudamoe_gemm_wgrad_workspace);
  return [&engine, args] { require(cudamoe_gemm_wgrad(engine.stream(), &args)); };
}

// Forward, data gradient and weight gradient of one shape. Peers take part where the groups are one product or lie one after the other.
void measure(Bench& bench, Engine& machine, const std::string& name, const Shape& shape) {
  if (!bench.selected("forward " + name) && !bench.selected("dgrad " + name) && !bench.selected("wgrad " + name)) return;
  Engine engine(machine.threads());
  const int64_t x_elements = shape.all_rows() * (shape.k + shape.x_gap), y_elements = shape.all_rows() * shape.y_stride(),
                weights_elements = shape.groups * shape.n * shape.k;
  const float* x = engine.random(x_elements);
  const float* weights = engine.random(weights_elements);
  const float* dz = engine.random(y_elements);
  auto* y = engine.allocate_of<float>(y_elements);
  auto* dx = engine.allocate_of<float>(x_elements);
  auto* dw = engine.allocate_of<float>(weights_elements);

  // A peer's product for each group, one call after the other.
  const auto each_group = [&](auto&& make) -> std::function<void()> {
    std::vector<std::function<void()>> calls;
    if (!shape.dense()) return {};
    for (int32_t group = 0; group < shape.groups; ++group) {
      const int64_t begin = shape.offsets == nullptr ? group * shape.rows : shape.offsets[group];
      const int64_t rows = shape.offsets == nullptr ? shape.rows : shape.offsets[group + 1] - begin;
      if (rows == 0) continue;
      std::function<void()> call = make(group * shape.n * shape.k, begin, rows);
      if (!call) return {};
      calls.push_back(std::move(call));
    }
    return [calls] {
      for (const auto& call : calls) call();
    };
  };
  bench.table(engine, "forward " + name, shape.work(),
              {{"cudamoe f32", forward(engine, shape, x, weights, y, CUDAMOE_F32)},
               {"cudamoe bf16 weights", forward(engine, shape, x, weights, y, CUDAMOE_BF16)},
               {"OpenBLAS", each_group([&](int64_t w, int64_t row, int64_t rows) {
                  return openblas_product(x + row * shape.k, weights + w, y + row * shape.n, rows, shape.n, shape.k);
                })},
               {"oneDNN packed", each_group([&](int64_t w, int64_t row, int64_t rows) {
                  return onednn_packed_product(x + row * shape.k, weights + w, y + row * shape.n, rows, shape.n, shape.k, PeerType::kF32);
                })},
               {"oneDNN packed bf16", each_group([&](int64_t w, int64_t row, int64_t rows) {
                  return onednn_packed_product(x + row * shape.k, weights + w, y + row * shape.n, rows, shape.n, shape.k, PeerType::kBf16);
                })}});
  bench.table(engine, "dgrad " + name, shape.work(),
              {{"cudamoe f32", dgrad(engine, shape, dz, weights, x, dx, CUDAMOE_F32)},
               {"cudamoe bf16 weights", dgrad(engine, shape, dz, weights, x, dx, CUDAMOE_BF16)}});
  bench.table(engine, "wgrad " + name, shape.work(),
              {{"cudamoe f32", wgrad(engine, shape, dz, x, dw, CUDAMOE_F32)},
               {"cudamoe bf16", wgrad(engine, shape, dz, x, dw, CUDAMOE_BF16)},
               {"OpenBLAS", each_group([&](int64_t w, int64_t row, int64_t rows) {
                  return openblas_product(dz + row * shape.n, x + row * shape.k, dw + w, shape.n, shape.k, rows, true);
                })},
               {"oneDNN", each_group([&](int64_t w, int64_t row, int64_t rows) {
                  return onednn_gradient(dz + row * shape.n, x + row * shape.k, dw + w, shape.n, shape.k, rows);
                })}});
}

void run(Bench& bench, Engine& engine) {
  std::printf("f32 multiply-add peak %.1f GFLOP/s with %d threads; vdpbf16ps %.1f GFLOP/s with 1; streaming copy %.1f GB/s\n",
              multiply_add_peak(engine.threads(), bench.settings().sample_seconds) * 1e-9, engine.threads(), bf16_dot_peak() * 1e-9,
              copy_bandwidth(engine.threads()) * 1e-9);
  const auto plain = [&](const char* name, int64_t rows, int64_t n, int64_t k, int32_t activation = CUDAMOE_ACTIVATION_NONE) {
    Shape shape{rows, n, k};
    shape.activation = activation;
    measure(bench, engine, name, shape);
  };
  plain("1024x1024x1024", 1024, 1024, 1024);
  plain("4096x256->256", 4096, 256, 256);
  plain("input 4096x429->256 relu", 4096, 256, 429, CUDAMOE_ACTIVATION_RELU);
  plain("experts 4096x256->1024 relu", 4096, 1024, 256, CUDAMOE_ACTIVATION_RELU);
  plain("experts 4096x256->1024 gelu", 4096, 1024, 256, CUDAMOE_ACTIVATION_GELU);
  // The same two with rows as a model on a CPU lays them: aligned, and not a multiple of 4 KiB apart.
  Shape input{4096, 256, 429};
  input.x_gap = 3;
  input.activation = CUDAMOE_ACTIVATION_RELU;
  measure(bench, engine, "input 4096x429->256 relu, model's rows", input);
  Shape experts{4096, 1024, 256};
  experts.y_gap = 16;
  experts.activation = CUDAMOE_ACTIVATION_RELU;
  measure(bench, engine, "experts 4096x256->1024 relu, model's rows", experts);
  Shape towers{4096, 64, 128, 3};
  towers.x_row_stride = 384;
  towers.x_group_stride = 128;
  towers.activation = CUDAMOE_ACTIVATION_RELU;
  measure(bench, engine, "towers 3 x 4096x128->64 strided", towers);
  plain("head 4096x64->1", 4096, 1, 64);
  plain("gate 4096x256->24", 4096, 24, 256);
  measure(bench, engine, "8 experts 512x256->128", {512, 128, 256, 8});

  // 16 experts, 8192 rows, uneven, one empty.
  Engine memory(engine.threads());
  constexpr int32_t kExperts = 16;
  constexpr int64_t kRows = 8192;
  auto* offsets = memory.allocate_of<int64_t>(kExperts + 1);
  int64_t total = 0;
  int64_t weights[kExperts];
  for (int32_t e = 0; e < kExperts; ++e) total += weights[e] = e == 5 ? 0 : 3 + (e * 7) % 11;
  int64_t sum = 0;
  for (int32_t e = 0; e < kExperts; ++e) {
    sum += weights[e];
    offsets[e + 1] = sum * kRows / total;
  }
  measure(bench, engine, "16 ragged 8192x256->128", {kRows, 128, 256, kExperts, offsets});
  auto* gather = memory.allocate_of<int32_t>(kRows);
  for (int64_t i = 0; i < kRows; ++i) gather[i] = static_cast<int32_t>(i * 5003 % kRows);
  Shape gathered{kRows, 128, 256, kExperts, offsets, gather};
  gathered.activation = CUDAMOE_ACTIVATION_RELU;
  measure(bench, engine, "16 ragged gathered 8192x256->128 relu", gathered);
  gathered.n = 512;
  measure(bench, engine, "16 ragged gathered 8192x256->512 relu", gathered);
  measure(bench, engine, "16 ragged 8192x512->128", {kRows, 128, 512, kExperts, offsets});

  plain("16x256->128", 16, 128, 256);
  plain("1x256->128", 1, 128, 256);
  plain("1x429->256", 1, 256, 429);
  plain("256x256->128", 256, 128, 256);
}

const Suite suite("gemm", run);

}  // namespace
}  // namespace cudamoe::bench
