// The experts' products, forward and backward, and the dense ones.
#include "device/cases.h"

namespace cudamoe::bench {
namespace {

constexpr int32_t kExperts = 16, kChoices = 2;
constexpr int64_t kInputs = 256, kHidden = 128, kOutputs = 64;

double size_of(int32_t dtype) { return dtype == CUDAMOE_BF16 ? 2 : 4; }

// Groups of rows: 16 experts of 1/16 of the pairs each, or one.
struct Groups {
  int32_t groups;
  std::vector<int64_t> host;
  const int64_t* offsets;
  int64_t rows;

  Groups(DeviceEngine& engine, int64_t batch, bool experts)
      : groups(experts ? kExperts : 1), offsets(nullptr), rows(experts ? batch * kChoices : batch) {
    for (int32_t g = 0; g <= groups; ++g) host.push_back(g * rows / groups);
    if (experts) offsets = engine.upload(host);
  }
};

// The samples of an expert's rows ascend, as routing makes them.
const int32_t* samples_of_rows(DeviceEngine& engine, int64_t batch) {
  std::vector<int32_t> sample;
  for (int64_t row = 0; row < batch * kChoices; ++row) sample.push_back(static_cast<int32_t>(row * 8 % batch + row * 8 / batch % 8));
  return engine.upload(sample);
}

const void* pack(DeviceEngine& engine, int32_t groups, int64_t n, int64_t k, int32_t transposed, int32_t dtype) {
  cudamoe_gemm_pack_args args{};
  args.struct_size = sizeof args;
  args.groups = groups;
  args.n = n;
  args.k = k;
  args.weights = engine.random(groups * n * k);
  args.weights_row_stride = k;
  args.weights_group_stride = n * k;
  args.transposed = transposed;
  args.dtype = dtype;
  require(cudamoe_gemm_packed_bytes(engine.stream(), &args, &args.packed_bytes));
  args.packed = engine.allocate(args.packed_bytes);
  require(cudamoe_gemm_pack(engine.stream(), &args));
  return args.packed;
}

Prepared packing(DeviceEngine& engine, int64_t) {
  const float* weights = engine.random(kExperts * kHidden * kInputs);
  cudamoe_gemm_pack_args args{};
  args.struct_size = sizeof args;
  args.groups = kExperts;
  args.n = kHidden;
  args.k = kInputs;
  args.weights = weights;
  args.weights_row_stride = kInputs;
  args.weights_group_stride = kHidden * kInputs;
  args.dtype = CUDAMOE_BF16;
  require(cudamoe_gemm_packed_bytes(engine.stream(), &args, &args.packed_bytes));
  args.packed = engine.allocate(args.packed_bytes);
  return {[&engine, args] { require(cudamoe_gemm_pack(engine.stream(), &args)); }, {6.0 * kExperts * kHidden * kInputs, 0}, {}};
}

struct Layer {
  int64_t n, k;
  bool experts, gathered;
};
constexpr Layer kFirst{kHidden, kInputs, true, true}, kSecond{kOutputs, kHidden, true, false},
    kDense{kExperts * kHidden, kInputs, false, false};

Prepared forward(DeviceEngine& engine, int64_t batch, Layer layer, int32_t dtype) {
  const Groups groups(engine, batch, layer.experts);
  const int64_t x_rows = layer.gathered ? batch : groups.rows;
  cudamoe_gemm_forward_args args{};
  args.struct_size = sizeof args;
  args.groups = groups.groups;
  args.rows = groups.rows;
  args.n = layer.n;
  args.k = layer.k;
  args.offsets = groups.offsets;
  if (layer.gathered) args.gather = samples_of_rows(engine, batch);
  args.x_rows = x_rows;
  args.x = engine.random_of(x_rows * layer.k, dtype);
  args.x_row_stride = layer.k;
  args.packed = pack(engine, groups.groups, layer.n, layer.k, 0, dtype);
  args.bias = engine.random(groups.groups * layer.n);
  args.bias_group_stride = layer.n;
  args.y = engine.allocate(groups.rows * layer.n * 4);
  args.y_row_stride = layer.n;
  args.x_dtype = args.packed_dtype = args.y_dtype = dtype;
  args.activation = CUDAMOE_ACTIVATION_RELU;
  require(cudamoe_gemm_forward_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  const double rows = static_cast<double>(groups.rows), weights = static_cast<double>(groups.groups * layer.n * layer.k);
  Prepared prepared{[&engine, args] { require(cudamoe_gemm_forward(engine.stream(), &args)); },
                    {size_of(dtype) * (static_cast<double>(x_rows * layer.k) + weights + rows * static_cast<double>(layer.n)) +
                         (layer.gathered ? 4 * rows : 0),
                     2 * rows * static_cast<double>(layer.n * layer.k)},
                    {}};
  // Other libraries cannot gather: they get the rows in place.
  if (dtype == CUDAMOE_BF16) {
    const void* x = layer.gathered ? engine.random_of(groups.rows * layer.k, dtype) : args.x;
    prepared.peer = {x, engine.random_of(groups.groups * layer.n * layer.k, dtype), args.y, groups.host, layer.n, layer.k};
  }
  return prepared;
}

Prepared dgrad(DeviceEngine& engine, int64_t batch, Layer layer, bool below, int32_t dtype) {
  const Groups groups(engine, batch, layer.experts);
  cudamoe_gemm_dgrad_args args{};
  args.struct_size = sizeof args;
  args.groups = groups.groups;
  args.rows = groups.rows;
  args.n = layer.n;
  args.k = layer.k;
  args.offsets = groups.offsets;
  args.dz = engine.random_of(groups.rows * layer.n, dtype);
  args.dz_row_stride = layer.n;
  args.packed = pack(engine, groups.groups, layer.n, layer.k, 1, dtype);
  args.dx = engine.allocate(groups.rows * layer.k * 4);
  args.dx_row_stride = layer.k;
  if (below) {
    args.below = engine.random_of(groups.rows * layer.k, dtype);
    args.below_row_stride = layer.k;
    args.activation = CUDAMOE_ACTIVATION_RELU;
  }
  args.dz_dtype = args.packed_dtype = args.dx_dtype = dtype;
  require(cudamoe_gemm_dgrad_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  const double rows = static_cast<double>(groups.rows), weights = static_cast<double>(groups.groups * layer.n * layer.k);
  return {[&engine, args] { require(cudamoe_gemm_dgrad(engine.stream(), &args)); },
          {size_of(dtype) * (rows * static_cast<double>(layer.n + (below ? 2 : 1) * layer.k) + weights),
           2 * rows * static_cast<double>(layer.n * layer.k)},
          {}};
}

Prepared wgrad(DeviceEngine& engine, int64_t batch, Layer layer, int32_t dtype) {
  const Groups groups(engine, batch, layer.experts);
  const int64_t x_rows = layer.gathered ? batch : groups.rows;
  cudamoe_gemm_wgrad_args args{};
  args.struct_size = sizeof args;
  args.groups = groups.groups;
  args.rows = groups.rows;
  args.n = layer.n;
  args.k = layer.k;
  args.offsets = groups.offsets;
  if (layer.gathered) args.gather = samples_of_rows(engine, batch);
  args.x_rows = x_rows;
  args.dz = engine.random_of(groups.rows * layer.n, dtype);
  args.dz_row_stride = layer.n;
  args.x = engine.random_of(x_rows * layer.k, dtype);
  args.x_row_stride = layer.k;
  args.dw = engine.allocate_of<float>(groups.groups * layer.n * layer.k);
  args.dw_row_stride = layer.k;
  args.dw_group_stride = layer.n * layer.k;
  args.dbias = engine.allocate_of<float>(groups.groups * layer.n);
  args.dbias_group_stride = layer.n;
  args.dz_dtype = args.x_dtype = args.compute_dtype = dtype;
  require(cudamoe_gemm_wgrad_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  const double rows = static_cast<double>(groups.rows), weights = static_cast<double>(groups.groups * (layer.n + 1) * layer.k);
  return {[&engine, args] { require(cudamoe_gemm_wgrad(engine.stream(), &args)); },
          {size_of(dtype) * (static_cast<double>(x_rows * layer.k) + rows * static_cast<double>(layer.n)) + 4 * weights +
               (layer.gathered ? 4 * rows : 0),
           2 * rows * static_cast<double>(layer.n * layer.k)},
          {}};
}

}  // namespace

std::vector<Case> gemm_cases() {
  std::vector<Case> cases{{"weights packed as bf16", packing}};
  for (const int32_t dtype : {CUDAMOE_BF16, CUDAMOE_F32}) {
    const std::string type = dtype == CUDAMOE_BF16 ? ", bf16" : ", f32";
    const auto add = [&](const std::string& name, auto&& prepare) { cases.push_back({name + type, prepare}); };
    add("experts 256 -> 128, gathered", [dtype](DeviceEngine& e, int64_t b) { return forward(e, b, kFirst, dtype); });
    add("experts 128 -> 64", [dtype](DeviceEngine& e, int64_t b) { return forward(e, b, kSecond, dtype); });
    add("experts 128 <- 64, derivative", [dtype](DeviceEngine& e, int64_t b) { return dgrad(e, b, kSecond, true, dtype); });
    add("experts 256 <- 128", [dtype](DeviceEngine& e, int64_t b) { return dgrad(e, b, kFirst, false, dtype); });
    add("weight gradient 256 x 128, gathered", [dtype](DeviceEngine& e, int64_t b) { return wgrad(e, b, kFirst, dtype); });
    add("weight gradient 128 x 64", [dtype](DeviceEngine& e, int64_t b) { return wgrad(e, b, kSecond, dtype); });
    if (dtype == CUDAMOE_BF16)
      add("dense experts 256 -> 2048", [dtype](DeviceEngine& e, int64_t b) { return forward(e, b, kDense, dtype); });
  }
  return cases;
}

}  // namespace cudamoe::bench
