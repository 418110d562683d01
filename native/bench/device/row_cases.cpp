// What is done row by row: combine, normalisation, loss, balance, optimiser.
#include <memory>

#include "device/cases.h"

namespace cudamoe::bench {
namespace {

constexpr int64_t kParametersOfSample = 32;  // 2 M parameters at the reference batch

double count(int64_t n) { return static_cast<double>(n); }

// Sparse: two rows of bf16 a sample. Dense: 16 experts a sample, 3 tasks.
struct Mixture {
  int32_t tasks, choices;
  int64_t width;
  bool sparse;

  int64_t expert_rows(int64_t batch) const { return batch * choices; }
  double expert_bytes(int64_t batch) const { return 2 * count(expert_rows(batch) * width); }
  double gate_bytes(int64_t batch) const { return (sparse ? 8.0 : 4.0) * count(batch * tasks * choices); }
  double output_bytes(int64_t batch) const { return 4 * count(batch * tasks * width); }

  // The slots of a sample's pairs, as routing makes them: two experts of eight apart.
  const int32_t* slots(DeviceEngine& engine, int64_t batch) const {
    if (!sparse) return nullptr;
    std::vector<int32_t> slot;
    const int64_t rows_of_expert = batch / 8;
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t c = 0; c < choices; ++c) slot.push_back(static_cast<int32_t>((b % 8 + 8 * c) * rows_of_expert + b / 8));
    }
    return engine.upload(slot);
  }
};
constexpr Mixture kOutputs{1, 2, 64, true}, kInputs{1, 2, 256, true}, kDense{3, 16, 128, false};

Prepared combine(DeviceEngine& engine, int64_t batch, const Mixture& mixture) {
  cudamoe_combine_forward_args args{};
  args.struct_size = sizeof args;
  args.tasks = mixture.tasks;
  args.choices = mixture.choices;
  args.rows = batch;
  args.width = mixture.width;
  args.gates = engine.random(batch * mixture.tasks * mixture.choices);
  args.slot_of_pair = mixture.slots(engine, batch);
  args.expert = engine.random_of(mixture.expert_rows(batch) * mixture.width, CUDAMOE_BF16);
  args.expert_row_stride = mixture.sparse ? mixture.width : mixture.width * mixture.choices;
  args.expert_stride = mixture.width;
  args.expert_rows = mixture.expert_rows(batch);
  args.expert_dtype = CUDAMOE_BF16;
  args.y = engine.allocate_of<float>(batch * mixture.tasks * mixture.width);
  args.y_row_stride = mixture.tasks * mixture.width;
  args.y_task_stride = mixture.width;
  return {[&engine, args] { require(cudamoe_combine_forward(engine.stream(), &args)); },
          {mixture.expert_bytes(batch) + mixture.gate_bytes(batch) + mixture.output_bytes(batch),
           2 * count(batch * mixture.tasks * mixture.choices * mixture.width)},
          {}};
}

