// Every family with matrices whose last row lies more than 2^31 elements after the first, in memory of which only the touched pages
// exist: the bits are those of rows side by side, which the families' own tests compare with their references.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>

#include "gemm/problem.h"
#include "support/sparse_memory.h"

namespace cudamoe::test {
namespace {

constexpr int64_t kRows = 5;
constexpr int64_t kNear = 64, kFar = (int64_t{1} << 29) + 64;  // both a multiple of 16 bytes, as decides between the ways of a copy

using Results = std::vector<double>;

// One run of an operation with all rows `stride` apart: hands out its matrices, filled by one seed, and keeps what it wrote.
class Layout {
 public:
  Layout(TestDevice& device, int64_t stride, uint64_t salt) : device_(device), stride_(stride), random_(salt) {}

  TestDevice& device() { return device_; }
  cudamoe_stream* stream() { return device_.stream(); }
  int64_t stride() const { return stride_; }

  // A matrix of reals, or of NaN for an output; null when the address space is not to be had, which skips the test.
  float* input(int64_t width, double low = -1, double high = 1, int64_t rows = kRows) {
    return matrix(random_.reals(rows * width, low, high), width, rows);
  }
  float* output(int64_t width, int64_t rows = kRows) {
    outputs_.push_back({matrix(std::vector<float>(rows * width, std::numeric_limits<float>::quiet_NaN()), width, rows), width, rows});
    return outputs_.back().data;
  }
  // Vectors side by side in device memory.
  const float* numbers(int64_t count, double low = -1, double high = 1) { return vector(random_.reals(count, low, high)); }
  const float* vector(const std::vector<float>& values) {
    vectors_.push_back(std::make_unique<Buffer<float>>(device_, values));
    return vectors_.back()->data();
  }
  float* output_vector(int64_t count) {
    output_vectors_.push_back(std::make_unique<Buffer<float>>(device_, count));
    return output_vectors_.back()->data();
  }
  double* output_doubles(int64_t count) {
    output_doubles_.push_back(std::make_unique<Buffer<double>>(device_, count));
    return output_doubles_.back()->data();
  }
  const int32_t* integers(const std::vector<int32_t>& values) {
    integers_.push_back(std::make_unique<Buffer<int32_t>>(device_, values));
    return integers_.back()->data();
  }

  // Runs a call that needs work space, or one that does not, and waits for it.
  template <class Args>
  void run(Args& args, cudamoe_status (*query)(cudamoe_stream*, const Args*, int64_t*),
           cudamoe_status (*call)(cudamoe_stream*, const Args*)) {
    const Workspace workspace = make_workspace(device_, args, query);
    run(args, call);
  }
  template <class Args>
  void run(const Args& args, cudamoe_status (*call)(cudamoe_stream*, const Args*)) {
    CUDAMOE_EXPECT_OK(call(device_.stream(), &args));
    CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device_.stream()));
  }

  bool has_memory() const { return has_memory_; }
  Results results() const {
    Results all;
    for (const Matrix& m : outputs_) {
      for (int64_t row = 0; row < m.rows; ++row) all.insert(all.end(), m.data + row * stride_, m.data + row * stride_ + m.width);
    }
    const auto add = [&](const auto& vectors) {
      for (const auto& v : vectors) {
        const auto values = v->get();
        all.insert(all.end(), values.begin(), values.end());
      }
    };
    add(output_vectors_);
    add(output_doubles_);
    return all;
  }

 private:
  struct Matrix {
    float* data;
    int64_t width, rows;
  };

  float* matrix(const std::vector<float>& values, int64_t width, int64_t rows) {
    memory_.push_back(std::make_unique<SparseMemory>(rows * stride_));
    float* data = memory_.back()->data();
    if (data == nullptr) {
      has_memory_ = false;
      return nullptr;
    }
    for (int64_t i = 0; i < rows * width; ++i) data[i / width * stride_ + i % width] = values[static_cast<size_t>(i)];
    return data;
  }

