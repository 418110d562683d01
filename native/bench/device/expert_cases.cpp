// Both layers of experts in one operation, and the mixtures of experts.
#include "device/cases.h"

namespace cudamoe::bench {
namespace {

constexpr int32_t kExperts = 16, kChoices = 2, kTasks = 3;
constexpr int64_t kInputs = 256, kHidden = 128, kOutputs = 64;

double count(int64_t n) { return static_cast<double>(n); }

constexpr double kWeightBytes = 2.0 * kExperts * kHidden * (kInputs + kOutputs);
constexpr double kRowOperations = 2.0 * kHidden * (kInputs + kOutputs);

const void* pack(DeviceEngine& engine, int64_t n, int64_t k) {
  cudamoe_gemm_pack_args args{};
  args.struct_size = sizeof args;
  args.groups = kExperts;
  args.n = n;
  args.k = k;
  args.weights = engine.random(kExperts * n * k);
  args.weights_row_stride = k;
  args.weights_group_stride = n * k;
  args.dtype = CUDAMOE_BF16;
  require(cudamoe_gemm_packed_bytes(engine.stream(), &args, &args.packed_bytes));
  args.packed = engine.allocate(args.packed_bytes);
  require(cudamoe_gemm_pack(engine.stream(), &args));
  return args.packed;
}

template <class Args>
Args describe(DeviceEngine& engine, int64_t batch) {
  Args args{};
  args.struct_size = sizeof args;
  args.n = kOutputs;
  args.hidden = kHidden;
  args.k = kInputs;
  args.x = engine.random_of(batch * kInputs, CUDAMOE_BF16);
  args.x_row_stride = kInputs;
  args.packed1 = pack(engine, kHidden, kInputs);
  args.packed2 = pack(engine, kOutputs, kHidden);
  args.bias1 = engine.random(kExperts * kHidden);
  args.bias1_group_stride = kHidden;
  args.bias2 = engine.random(kExperts * kOutputs);
  args.bias2_group_stride = kOutputs;
  args.x_dtype = args.packed_dtype = args.y_dtype = CUDAMOE_BF16;
  args.hidden_activation = CUDAMOE_ACTIVATION_RELU;
  return args;
}

// Routed rows of two experts a sample, hidden rows kept for the backward.
Prepared forward(DeviceEngine& engine, int64_t batch) {
  const int64_t rows = batch * kChoices;
  std::vector<int64_t> offsets;
  for (int64_t g = 0; g <= kExperts; ++g) offsets.push_back(g * rows / kExperts);
  std::vector<int32_t> sample;  // ascending within an expert, as routing makes them
  for (int64_t row = 0; row < rows; ++row) sample.push_back(static_cast<int32_t>(row * 8 % batch + row * 8 / batch % 8));
  auto args = describe<cudamoe_expert_forward_args>(engine, batch);
  args.groups = kExperts;
  args.rows = rows;
  args.offsets = engine.upload(offsets);
  args.gather = engine.upload(sample);
  args.x_rows = batch;
  args.h = engine.allocate(2 * rows * kHidden);
  args.h_row_stride = kHidden;
  args.h_dtype = CUDAMOE_BF16;
  args.y = engine.allocate(2 * rows * kOutputs);
  args.y_row_stride = kOutputs;
  require(cudamoe_expert_forward_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  return {[&engine, args] { require(cudamoe_expert_forward(engine.stream(), &args)); },
          {2 * count(batch * kInputs + rows * (kHidden + kOutputs)) + kWeightBytes + 4 * count(rows), count(rows) * kRowOperations},
          {}};
}

// Of the two chosen experts of each sample, or of all experts for three tasks.
Prepared mix(DeviceEngine& engine, int64_t batch, bool sparse) {
  const int32_t tasks = sparse ? 1 : kTasks, choices = sparse ? kChoices : kExperts;
  auto args = describe<cudamoe_expert_mix_args>(engine, batch);
  args.experts = kExperts;
  args.tasks = tasks;
  args.choices = choices;
  args.rows = batch;
  args.gates = engine.random(batch * tasks * choices);
  if (sparse) {
    std::vector<int32_t> chosen;
    for (int64_t b = 0; b < batch; ++b) {
      chosen.push_back(static_cast<int32_t>(b % 8));
      chosen.push_back(static_cast<int32_t>(b % 8 + 8));
    }
    args.chosen = engine.upload(chosen);
  }
  args.y = engine.allocate(2 * batch * tasks * kOutputs);
  args.y_row_stride = tasks * kOutputs;
  args.y_task_stride = kOutputs;
  require(cudamoe_expert_mix_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  const int64_t pairs = batch * tasks * choices, rows_of_experts = sparse ? batch * kChoices : batch * kExperts;
  return {[&engine, args] { require(cudamoe_expert_mix(engine.stream(), &args)); },
          {2 * count(batch * (kInputs + tasks * kOutputs)) + kWeightBytes + (sparse ? 8.0 : 4.0) * count(pairs),
           count(rows_of_experts) * kRowOperations + 2 * count(pairs * kOutputs)},
          {}};
}

}  // namespace

std::vector<Case> expert_cases() {
  return {
      {"experts 256 -> 128 -> 64, gathered, h kept, bf16", forward},
      {"mixture of 2 experts 256 -> 128 -> 64, bf16", [](DeviceEngine& e, int64_t b) { return mix(e, b, true); }},
      {"mixtures of 16 experts 256 -> 128 -> 64, 3 tasks, bf16", [](DeviceEngine& e, int64_t b) { return mix(e, b, false); }},
  };
}

}  // namespace cudamoe::bench