Prepared combine_backward(DeviceEngine& engine, int64_t batch, const Mixture& mixture) {
  cudamoe_combine_backward_args args{};
  args.struct_size = sizeof args;
  args.tasks = mixture.tasks;
  args.choices = mixture.choices;
  args.rows = batch;
  args.width = mixture.width;
  args.activation = CUDAMOE_ACTIVATION_RELU;
  args.gates = engine.random(batch * mixture.tasks * mixture.choices);
  args.slot_of_pair = mixture.slots(engine, batch);
  args.expert = engine.random_of(mixture.expert_rows(batch) * mixture.width, CUDAMOE_BF16);
  args.expert_row_stride = args.dexpert_row_stride = mixture.sparse ? mixture.width : mixture.width * mixture.choices;
  args.expert_stride = args.dexpert_stride = mixture.width;
  args.expert_rows = mixture.expert_rows(batch);
  args.expert_dtype = CUDAMOE_BF16;
  args.dy = engine.random(batch * mixture.tasks * mixture.width);
  args.dy_row_stride = mixture.tasks * mixture.width;
  args.dy_task_stride = mixture.width;
  args.dexpert = engine.allocate(2 * mixture.expert_rows(batch) * mixture.width);
  args.dgates = engine.allocate_of<float>(batch * mixture.tasks * mixture.choices);
  require(cudamoe_combine_backward_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  return {[&engine, args] { require(cudamoe_combine_backward(engine.stream(), &args)); },
          {2 * mixture.expert_bytes(batch) + mixture.gate_bytes(batch) + 4 * count(batch * mixture.tasks * mixture.choices) +
               mixture.output_bytes(batch),
           4 * count(batch * mixture.tasks * mixture.choices * mixture.width)},
          {}};
}

Prepared loss(DeviceEngine& engine, int64_t batch) {
  constexpr int32_t kTasks = 3;
  const auto tasks = std::make_shared<std::vector<cudamoe_loss_task> >();
  std::vector<float> labels;
  Numbers numbers;
  for (int64_t b = 0; b < batch; ++b) labels.push_back(static_cast<float>(numbers.below(2)));
  for (int32_t t = 0; t < kTasks; ++t) {
    cudamoe_loss_task task{};
    task.logits = engine.random(batch);
    task.logits_row_stride = 1;
    task.labels = engine.upload(labels);
    task.labels_stride = 1;
    task.dlogits = engine.allocate_of<float>(batch);
    task.dlogits_row_stride = 1;
    task.kind = CUDAMOE_LOSS_BINARY;
    task.classes = 1;
    task.scale = 1;
    tasks->push_back(task);
  }
  cudamoe_loss_args args{};
  args.struct_size = sizeof args;
  args.task_count = kTasks;
  args.rows = batch;
  args.tasks = tasks->data();
  args.losses = engine.allocate_of<double>(kTasks);
  args.weight_sums = engine.allocate_of<double>(kTasks);
  require(cudamoe_loss_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  return {[&engine, args, tasks] { require(cudamoe_loss(engine.stream(), &args)); }, {12 * count(batch * kTasks), 0}, {}};
}

constexpr int64_t kNormWidth = 256;

cudamoe_layer_norm_forward_args norm_args(DeviceEngine& engine, int64_t batch) {
  cudamoe_layer_norm_forward_args args{};
  args.struct_size = sizeof args;
  args.epsilon = 1e-5f;
  args.rows = batch;
  args.width = kNormWidth;
  args.x = engine.random(batch * kNormWidth);
  args.gamma = engine.random(kNormWidth);
  args.beta = engine.random(kNormWidth);
  args.y = engine.allocate_of<float>(batch * kNormWidth);
  args.x_row_stride = args.y_row_stride = kNormWidth;
  args.mean = engine.allocate_of<float>(batch);
  args.reciprocal_deviation = engine.allocate_of<float>(batch);
  return args;
}

Prepared norm(DeviceEngine& engine, int64_t batch) {
  const cudamoe_layer_norm_forward_args args = norm_args(engine, batch);
  return {[&engine, args] { require(cudamoe_layer_norm_forward(engine.stream(), &args)); }, {count(batch) * (8 * kNormWidth + 8), 0}, {}};
}

Prepared norm_backward(DeviceEngine& engine, int64_t batch) {
  const cudamoe_layer_norm_forward_args forward = norm_args(engine, batch);
  require(cudamoe_layer_norm_forward(engine.stream(), &forward));
  cudamoe_layer_norm_backward_args args{};
  args.struct_size = sizeof args;
  args.rows = batch;
  args.width = kNormWidth;
  args.x = forward.x;
  args.gamma = forward.gamma;
  args.mean = forward.mean;
  args.reciprocal_deviation = forward.reciprocal_deviation;
  args.dy = engine.random(batch * kNormWidth);
  args.dx = engine.allocate_of<float>(batch * kNormWidth);
  args.x_row_stride = args.dy_row_stride = args.dx_row_stride = kNormWidth;
  args.dgamma = engine.allocate_of<float>(kNormWidth);
  args.dbeta = engine.allocate_of<float>(kNormWidth);
  require(cudamoe_layer_norm_backward_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  return {[&engine, args] { require(cudamoe_layer_norm_backward(engine.stream(), &args)); }, {count(batch) * (12 * kNormWidth + 8), 0}, {}};
}

Prepared rms_norm(DeviceEngine& engine, int64_t batch) {
  const cudamoe_layer_norm_forward_args norm = norm_args(engine, batch);
  cudamoe_rms_norm_forward_args args{};
  args.struct_size = sizeof args;
  args.epsilon = norm.epsilon;
  args.rows = batch;
  args.width = kNormWidth;
  args.x = norm.x;
  args.gamma = norm.gamma;
  args.y = norm.y;
  args.x_row_stride = args.y_row_stride = kNormWidth;
  args.reciprocal = norm.reciprocal_deviation;
  return {[&engine, args] { require(cudamoe_rms_norm_forward(engine.stream(), &args)); }, {count(batch) * (8 * kNormWidth + 4), 0}, {}};
}

// Both factors are columns of one product's output, as in a transformer's gated layer, and so are their gradients.
Prepared gated_product(DeviceEngine& engine, int64_t batch) {
  cudamoe_gated_product_forward_args args{};
  args.struct_size = sizeof args;
  args.activation = CUDAMOE_ACTIVATION_SILU;
  args.rows = batch;
  args.width = kNormWidth;
  args.a = engine.random(batch * 2 * kNormWidth);
  args.b = args.a + kNormWidth;
  args.y = engine.allocate_of<float>(batch * kNormWidth);
  args.a_row_stride = args.b_row_stride = 2 * kNormWidth;
  args.y_row_stride = kNormWidth;
  return {[&engine, args] { require(cudamoe_gated_product_forward(engine.stream(), &args)); }, {count(batch) * 12 * kNormWidth, 0}, {}};
}

Prepared gated_product_backward(DeviceEngine& engine, int64_t batch) {
  cudamoe_gated_product_backward_args args{};
  args.struct_size = sizeof args;
  args.activation = CUDAMOE_ACTIVATION_SILU;
  args.rows = batch;
  args.width = kNormWidth;
  args.a = engine.random(batch * 2 * kNormWidth);
  args.b = args.a + kNormWidth;
  args.dy = engine.random(batch * kNormWidth);
  args.da = engine.allocate_of<float>(batch * 2 * kNormWidth);
  args.db = args.da + kNormWidth;
  args.a_row_stride = args.b_row_stride = args.da_row_stride = args.db_row_stride = 2 * kNormWidth;
  args.dy_row_stride = kNormWidth;
  return {[&engine, args] { require(cudamoe_gated_product_backward(engine.stream(), &args)); }, {count(batch) * 20 * kNormWidth, 0}, {}};
}

constexpr int32_t kBalanceTasks = 8;

Prepared gram(DeviceEngine& engine, int64_t batch) {
  cudamoe_balance_gram_args args{};
  args.struct_size = sizeof args;
  args.tasks = kBalanceTasks;
  args.rows = batch;
  args.width = args.row_stride = kParametersOfSample;
  args.task_stride = batch * kParametersOfSample;
  args.gradients = engine.random(kBalanceTasks * args.task_stride);
  args.gram = engine.allocate_of<double>(kBalanceTasks * kBalanceTasks);
  require(cudamoe_balance_gram_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  const double elements = count(args.task_stride);
  return {[&engine, args] { require(cudamoe_balance_gram(engine.stream(), &args)); },
          {4 * kBalanceTasks * elements, kBalanceTasks * (kBalanceTasks + 1) * elements},
          {}};
}

Prepared weighted_sum(DeviceEngine& engine, int64_t batch) {
  cudamoe_balance_combine_args args{};
  args.struct_size = sizeof args;
  args.tasks = kBalanceTasks;
  args.rows = batch;
  args.width = args.row_stride = args.output_row_stride = kParametersOfSample;
  args.task_stride = batch * kParametersOfSample;
  args.gradients = engine.random(kBalanceTasks * args.task_stride);
  args.weights = engine.random(kBalanceTasks);
  args.output = engine.allocate_of<float>(args.task_stride);
  const double elements = count(args.task_stride);
  return {[&engine, args] { require(cudamoe_balance_combine(engine.stream(), &args)); },
          {4 * (kBalanceTasks + 1) * elements, 2 * kBalanceTasks * elements},
          {}};
}

Prepared column_sums(DeviceEngine& engine, int64_t batch) {
  cudamoe_balance_columns_args args{};
  args.struct_size = sizeof args;
  args.tasks = kBalanceTasks;
  args.rows = batch;
  args.width = args.task_stride = kParametersOfSample;
  args.row_stride = kBalanceTasks * kParametersOfSample;
  args.gradients = engine.random(batch * args.row_stride);
  args.parts = 2;
  args.sums = engine.allocate_of<double>(int64_t{2} * kBalanceTasks * args.width);
  require(cudamoe_balance_columns_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  const double elements = count(batch * args.row_stride);
  return {[&engine, args] { require(cudamoe_balance_columns(engine.stream(), &args)); }, {4 * elements, elements}, {}};
}

Prepared column_factors(DeviceEngine& engine, int64_t batch) {
  cudamoe_balance_scale_args args{};
  args.struct_size = sizeof args;
  args.tasks = kBalanceTasks;
  args.rows = batch;
  args.width = args.task_stride = kParametersOfSample;
  args.row_stride = kBalanceTasks * kParametersOfSample;
  args.gradients = engine.random(batch * args.row_stride);
  args.factors = engine.random(kBalanceTasks * args.width);
  const double elements = count(batch * args.row_stride);
  return {[&engine, args] { require(cudamoe_balance_scale(engine.stream(), &args)); }, {8 * elements, elements}, {}};
}

std::shared_ptr<cudamoe_optimizer_tensor> parameters(DeviceEngine& engine, int64_t n) {
  return std::make_shared<cudamoe_optimizer_tensor>(cudamoe_optimizer_tensor{
      engine.random(n), engine.random(n), engine.allocate_of<float>(n), engine.allocate_of<float>(n), n, 1, 0.01f});
}

Prepared step(DeviceEngine& engine, int64_t batch, int32_t optimizer, double bytes) {
  const int64_t n = batch * kParametersOfSample;
  const auto tensor = parameters(engine, n);
  cudamoe_optimizer_step_args args{};
  args.struct_size = sizeof args;
  args.tensor_count = 1;
  args.tensors = tensor.get();
  args.optimizer = optimizer;
  args.learning_rate = 1e-6f;
  args.beta1 = 0.9f;
  args.beta2 = 0.999f;
  args.epsilon = 1e-8f;
  args.gradient_scale = 1;
  args.step = 10;
  return {[&engine, args, tensor] { require(cudamoe_optimizer_step(engine.stream(), &args)); }, {bytes * count(n), 0}, {}};
}

Prepared gradient_norm(DeviceEngine& engine, int64_t batch) {
  const int64_t n = batch * kParametersOfSample;
  const auto tensor = parameters(engine, n);
  cudamoe_optimizer_norm_args args{};
  args.struct_size = sizeof args;
  args.tensor_count = 1;
  args.tensors = tensor.get();
  args.norm = engine.allocate_of<double>(1);
  require(cudamoe_optimizer_norm_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  return {[&engine, args, tensor] { require(cudamoe_optimizer_norm(engine.stream(), &args)); }, {4 * count(n), 0}, {}};
}

}  // namespace

std::vector<Case> row_cases() {
  return {
      {"combine 2 rows of 64, bf16", [](DeviceEngine& e, int64_t b) { return combine(e, b, kOutputs); }},
      {"combine 2 rows of 64, backward", [](DeviceEngine& e, int64_t b) { return combine_backward(e, b, kOutputs); }},
      {"combine 2 rows of 256, bf16", [](DeviceEngine& e, int64_t b) { return combine(e, b, kInputs); }},
      {"dense mixture, 3 tasks of 16 experts", [](DeviceEngine& e, int64_t b) { return combine(e, b, kDense); }},
      {"dense mixture, backward", [](DeviceEngine& e, int64_t b) { return combine_backward(e, b, kDense); }},
      {"layer norm of 256", norm},
      {"layer norm of 256, backward", norm_backward},
      {"rms norm of 256", rms_norm},
      {"gated product of 256, SiLU", gated_product},
      {"gated product of 256, SiLU, backward", gated_product_backward},
      {"loss of 3 tasks", loss},
      {"Gram matrix of 8 gradients", gram},
      {"weighted sum of 8 gradients", weighted_sum},
      {"column sums of 8 gradients", column_sums},
      {"column factors of 8 gradients", column_factors},
      {"gradient norm", gradient_norm},
      {"SGD step", [](DeviceEngine& e, int64_t b) { return step(e, b, CUDAMOE_OPTIMIZER_SGD, 12); }},
      {"AdaGrad step", [](DeviceEngine& e, int64_t b) { return step(e, b, CUDAMOE_OPTIMIZER_ADAGRAD, 20); }},
      {"AdamW step", [](DeviceEngine& e, int64_t b) { return step(e, b, CUDAMOE_OPTIMIZER_ADAMW, 28); }},
  };
}

}  // namespace cudamoe::bench