  TestDevice& device_;
  int64_t stride_;
  Random random_;
  bool has_memory_ = true;
  std::vector<std::unique_ptr<SparseMemory>> memory_;
  std::vector<Matrix> outputs_;
  std::vector<std::unique_ptr<Buffer<float>>> vectors_, output_vectors_;
  std::vector<std::unique_ptr<Buffer<double>>> output_doubles_;
  std::vector<std::unique_ptr<Buffer<int32_t>>> integers_;
};

// operation(layout) asks the layout for all its matrices, then returns a function that runs it.
template <class Operation>
void expect_same_bits(uint64_t salt, Operation&& operation) {
  TestDevice device(test_device_spec_of("cpu:threads=2", "simt"));
  if (!test_device_reaches_host_memory()) GTEST_SKIP() << "needs memory of the host, which alone can be had without its pages";
  Results results[2];
  for (const int64_t stride : {kNear, kFar}) {
    Layout layout(device, stride, salt);
    auto run = operation(layout);
    if (!layout.has_memory()) GTEST_SKIP() << "this machine does not give that much address space";
    run();
    results[stride == kFar] = layout.results();
  }
  ASSERT_FALSE(results[0].empty());
  ASSERT_EQ(results[0].size(), results[1].size());
  for (const double value : results[0]) ASSERT_FALSE(std::isnan(value));
  EXPECT_EQ(std::memcmp(results[0].data(), results[1].data(), results[0].size() * sizeof(double)), 0);
}

template <class Args>
Args sized() {
  Args args{};
  args.struct_size = sizeof args;
  return args;
}

// What layer and RMS norm have in common.
template <class Forward, class Backward>
std::pair<Forward, Backward> norm_calls(Layout& layout) {
  constexpr int64_t kWidth = 36;
  auto forward = sized<Forward>();
  auto backward = sized<Backward>();
  forward.epsilon = 1e-5f;
  forward.rows = backward.rows = kRows;
  forward.width = backward.width = kWidth;
  forward.x = backward.x = layout.input(kWidth);
  forward.gamma = backward.gamma = layout.numbers(kWidth);
  forward.y = layout.output(kWidth);
  backward.dy = layout.input(kWidth);
  backward.dx = layout.output(kWidth);
  backward.dgamma = layout.output_vector(kWidth);
  forward.x_row_stride = forward.y_row_stride = backward.x_row_stride = backward.dy_row_stride = backward.dx_row_stride = layout.stride();
  return {forward, backward};
}

TEST(LayerNorm, RowsFarApart) {
  expect_same_bits(1, [](Layout& layout) {
    auto [forward, backward] = norm_calls<cudamoe_layer_norm_forward_args, cudamoe_layer_norm_backward_args>(layout);
    backward.mean = forward.mean = layout.output_vector(kRows);
    backward.reciprocal_deviation = forward.reciprocal_deviation = layout.output_vector(kRows);
    backward.dbeta = layout.output_vector(backward.width);
    return [&layout, forward = forward, backward = backward]() mutable {
      layout.run(forward, cudamoe_layer_norm_forward);
      layout.run(backward, cudamoe_layer_norm_backward_workspace, cudamoe_layer_norm_backward);
    };
  });
}

TEST(RmsNorm, RowsFarApart) {
  expect_same_bits(2, [](Layout& layout) {
    auto [forward, backward] = norm_calls<cudamoe_rms_norm_forward_args, cudamoe_rms_norm_backward_args>(layout);
    backward.reciprocal = forward.reciprocal = layout.output_vector(kRows);
    return [&layout, forward = forward, backward = backward]() mutable {
      layout.run(forward, cudamoe_rms_norm_forward);
      layout.run(backward, cudamoe_rms_norm_backward_workspace, cudamoe_rms_norm_backward);
    };
  });
}

