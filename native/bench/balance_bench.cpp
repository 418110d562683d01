// The Gram matrix and the weighted sum of task gradients on a shared representation [4096, 128], and on a long vector of parameters.
#include <string>

#include "support/harness.h"

namespace cudamoe::bench {
namespace {

void run(Bench& bench, Engine& engine) {
  struct Shape {
    int32_t tasks;
    int64_t rows, width;
  };
  for (const Shape& shape : {Shape{3, 4096, 128}, Shape{8, 4096, 128}, Shape{8, 1, int64_t{2} << 20}}) {
    const std::string name = std::to_string(shape.tasks) + " x [" + std::to_string(shape.rows) + ", " + std::to_string(shape.width) + "]";
    if (!bench.selected("balance " + name)) continue;
    Engine own(engine.threads());
    const int64_t size = shape.rows * shape.width;
    const float* gradients = own.random(shape.tasks * size);
    cudamoe_balance_gram_args gram{};
    gram.struct_size = sizeof gram;
    gram.tasks = shape.tasks;
    gram.rows = shape.rows;
    gram.width = shape.width;
    gram.gradients = gradients;
    gram.task_stride = size;
    gram.row_stride = shape.width;
    gram.gram = own.allocate_of<double>(shape.tasks * shape.tasks);
    require(cudamoe_balance_gram_workspace(own.stream(), &gram, &gram.workspace_bytes));
    gram.workspace = own.allocate(gram.workspace_bytes);
    bench.table(own, "balance gram " + name, {0, 4.0 * static_cast<double>(shape.tasks * size)},
                {{"cudamoe", [&] { require(cudamoe_balance_gram(own.stream(), &gram)); }}});

    cudamoe_balance_combine_args combine{};
    combine.struct_size = sizeof combine;
    combine.tasks = shape.tasks;
    combine.rows = shape.rows;
    combine.width = shape.width;
    combine.gradients = gradients;
    combine.task_stride = size;
    combine.row_stride = combine.output_row_stride = shape.width;
    combine.weights = own.random(shape.tasks);
    combine.output = own.allocate_of<float>(size);
    bench.table(own, "balance combine " + name, {0, 4.0 * static_cast<double>((shape.tasks + 1) * size)},
                {{"cudamoe", [&] { require(cudamoe_balance_combine(own.stream(), &combine)); }}});
  }
}

const Suite suite("balance", run);

}  // namespace
}  // namespace cudamoe::bench
