// The combine at the dense shape of MMoE training and a sparse one. The floor: every array read or written once at copy bandwidth.
#include <string>

#include "support/harness.h"

namespace cudamoe::bench {
namespace {

struct Shape {
  int64_t rows, width;
  int32_t tasks, choices;
  bool sparse;
  int32_t dtype;

  std::string title(const char* pass) const {
    return std::string("combine ") + pass + (sparse ? " sparse " : " dense ") + std::to_string(rows) + " x " + std::to_string(choices) +
           " x " + std::to_string(width) + ", " + std::to_string(tasks) + " tasks" + (dtype == CUDAMOE_BF16 ? " bf16" : "");
  }
};

void combines(Bench& bench, Engine& engine) {
  const Shape shapes[] = {{4096, 128, 3, 8, false, CUDAMOE_F32},
                          {65536, 128, 3, 8, false, CUDAMOE_F32},
                          {4096, 128, 3, 8, false, CUDAMOE_BF16},
                          {4096, 64, 3, 8, false, CUDAMOE_F32},
                          {65536, 64, 1, 2, true, CUDAMOE_F32}};
  for (const Shape& s : shapes) {
    if (!bench.selected(s.title("forward")) && !bench.selected(s.title("backward"))) continue;
    const int64_t gates = s.rows * s.tasks * s.choices, expert_rows = s.sparse ? gates : s.rows * s.choices,
                  elements = expert_rows * s.width;
    const int64_t outputs = s.rows * s.tasks * s.width, bytes_each = s.dtype == CUDAMOE_BF16 ? 2 : 4;
    cudamoe_combine_forward_args f{};
    f.struct_size = sizeof f;
    f.tasks = s.tasks;
    f.rows = s.rows;
    f.width = s.width;
    f.choices = s.choices;
    f.gates = engine.random(gates);
    f.expert = engine.random(elements);  // as bf16: any bits below 2^31 that are finite serve
    if (s.dtype == CUDAMOE_BF16) {
      auto* bits = engine.allocate_of<uint16_t>(elements);
      for (int64_t i = 0; i < elements; ++i) bits[i] = static_cast<uint16_t>(0x3F00 + i % 97);
      f.expert = bits;
    }
    f.expert_row_stride = s.sparse ? s.width : s.choices * s.width;
    f.expert_stride = s.width;
    f.expert_rows = expert_rows;
    f.expert_dtype = s.dtype;
    if (s.sparse) {
      // A pair's row lies in its expert's part, as the routing of evenly chosen experts puts it.
      constexpr int64_t kExperts = 16;
      auto* slots = engine.allocate_of<int32_t>(gates);
      for (int64_t i = 0; i < gates; ++i) slots[i] = static_cast<int32_t>(i % kExperts * (gates / kExperts) + i / kExperts);
      f.slot_of_pair = slots;
    }
    f.y = engine.allocate_of<float>(outputs);
    f.y_row_stride = s.tasks * s.width;
    f.y_task_stride = s.width;
    cudamoe_combine_backward_args b{};
    b.struct_size = sizeof b;
    b.tasks = s.tasks;
    b.rows = s.rows;
    b.width = s.width;
    b.choices = s.choices;
    b.activation = CUDAMOE_ACTIVATION_RELU;
    b.gates = f.gates;
    b.slot_of_pair = f.slot_of_pair;
    b.expert = f.expert;
    b.expert_row_stride = b.dexpert_row_stride = f.expert_row_stride;
    b.expert_stride = b.dexpert_stride = f.expert_stride;
    b.expert_rows = expert_rows;
    b.expert_dtype = s.dtype;
    b.dy = engine.random(outputs);
    b.dy_row_stride = f.y_row_stride;
    b.dy_task_stride = f.y_task_stride;
    b.dexpert = engine.allocate(elements * bytes_each);
    b.dgates = engine.allocate_of<float>(gates);
    require(cudamoe_combine_backward_workspace(engine.stream(), &b, &b.workspace_bytes));
    b.workspace = engine.allocate(b.workspace_bytes);
    const double gate_bytes = 4.0 * static_cast<double>(gates) * (s.sparse ? 2 : 1),
                 expert_bytes = static_cast<double>(elements * bytes_each);
    const double output_bytes = 4.0 * static_cast<double>(outputs);
    if (bench.selected(s.title("forward"))) {
      bench.table(engine, s.title("forward"), {0, gate_bytes + expert_bytes + output_bytes},
                  {{"cudamoe", [&] { require(cudamoe_combine_forward(engine.stream(), &f)); }}});
    }
    if (bench.selected(s.title("backward"))) {
      bench.table(engine, s.title("backward"), {0, 2 * gate_bytes + 2 * expert_bytes + output_bytes},
                  {{"cudamoe", [&] { require(cudamoe_combine_backward(engine.stream(), &b)); }}});
    }
  }
}

const Suite kCombines("combine", combines);

}  // namespace
}  // namespace cudamoe::bench