TEST(GatedProduct, RowsFarApart) {
  expect_same_bits(3, [](Layout& layout) {
    auto forward = sized<cudamoe_gated_product_forward_args>();
    forward.activation = CUDAMOE_ACTIVATION_SILU;
    forward.rows = kRows;
    forward.width = 20;
    forward.a = layout.input(20);
    forward.b = layout.input(20);
    forward.y = layout.output(20);
    forward.a_row_stride = forward.b_row_stride = forward.y_row_stride = layout.stride();
    auto backward = sized<cudamoe_gated_product_backward_args>();
    backward.activation = forward.activation;
    backward.rows = kRows;
    backward.width = 20;
    backward.a = forward.a;
    backward.b = forward.b;
    backward.dy = layout.input(20);
    backward.da = layout.output(20);
    backward.db = layout.output(20);
    backward.a_row_stride = backward.b_row_stride = backward.dy_row_stride = backward.da_row_stride = backward.db_row_stride =
        layout.stride();
    return [&layout, forward, backward] {
      layout.run(forward, cudamoe_gated_product_forward);
      layout.run(backward, cudamoe_gated_product_backward);
    };
  });
}

TEST(Attention, RowsFarApart) {
  expect_same_bits(4, [](Layout& layout) {
    auto forward = sized<cudamoe_attention_forward_args>();
    forward.heads = 2;
    forward.key_heads = 1;
    forward.head_width = 8;
    forward.scale = 0.35f;
    forward.sequences = 1;
    forward.queries = forward.keys = kRows;
    forward.q = layout.input(16);
    forward.k = layout.input(8);
    forward.v = layout.input(8);
    forward.y = layout.output(16);
    forward.q_row_stride = forward.k_row_stride = forward.v_row_stride = forward.y_row_stride = layout.stride();
    forward.log_sum = layout.output_vector(kRows * 2);
    auto backward = sized<cudamoe_attention_backward_args>();
    backward.heads = 2;
    backward.key_heads = 1;
    backward.head_width = 8;
    backward.scale = forward.scale;
    backward.sequences = 1;
    backward.queries = backward.keys = kRows;
    backward.q = forward.q;
    backward.k = forward.k;
    backward.v = forward.v;
    backward.y = forward.y;
    backward.log_sum = forward.log_sum;
    backward.dy = layout.input(16);
    backward.dq = layout.output(16);
    backward.dk = layout.output(8);
    backward.dv = layout.output(8);
    backward.q_row_stride = backward.k_row_stride = backward.v_row_stride = backward.y_row_stride = backward.dy_row_stride =
        backward.dq_row_stride = backward.dk_row_stride = backward.dv_row_stride = layout.stride();
    return [&layout, forward, backward]() mutable {
      layout.run(forward, cudamoe_attention_forward_workspace, cudamoe_attention_forward);
      layout.run(backward, cudamoe_attention_backward_workspace, cudamoe_attention_backward);
    };
  });
}

TEST(Rotary, RowsFarApart) {
  expect_same_bits(5, [](Layout& layout) {
    auto args = sized<cudamoe_rotary_args>();
    args.heads = 2;
    args.head_width = 8;
    args.rotary_width = 6;
    args.base = 100;
    args.rows = args.positions = kRows;
    args.x = layout.output(16);
    args.x_row_stride = layout.stride();
    for (int64_t i = 0; args.x != nullptr && i < kRows * 16; ++i) args.x[i / 16 * layout.stride() + i % 16] = static_cast<float>(i % 7) - 3;
    return [&layout, args]() mutable { layout.run(args, cudamoe_rotary_workspace, cudamoe_rotary); };
  });
}

TEST(SequenceMaximum, RowsFarApart) {
  expect_same_bits(6, [](Layout& layout) {
    auto forward = sized<cudamoe_sequence_maximum_forward_args>();
    forward.sequences = 1;
    forward.positions = kRows;
    forward.width = 20;
    forward.x = layout.input(20);
    forward.y = layout.output(20, 1);
    forward.x_row_stride = forward.y_row_stride = layout.stride();
    auto* places = const_cast<int32_t*>(layout.integers(std::vector<int32_t>(20, -1)));
    forward.places = places;
    auto backward = sized<cudamoe_sequence_maximum_backward_args>();
    backward.sequences = 1;
    backward.positions = kRows;
    backward.width = 20;
    backward.places = places;
    backward.dy = layout.input(20, -1, 1, 1);
    backward.dx = layout.output(20);
    backward.dy_row_stride = backward.dx_row_stride = layout.stride();
    return [&layout, forward, backward] {
      layout.run(forward, cudamoe_sequence_maximum_forward);
      layout.run(backward, cudamoe_sequence_maximum_backward);
    };
  });
}

