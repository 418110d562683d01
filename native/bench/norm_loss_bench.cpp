// Layer normalisation and losses. The floor: every array read or written once at copy bandwidth.
#include <string>
#include <vector>

#include "support/harness.h"

namespace cudamoe::bench {
namespace {

void norms(Bench& bench, Engine& engine) {
  const int64_t shapes[][2] = {{4096, 128}, {65536, 256}, {2048, 1024}};
  for (const auto& [rows, width] : shapes) {
    const std::string shape = std::to_string(rows) + " x " + std::to_string(width);
    const std::string forward_title = "layer norm forward " + shape, backward_title = "layer norm backward " + shape;
    if (!bench.selected(forward_title) && !bench.selected(backward_title)) continue;
    cudamoe_layer_norm_forward_args f{};
    f.struct_size = sizeof f;
    f.epsilon = 1e-5f;
    f.rows = rows;
    f.width = width;
    f.x = engine.random(rows * width);
    f.gamma = engine.random(width);
    f.beta = engine.random(width);
    f.y = engine.allocate_of<float>(rows * width);
    f.x_row_stride = f.y_row_stride = width;
    f.mean = engine.allocate_of<float>(rows);
    f.reciprocal_deviation = engine.allocate_of<float>(rows);
    require(cudamoe_layer_norm_forward(engine.stream(), &f));
    cudamoe_layer_norm_backward_args b{};
    b.struct_size = sizeof b;
    b.rows = rows;
    b.width = width;
    b.x = f.x;
    b.gamma = f.gamma;
    b.mean = f.mean;
    b.reciprocal_deviation = f.reciprocal_deviation;
    b.dy = engine.random(rows * width);
    b.dx = engine.allocate_of<float>(rows * width);
    b.x_row_stride = b.dy_row_stride = b.dx_row_stride = width;
    b.dgamma = engine.allocate_of<float>(width);
    b.dbeta = engine.allocate_of<float>(width);
    require(cudamoe_layer_norm_backward_workspace(engine.stream(), &b, &b.workspace_bytes));
    b.workspace = engine.allocate(b.workspace_bytes);
    const double bytes = 4.0 * static_cast<double>(rows * width);
    if (bench.selected(forward_title)) {
      bench.table(engine, forward_title, {0, 2 * bytes}, {{"cudamoe", [&] { require(cudamoe_layer_norm_forward(engine.stream(), &f)); }}});
    }
    if (bench.selected(backward_title)) {
      bench.table(engine, backward_title, {0, 3 * bytes},
                  {{"cudamoe", [&] { require(cudamoe_layer_norm_backward(engine.stream(), &b)); }}});
    }
  }
}

void losses(Bench& bench, Engine& engine) {
  for (int64_t rows : {4096, 65536}) {
    for (int32_t kind : {CUDAMOE_LOSS_BINARY, CUDAMOE_LOSS_SQUARED, CUDAMOE_LOSS_SOFTMAX}) {
      static const char* const kKinds[] = {"binary", "squared", "softmax of 10"};
      const std::string title = std::string("loss ") + kKinds[kind] + " " + std::to_string(rows) + " x 3 tasks";
      if (!bench.selected(title)) continue;
      const int32_t classes = kind == CUDAMOE_LOSS_SOFTMAX ? 10 : 1;
      std::vector<cudamoe_loss_task> tasks(3);
      for (cudamoe_loss_task& t : tasks) {
        auto* labels = engine.allocate_of<float>(rows);
        for (int64_t b = 0; b < rows; ++b) labels[b] = static_cast<float>(b * 7 % 11 % 2);
        t.logits = engine.random(rows * classes);
        t.labels = labels;
        t.dlogits = engine.allocate_of<float>(rows * classes);
        t.logits_row_stride = t.dlogits_row_stride = classes;
        t.labels_stride = 1;
        t.kind = kind;
        t.classes = classes;
        t.scale = 1;
      }
      cudamoe_loss_args a{};
      a.struct_size = sizeof a;
      a.task_count = 3;
      a.rows = rows;
      a.tasks = tasks.data();
      a.losses = engine.allocate_of<double>(3);
      a.weight_sums = engine.allocate_of<double>(3);
      require(cudamoe_loss_workspace(engine.stream(), &a, &a.workspace_bytes));
      a.workspace = engine.allocate(a.workspace_bytes);
      bench.table(engine, title, {0, 3.0 * static_cast<double>(rows) * (8.0 * classes + 4.0)},
                  {{"cudamoe", [&] { require(cudamoe_loss(engine.stream(), &a)); }}});
    }
  }
}

const Suite kNorms("norm", norms);
const Suite kLosses("loss", losses);

}  // namespace
}  // namespace cudamoe::bench
