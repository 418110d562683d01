// One optimiser step and the norm of a tensor that does not fit the caches; the floor is the bytes at copy bandwidth.
#include "support/harness.h"

namespace cudamoe::bench {
namespace {

constexpr int64_t kCount = int64_t{8} << 20;

void run(Bench& bench, Engine& engine) {
  struct Rule {
    const char* name;
    int32_t optimizer;
    float momentum;
    int64_t bytes;  // an element, read and written
  };
  if (!bench.selected("optimizer")) return;
  Engine own(engine.threads());
  const cudamoe_optimizer_tensor tensor{
      own.random(kCount), own.random(kCount), own.allocate_of<float>(kCount), own.allocate_of<float>(kCount), kCount, 1.0f, 0.01f};
  for (const Rule& rule : {Rule{"sgd", CUDAMOE_OPTIMIZER_SGD, 0, 12}, Rule{"sgd with momentum", CUDAMOE_OPTIMIZER_SGD, 0.9f, 20},
                           Rule{"adagrad", CUDAMOE_OPTIMIZER_ADAGRAD, 0, 20}, Rule{"adamw", CUDAMOE_OPTIMIZER_ADAMW, 0, 28}}) {
    cudamoe_optimizer_step_args args{};
    args.struct_size = sizeof args;
    args.tensor_count = 1;
    args.tensors = &tensor;
    args.optimizer = rule.optimizer;
    args.learning_rate = 1e-6f;
    args.momentum = rule.momentum;
    args.beta1 = 0.9f;
    args.beta2 = 0.999f;
    args.epsilon = 1e-8f;
    args.gradient_scale = 1;
    args.step = 10;
    bench.table(own, std::string("optimizer ") + rule.name + ", 8M parameters", {0, static_cast<double>(rule.bytes * kCount)},
                {{"cudamoe", [&] { require(cudamoe_optimizer_step(own.stream(), &args)); }}});
  }
  cudamoe_optimizer_norm_args norm{};
  norm.struct_size = sizeof norm;
  norm.tensor_count = 1;
  norm.tensors = &tensor;
  norm.norm = own.allocate_of<double>(1);
  require(cudamoe_optimizer_norm_workspace(own.stream(), &norm, &norm.workspace_bytes));
  norm.workspace = own.allocate(norm.workspace_bytes);
  bench.table(own, "optimizer norm, 8M gradients", {0, 4.0 * kCount},
              {{"cudamoe", [&] { require(cudamoe_optimizer_norm(own.stream(), &norm)); }}});
}

const Suite suite("optimizer", run);

}  // namespace
}  // namespace cudamoe::bench