TEST(Loss, RowsFarApart) {
  expect_same_bits(7, [](Layout& layout) {
    std::vector<cudamoe_loss_task> tasks;
    for (const int32_t kind : {CUDAMOE_LOSS_BINARY, CUDAMOE_LOSS_SQUARED, CUDAMOE_LOSS_SOFTMAX}) {
      cudamoe_loss_task task{};
      task.kind = kind;
      task.classes = kind == CUDAMOE_LOSS_SOFTMAX ? 3 : 1;
      task.scale = 1;
      task.logits = layout.input(task.classes);
      float* labels = layout.input(1, 0, 1);
      for (int64_t row = 0; labels != nullptr && row < kRows && kind == CUDAMOE_LOSS_SOFTMAX; ++row)
        labels[row * layout.stride()] = static_cast<float>(row % 3);
      task.labels = labels;
      task.weights = layout.input(1, 0.5, 2);
      task.dlogits = layout.output(task.classes);
      task.logits_row_stride = task.labels_stride = task.weights_stride = task.dlogits_row_stride = layout.stride();
      tasks.push_back(task);
    }
    double* losses = layout.output_doubles(6);
    return [&layout, tasks, losses] {
      auto args = sized<cudamoe_loss_args>();
      args.task_count = 3;
      args.rows = kRows;
      args.tasks = tasks.data();
      args.losses = losses;
      args.weight_sums = losses + 3;
      layout.run(args, cudamoe_loss_workspace, cudamoe_loss);
    };
  });
}

TEST(LossJointLogits, RowsFarApart) {
  expect_same_bits(8, [](Layout& layout) {
    auto forward = sized<cudamoe_joint_logits_forward_args>();
    forward.rows = kRows;
    forward.a = layout.input(1);
    forward.b = layout.input(1);
    forward.joint = layout.output(1);
    forward.a_stride = forward.b_stride = forward.joint_stride = layout.stride();
    auto backward = sized<cudamoe_joint_logits_backward_args>();
    backward.rows = kRows;
    backward.a = forward.a;
    backward.b = forward.b;
    backward.djoint = layout.input(1);
    backward.da = layout.output(1);
    backward.db = layout.output(1);
    backward.a_stride = backward.b_stride = backward.djoint_stride = backward.da_stride = backward.db_stride = layout.stride();
    return [&layout, forward, backward] {
      layout.run(forward, cudamoe_joint_logits_forward);
      layout.run(backward, cudamoe_joint_logits_backward);
    };
  });
}

TEST(GateForward, RowsFarApart) {
  expect_same_bits(9, [](Layout& layout) {
    Random random(9);
    const auto weights =
        std::make_shared<PackedWeights>(layout.device(), random, GemmShape{.groups = 1, .n = 8, .k = 20}, 0, CUDAMOE_F32, Data::kReals);
    auto forward = sized<cudamoe_gate_forward_args>();
    forward.gates = 2;
    forward.experts = 4;
    forward.score_mode = CUDAMOE_SCORE_SOFTMAX_TOPK;
    forward.rows = kRows;
    forward.k_in = 20;
    forward.x = layout.input(20);
    forward.x_row_stride = layout.stride();
    forward.packed = weights->data();
    forward.probabilities = layout.output_vector(kRows * 8);
    auto backward = sized<cudamoe_gate_backward_args>();
    backward.gates = 2;
    backward.experts = 4;
    backward.score_mode = forward.score_mode;
    backward.rows = kRows;
    backward.probabilities = forward.probabilities;
    backward.dprobabilities = layout.numbers(kRows * 8);
    backward.dlogits = layout.output(8);
    backward.dlogits_row_stride = layout.stride();
    return [&layout, weights, forward, backward]() mutable {
      layout.run(forward, cudamoe_gate_forward_workspace, cudamoe_gate_forward);
      layout.run(backward, cudamoe_gate_backward);
    };
  });
}

// Both layers of an expert, and mixtures of two, in both types of weights.
TEST(ExpertForward, RowsFarApart) {
  for (const int32_t dtype : {CUDAMOE_F32, CUDAMOE_BF16}) {
    expect_same_bits(10, [dtype](Layout& layout) {
      Random random(10);
      const auto first =
          std::make_shared<PackedWeights>(layout.device(), random, GemmShape{.groups = 2, .n = 12, .k = 20}, 0, dtype, Data::kReals);
      const auto second =
          std::make_shared<PackedWeights>(layout.device(), random, GemmShape{.groups = 2, .n = 8, .k = 12}, 0, dtype, Data::kReals);
      const auto offsets = std::make_shared<Buffer<int64_t>>(layout.device(), std::vector<int64_t>{0, 2, kRows});
      auto forward = sized<cudamoe_expert_forward_args>();
      forward.groups = 2;
      forward.rows = forward.x_rows = kRows;
      forward.n = 8;
      forward.hidden = 12;
      forward.k = 20;
      forward.offsets = offsets->data();
      forward.gather = layout.integers({4, 1, 0, 3, 2});
      forward.x = layout.input(20);
      forward.packed1 = first->data();
      forward.packed2 = second->data();
      forward.h = layout.output(12);
      forward.y = layout.output(8);
      forward.x_row_stride = forward.h_row_stride = forward.y_row_stride = layout.stride();
      forward.packed_dtype = dtype;
      forward.hidden_activation = CUDAMOE_ACTIVATION_RELU;
      auto mix = sized<cudamoe_expert_mix_args>();
      mix.experts = mix.choices = 2;
      mix.tasks = 1;
      mix.rows = kRows;
      mix.n = 8;
      mix.hidden = 12;
      mix.k = 20;
      mix.x = forward.x;
      mix.packed1 = first->data();
      mix.packed2 = second->data();
      mix.gates = layout.numbers(kRows * 2);
      mix.y = layout.output(8);
      mix.x_row_stride = mix.y_row_stride = layout.stride();
      mix.y_task_stride = 8;
      mix.packed_dtype = dtype;
      mix.hidden_activation = CUDAMOE_ACTIVATION_RELU;
      return [&layout, first, second, offsets, forward, mix]() mutable {
        layout.run(forward, cudamoe_expert_forward_workspace, cudamoe_expert_forward);
        layout.run(mix, cudamoe_expert_mix_workspace, cudamoe_expert_mix);
      };
    });
  }
}

TEST(Combine, RowsFarApart) {
  expect_same_bits(11, [](Layout& layout) {
    auto forward = sized<cudamoe_combine_forward_args>();
    auto backward = sized<cudamoe_combine_backward_args>();
    forward.tasks = backward.tasks = 1;
    forward.rows = backward.rows = kRows;
    forward.width = backward.width = 4;
    forward.choices = backward.choices = 3;
    forward.gates = backward.gates = layout.numbers(kRows * 3);
    forward.expert = backward.expert = layout.input(12);
    forward.expert_stride = backward.expert_stride = backward.dexpert_stride = 4;
    forward.y = layout.output(4);
    backward.dy = layout.input(4);
    backward.dexpert = layout.output(12);
    backward.dgates = layout.output_vector(kRows * 3);
    forward.expert_row_stride = forward.y_row_stride = backward.expert_row_stride = backward.dy_row_stride = backward.dexpert_row_stride =
        layout.stride();
    return [&layout, forward, backward]() mutable {
      layout.run(forward, cudamoe_combine_forward);
      layout.run(backward, cudamoe_combine_backward_workspace, cudamoe_combine_backward);
    };
  });
}

TEST(Graph, RowsFarApart) {
  expect_same_bits(12, [](Layout& layout) {
    const auto offsets = std::make_shared<Buffer<int64_t>>(layout.device(), std::vector<int64_t>{0, 2, 3, 6, 6, 7});
    auto sums = sized<cudamoe_graph_aggregate_args>();
    sums.rows = sums.columns = kRows;
    sums.edges = 7;
    sums.width = 20;
    sums.offsets = offsets->data();
    sums.neighbours = layout.integers({4, 0, 3, 1, 2, 4, 4});
    sums.weights = layout.numbers(7);
    sums.x = layout.input(20);
    sums.y = layout.output(20);
    sums.x_row_stride = sums.y_row_stride = layout.stride();
    auto gradient = sized<cudamoe_graph_edge_gradient_args>();
    gradient.rows = gradient.columns = kRows;
    gradient.edges = 7;
    gradient.width = 20;
    gradient.offsets = sums.offsets;
    gradient.neighbours = sums.neighbours;
    gradient.x = sums.x;
    gradient.dy = layout.input(20);
    gradient.x_row_stride = gradient.dy_row_stride = layout.stride();
    gradient.dweights = layout.output_vector(7);
    return [&layout, offsets, sums, gradient] {
      layout.run(sums, cudamoe_graph_aggregate);
      layout.run(gradient, cudamoe_graph_edge_gradient);
    };
  });
}

// Rows far apart; gradients of tasks far apart are the same matrices seen the other way.
TEST(BalanceGram, RowsFarApart) {
  for (const bool tasks_far : {false, true}) {
    expect_same_bits(13, [tasks_far](Layout& layout) {
      const int64_t row_stride = tasks_far ? 8 : layout.stride(), task_stride = tasks_far ? layout.stride() : 8;
      const int32_t tasks = tasks_far ? kRows : 2;
      const int64_t rows = tasks_far ? 2 : kRows;
      const float* gradients = layout.input(16);
      auto gram = sized<cudamoe_balance_gram_args>();
      gram.tasks = tasks;
      gram.rows = rows;
      gram.width = 8;
      gram.gradients = gradients;
      gram.task_stride = task_stride;
      gram.row_stride = row_stride;
      auto columns = sized<cudamoe_balance_columns_args>();
      columns.tasks = tasks;
      columns.rows = rows;
      columns.width = 8;
      columns.gradients = gradients;
      columns.task_stride = task_stride;
      columns.row_stride = row_stride;
      columns.parts = 1;
      auto combine = sized<cudamoe_balance_combine_args>();
      combine.tasks = tasks;
      combine.rows = rows;
      combine.width = 8;
      combine.gradients = gradients;
      combine.task_stride = task_stride;
      combine.row_stride = row_stride;
      combine.weights = layout.numbers(tasks);
      combine.output = layout.output(8, rows);
      combine.output_row_stride = layout.stride();
      gram.gram = layout.output_doubles(tasks * tasks);
      columns.sums = layout.output_doubles(tasks * 8);
      return [&layout, gram, columns, combine]() mutable {
        layout.run(gram, cudamoe_balance_gram_workspace, cudamoe_balance_gram);
        layout.run(columns, cudamoe_balance_columns_workspace, cudamoe_balance_columns);
        layout.run(combine, cudamoe_balance_combine);
      };
    });
  }
}

TEST(BalanceScale, RowsFarApart) {
  expect_same_bits(14, [](Layout& layout) {
    auto args = sized<cudamoe_balance_scale_args>();
    args.tasks = 2;
    args.rows = kRows;
    args.width = 8;
    args.gradients = layout.output(16);
    args.task_stride = 8;
    args.row_stride = layout.stride();
    args.factors = layout.numbers(16);
    for (int64_t i = 0; args.gradients != nullptr && i < kRows * 16; ++i)
      args.gradients[i / 16 * layout.stride() + i % 16] = static_cast<float>(i % 11) - 5;
    return [&layout, args] { layout.run(args, cudamoe_balance_scale); };
  });
}

}  // namespace
}  // namespace cudamoe::test
