// cudamoe_optimizer_norm and cudamoe_optimizer_step against the double reference.
#include "reference/optimizer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <limits>

#include "support/buffer.h"
#include "support/compare.h"
#include "support/random.h"
#include "support/test_device.h"

namespace cudamoe::test {
namespace {

// Sizes around vectors and chunks of 4096 and 16384.
const std::vector<int64_t> kCounts{1, 0, 3, 15, 16, 17, 64, 1000, 4095, 4096, 4097, 16383, 16384, 16385, 50001};

// Tensors in device memory, states at zero.
class Tensors {
 public:
  Tensors(TestDevice& device, Random& random, const std::vector<int64_t>& counts, bool states = true) : device_(device) {
    for (const int64_t count : counts) {
      const int64_t misaligned = count % 3;
      parameters_.emplace_back(device, random.reals(count), misaligned);
      gradients_.emplace_back(device, random.reals(count), misaligned);
      states1_.emplace_back(device, std::vector<float>(static_cast<size_t>(count)), misaligned);
      states2_.emplace_back(device, std::vector<float>(static_cast<size_t>(count)), misaligned);
      list_.push_back({parameters_.back().data(), gradients_.back().data(), states ? states1_.back().data() : nullptr,
                       states ? states2_.back().data() : nullptr, count, 1.0f, 0.0f});
    }
  }

  std::vector<cudamoe_optimizer_tensor>& list() { return list_; }
  Buffer<float>& parameter(size_t t) { return parameters_[t]; }
  Buffer<float>& gradient(size_t t) { return gradients_[t]; }
  Buffer<float>& state1(size_t t) { return states1_[t]; }
  Buffer<float>& state2(size_t t) { return states2_[t]; }
  size_t size() const { return list_.size(); }

  cudamoe_optimizer_step_args step_args(const DenseOptimizer& o) const {
    cudamoe_optimizer_step_args args{};
    args.struct_size = sizeof args;
    args.tensor_count = static_cast<int32_t>(list_.size());
    args.tensors = list_.data();
    args.optimizer = o.optimizer;
    args.learning_rate = static_cast<float>(o.learning_rate);
    args.momentum = static_cast<float>(o.momentum);
    args.beta1 = static_cast<float>(o.beta1);
    args.beta2 = static_cast<float>(o.beta2);
    args.epsilon = static_cast<float>(o.epsilon);
    args.gradient_scale = 1;
    args.step = 1;
    return args;
  }

  double norm() const {
    cudamoe_optimizer_norm_args args{};
    args.struct_size = sizeof args;
    args.tensor_count = static_cast<int32_t>(list_.size());
    args.tensors = list_.data();
    CUDAMOE_EXPECT_OK(cudamoe_optimizer_norm_workspace(device_.stream(), &args, &args.workspace_bytes));
    const Workspace workspace(device_, args.workspace_bytes);
    Buffer<double> norm(device_, 1);
    args.workspace = workspace.data();
    args.norm = norm.data();
    CUDAMOE_EXPECT_OK(cudamoe_optimizer_norm(device_.stream(), &args));
    EXPECT_TRUE(workspace.guards_intact() && norm.guards_intact() && guards_intact());
    return norm.get()[0];
  }

  bool guards_intact() const {
    bool intact = true;
    for (const auto* buffers : {&parameters_, &gradients_, &states1_, &states2_}) {
      for (const Buffer<float>& buffer : *buffers) intact = intact && buffer.guards_intact();
    }
    return intact;
  }

 private:
  TestDevice& device_;
  std::deque<Buffer<float>> parameters_, gradients_, states1_, states2_;
  std::vector<cudamoe_optimizer_tensor> list_;
};

TEST(OptimizerNorm, AgreesWithTheSumInLongDouble) {
  TestDevice device;
  Random random;
  Tensors tensors(device, random, kCounts);
  long double sum = 0;
  for (size_t t = 0; t < tensors.size(); ++t) {
    for (const float g : tensors.gradient(t).get()) sum += static_cast<long double>(g) * static_cast<long double>(g);
  }
  EXPECT_NEAR(tensors.norm(), static_cast<double>(std::sqrt(sum)), 1e-13 * static_cast<double>(std::sqrt(sum)));
}

TEST(OptimizerNorm, IsExactOnIntegersAndHasAWideRange) {
  TestDevice device;
  Random random(1);
  Tensors tensors(device, random, {2, 0, 33});
  tensors.gradient(0).set({3, 4});
  tensors.gradient(2).set(std::vector<float>(33, 0.0f));
  EXPECT_EQ(tensors.norm(), 5.0);
  tensors.gradient(0).set({3e38f, 0});  // its square is beyond f32
  EXPECT_EQ(tensors.norm(), static_cast<double>(3e38f));
  tensors.gradient(0).set({std::numeric_limits<float>::infinity(), 0});
  EXPECT_TRUE(std::isinf(tensors.norm()));
  for (size_t place = 0; place < 33; ++place) {
    std::vector<float> values(33, 1.0f);
    values[place] = std::numeric_limits<float>::quiet_NaN();
    tensors.gradient(2).set(values);
    EXPECT_TRUE(std::isnan(tensors.norm()));
  }
}

TEST(OptimizerNorm, NoTensorsHaveNormZero) {
  TestDevice device;
  Random random(2);
  EXPECT_EQ(Tensors(device, random, {}).norm(), 0.0);
  EXPECT_EQ(Tensors(device, random, {0}).norm(), 0.0);
}

std::vector<DenseOptimizer> all_optimizers() {
  DenseOptimizer sgd, momentum, adagrad, adamw;
  momentum.momentum = 0.9;
  adagrad.optimizer = CUDAMOE_OPTIMIZER_ADAGRAD;
  adamw.optimizer = CUDAMOE_OPTIMIZER_ADAMW;
  return {sgd, momentum, adagrad, adamw};
}

TEST(OptimizerStep, FollowsTheReferenceOverSeveralSteps) {
  TestDevice device;
  Random random(3);
  for (DenseOptimizer o : all_optimizers()) {
    SCOPED_TRACE(testing::Message() << "optimizer " << o.optimizer << " momentum " << o.momentum);
    Tensors tensors(device, random, kCounts, o.optimizer != CUDAMOE_OPTIMIZER_SGD || o.momentum > 0);
    std::vector<DenseTensor> reference(tensors.size());
    for (size_t t = 0; t < tensors.size(); ++t) {
      const std::vector<float> parameter = tensors.parameter(t).get();
      reference[t] = {{parameter.begin(), parameter.end()}, std::vector<double>(parameter.size()), std::vector<double>(parameter.size())};
      tensors.list()[t].learning_rate_scale = t % 2 == 0 ? 1.0f : 0.5f;
      tensors.list()[t].weight_decay = t % 3 == 0 ? 0.0f : 0.0625f;
    }
    Buffer<double> norm(device, 1);
    for (int64_t step = 1; step <= 5; ++step) {
      for (size_t t = 0; t < tensors.size(); ++t) tensors.gradient(t).set(random.reals(tensors.gradient(t).size()));
      auto args = tensors.step_args(o);
      args.step = step;
      args.gradient_scale = 0.5f;
      args.max_norm = 2;
      double scale = 0.5;
      if (step >= 3) {
        norm.set({tensors.norm()});
        args.norm = norm.data();
        scale *= 2 / norm.get()[0];
      }
      CUDAMOE_ASSERT_OK(cudamoe_optimizer_step(device.stream(), &args));
      for (size_t t = 0; t < tensors.size(); ++t) {
        DenseOptimizer own = o;
        own.learning_rate = static_cast<double>(args.learning_rate) * (t % 2 == 0 ? 1.0 : 0.5);
        own.momentum = static_cast<double>(args.momentum);
        own.beta1 = static_cast<double>(args.beta1);
        own.beta2 = static_cast<double>(args.beta2);
        own.epsilon = static_cast<double>(args.epsilon);
        own.weight_decay = t % 3 == 0 ? 0.0 : 0.0625;
        reference_optimizer_step(own, step, scale, tensors.gradient(t).get(), reference[t]);
      }
    }
    EXPECT_TRUE(tensors.guards_intact());
    for (size_t t = 0; t < tensors.size(); ++t) {
      if (tensors.list()[t].count == 0) continue;
      EXPECT_LE(relative_error(tensors.parameter(t).get(), reference[t].parameter), 1e-6) << "tensor " << t;
      if (o.optimizer != CUDAMOE_OPTIMIZER_SGD || o.momentum > 0) {
        EXPECT_LE(relative_error(tensors.state1(t).get(), reference[t].state1), 1e-6) << "tensor " << t;
      }
      if (o.optimizer == CUDAMOE_OPTIMIZER_ADAMW) {
        // 1 - beta2 in f32 is off by 2^-24 / (1 - beta2).
        EXPECT_LE(relative_error(tensors.state2(t).get(), reference[t].state2), 1e-4) << "tensor " << t;
      }
    }
  }
}

TEST(OptimizerStep, SgdOnIntegersIsExact) {
  TestDevice device;
  Random random(4);
  for (const int64_t count : {1, 7, 16, 31, 257}) {
    Tensors tensors(device, random, {count}, false);
    const std::vector<float> before = random.integers(count), gradient = random.integers(count);
    tensors.parameter(0).set(before);
    tensors.gradient(0).set(gradient);
    DenseOptimizer sgd;
    sgd.learning_rate = 0.25;
    const auto args = tensors.step_args(sgd);
    CUDAMOE_ASSERT_OK(cudamoe_optimizer_step(device.stream(), &args));
    const std::vector<float> after = tensors.parameter(0).get();
    for (size_t i = 0; i < after.size(); ++i) EXPECT_EQ(after[i], before[i] - 0.25f * gradient[i]);
  }
}

TEST(OptimizerStep, ChangesNothingWhenTheNormIsNotFiniteOrTheTensorIsFrozen) {
  TestDevice device;
  Random random(5);
  for (const DenseOptimizer& o : all_optimizers()) {
    Tensors tensors(device, random, {40, 5});
    const std::vector<float> before0 = tensors.parameter(0).get(), before1 = tensors.parameter(1).get();
    auto args = tensors.step_args(o);
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      Buffer<double> norm(device, std::vector<double>{bad});
      args.norm = norm.data();
      CUDAMOE_EXPECT_OK(cudamoe_optimizer_step(device.stream(), &args));
      EXPECT_EQ(tensors.parameter(0).get(), before0);
      EXPECT_EQ(tensors.state1(0).get(), std::vector<float>(40, 0.0f));
    }
    args.norm = nullptr;
    tensors.list()[0].learning_rate_scale = 0;
    CUDAMOE_EXPECT_OK(cudamoe_optimizer_step(device.stream(), &args));
    EXPECT_EQ(tensors.parameter(0).get(), before0);
    EXPECT_EQ(tensors.state1(0).get(), std::vector<float>(40, 0.0f));
    EXPECT_NE(tensors.parameter(1).get(), before1);
  }
}

TEST(OptimizerStep, ClipsOnlyWhatIsLongerThanTheBound) {
  TestDevice device;
  Random random(6);
  Tensors tensors(device, random, {2}, false);
  DenseOptimizer sgd;
  sgd.learning_rate = 1;
  for (const auto& [norm_value, max_norm, expected] :
       {std::tuple{5.0, 2.5f, -0.5f}, {5.0, 5.0f, -1.0f}, {5.0, 10.0f, -1.0f}, {5.0, 0.0f, -1.0f}}) {
    tensors.parameter(0).set({0, 0});
    tensors.gradient(0).set({1, 1});
    Buffer<double> norm(device, std::vector<double>{norm_value});
    auto args = tensors.step_args(sgd);
    args.norm = norm.data();
    args.max_norm = max_norm;
    CUDAMOE_EXPECT_OK(cudamoe_optimizer_step(device.stream(), &args));
    EXPECT_EQ(tensors.parameter(0).get(), (std::vector<float>{expected, expected}));
  }
}

cudamoe_step_numbers numbers_of(const cudamoe_optimizer_step_args& args) {
  cudamoe_step_numbers numbers{};
  CUDAMOE_EXPECT_OK(cudamoe_step_numbers_make(args.learning_rate, args.beta1, args.beta2, args.step, &numbers));
  return numbers;
}

TEST(OptimizerStep, NumbersInDeviceMemoryGiveTheBitsOfArguments) {
  TestDevice device;
  for (const DenseOptimizer& o : all_optimizers()) {
    Random first(11), second(11);
    Tensors by_arguments(device, first, {50, 4097, 3}), by_memory(device, second, {50, 4097, 3});
    for (Tensors* tensors : {&by_arguments, &by_memory}) {
      tensors->list()[1].learning_rate_scale = 0.3f;
      tensors->list()[1].weight_decay = 0.07f;
    }
    Buffer<cudamoe_step_numbers> numbers(device, 1);
    for (const int64_t step : {int64_t{1}, int64_t{2}, int64_t{7}, int64_t{1} << 40}) {
      auto args = by_arguments.step_args(o);
      args.learning_rate = 0.1f / static_cast<float>(step);
      args.step = step;
      numbers.set({numbers_of(args)});
      CUDAMOE_ASSERT_OK(cudamoe_optimizer_step(device.stream(), &args));
      args = by_memory.step_args(o);
      args.learning_rate = std::numeric_limits<float>::quiet_NaN();
      args.step = -1;
      args.numbers = numbers.data();
      CUDAMOE_ASSERT_OK(cudamoe_optimizer_step(device.stream(), &args));
    }
    EXPECT_TRUE(by_memory.guards_intact() && numbers.guards_intact());
    for (size_t t = 0; t < by_memory.size(); ++t) {
      EXPECT_EQ(by_memory.parameter(t).get(), by_arguments.parameter(t).get()) << "optimizer " << o.optimizer;
      EXPECT_EQ(by_memory.state1(t).get(), by_arguments.state1(t).get()) << "optimizer " << o.optimizer;
      EXPECT_EQ(by_memory.state2(t).get(), by_arguments.state2(t).get()) << "optimizer " << o.optimizer;
    }
  }
}

TEST(StepNumbers, AreThoseOfAdam) {
  cudamoe_step_numbers numbers{};
  CUDAMOE_ASSERT_OK(cudamoe_step_numbers_make(0.25f, 0.5f, 0.75f, 2, &numbers));
  EXPECT_EQ(numbers.step, 2);
  EXPECT_EQ(numbers.learning_rate, 0.25f);
  EXPECT_EQ(numbers.correction1, static_cast<float>(1 / (1 - 0.25)));
  EXPECT_EQ(numbers.correction2, static_cast<float>(1 / (1 - 0.5625)));
  EXPECT_EQ(numbers.reserved, 0u);
  CUDAMOE_ASSERT_OK(cudamoe_step_numbers_make(0, 0, 0, std::numeric_limits<int64_t>::max(), &numbers));
  EXPECT_EQ(numbers.correction1, 1);
}

TEST(StepNumbers, RefuseBadArguments) {
  cudamoe_step_numbers numbers{};
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CUDAMOE_EXPECT_REFUSED(cudamoe_step_numbers_make(-1, 0.9f, 0.9f, 1, &numbers), "learning_rate is -1");
  CUDAMOE_EXPECT_REFUSED(cudamoe_step_numbers_make(nan, 0.9f, 0.9f, 1, &numbers), "learning_rate is nan");
  CUDAMOE_EXPECT_REFUSED(cudamoe_step_numbers_make(1, 1, 0.9f, 1, &numbers), "beta1 is 1");
  CUDAMOE_EXPECT_REFUSED(cudamoe_step_numbers_make(1, 0.9f, -0.5f, 1, &numbers), "beta2 is -0.5");
  CUDAMOE_EXPECT_REFUSED(cudamoe_step_numbers_make(1, 0.9f, 0.9f, 0, &numbers), "step is 0");
  CUDAMOE_EXPECT_REFUSED(cudamoe_step_numbers_make(1, 0.9f, 0.9f, 1, nullptr), "numbers is null");
  auto* misaligned = reinterpret_cast<cudamoe_step_numbers*>(reinterpret_cast<char*>(&numbers) + 4);
  CUDAMOE_EXPECT_REFUSED(cudamoe_step_numbers_make(1, 0.9f, 0.9f, 1, misaligned), "numbers is 0x");
}

TEST(Optimizer, SameBitsForAnyOrder) {
  for (const DenseOptimizer& o : all_optimizers()) {
    std::vector<float> first;
    double first_norm = 0;
    for (const std::string& spec : repeated_device_specs()) {
      TestDevice device(spec);
      Random random(7);
      Tensors tensors(device, random,
                      test_device_is_slow() ? std::vector<int64_t>{20000, 3, 8193} : std::vector<int64_t>{100000, 3, 40000});
      const double norm = tensors.norm();
      const auto args = tensors.step_args(o);
      CUDAMOE_EXPECT_OK(cudamoe_optimizer_step(device.stream(), &args));
      std::vector<float> parameters = tensors.parameter(0).get();
      const std::vector<float> last = tensors.parameter(2).get();
      parameters.insert(parameters.end(), last.begin(), last.end());
      if (first.empty()) first = parameters, first_norm = norm;
      EXPECT_EQ(std::memcmp(first.data(), parameters.data(), parameters.size() * sizeof(float)), 0) << spec;
      EXPECT_EQ(std::memcmp(&first_norm, &norm, sizeof norm), 0) << spec;
    }
  }
}

TEST(OptimizerNorm, RefusesBadArguments) {
  TestDevice device;
  Random random(8);
  Tensors tensors(device, random, {4, 5});
  Buffer<double> norm(device, 2);
  const Workspace workspace(device, 1024);
  cudamoe_optimizer_norm_args good{};
  good.struct_size = sizeof good;
  good.tensor_count = 2;
  good.tensors = tensors.list().data();
  good.norm = norm.data();
  good.workspace = workspace.data();
  good.workspace_bytes = 1024;
  CUDAMOE_ASSERT_OK(cudamoe_optimizer_norm(device.stream(), &good));
  std::vector<cudamoe_optimizer_tensor> list;
  const auto refused = [&](const char* words, auto&& change) {
    auto args = good;
    list = tensors.list();
    args.tensors = list.data();
    change(args);
    CUDAMOE_EXPECT_REFUSED(cudamoe_optimizer_norm(device.stream(), &args), words);
  };
  CUDAMOE_EXPECT_REFUSED(cudamoe_optimizer_norm(nullptr, &good), "stream is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_optimizer_norm(device.stream(), nullptr), "args is null");
  refused("struct_size", [](auto& a) { a.struct_size = 8; });
  refused("tensor_count is -1", [](auto& a) { a.tensor_count = -1; });
  refused("tensors is null", [](auto& a) { a.tensors = nullptr; });
  refused("norm is null", [](auto& a) { a.norm = nullptr; });
  refused("norm is 0x", [](auto& a) { a.norm = reinterpret_cast<double*>(reinterpret_cast<char*>(a.norm) + 4); });
  refused("workspace is null", [](auto& a) { a.workspace = nullptr; });
  refused("workspace_bytes is 15", [](auto& a) { a.workspace_bytes = 15; });
  refused("tensors[1].gradient is null", [&](auto&) { list[1].gradient = nullptr; });
  refused("tensors[0].gradient is 0x",
          [&](auto&) { list[0].gradient = reinterpret_cast<const float*>(reinterpret_cast<const char*>(list[0].gradient) + 1); });
  refused("tensors[1].count is -5", [&](auto&) { list[1].count = -5; });
  refused("overlaps", [&](auto& a) { a.norm = reinterpret_cast<double*>(a.workspace); });
  refused("overlaps", [&](auto& a) { list[0].gradient = reinterpret_cast<const float*>(a.norm); });
  int64_t bytes;
  CUDAMOE_EXPECT_REFUSED(cudamoe_optimizer_norm_workspace(device.stream(), &good, nullptr), "bytes is null");
  auto bad = good;
  bad.tensor_count = -1;
  CUDAMOE_EXPECT_REFUSED(cudamoe_optimizer_norm_workspace(device.stream(), &bad, &bytes), "tensor_count is -1");
}

TEST(OptimizerStep, RefusesBadArguments) {
  TestDevice device;
  Random random(9);
  Tensors tensors(device, random, {4, 5});
  Buffer<double> norm(device, 2);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  DenseOptimizer adamw;
  adamw.optimizer = CUDAMOE_OPTIMIZER_ADAMW;
  const auto good = tensors.step_args(adamw);
  CUDAMOE_ASSERT_OK(cudamoe_optimizer_step(device.stream(), &good));
  std::vector<cudamoe_optimizer_tensor> list;
  const auto refused = [&](const char* words, auto&& change) {
    auto args = good;
    list = tensors.list();
    args.tensors = list.data();
    change(args);
    CUDAMOE_EXPECT_REFUSED(cudamoe_optimizer_step(device.stream(), &args), words);
  };
  CUDAMOE_EXPECT_REFUSED(cudamoe_optimizer_step(nullptr, &good), "stream is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_optimizer_step(device.stream(), nullptr), "args is null");
  refused("struct_size", [](auto& a) { a.struct_size = 8; });
  refused("optimizer is 2", [](auto& a) { a.optimizer = CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD; });
  refused("optimizer is -1", [](auto& a) { a.optimizer = -1; });
  refused("learning_rate is -1", [](auto& a) { a.learning_rate = -1; });
  refused("learning_rate is nan", [&](auto& a) { a.learning_rate = nan; });
  refused("beta1 is 1", [](auto& a) { a.beta1 = 1; });
  refused("beta2 is -0.5", [](auto& a) { a.beta2 = -0.5f; });
  refused("epsilon is 0", [](auto& a) { a.epsilon = 0; });
  refused("epsilon is nan", [&](auto& a) { a.epsilon = nan; });
  refused("gradient_scale is inf", [](auto& a) { a.gradient_scale = std::numeric_limits<float>::infinity(); });
  refused("max_norm is -1", [](auto& a) { a.max_norm = -1; });
  refused("step is 0", [](auto& a) { a.step = 0; });
  refused("momentum is 1.5", [](auto& a) { a.optimizer = CUDAMOE_OPTIMIZER_SGD, a.momentum = 1.5f; });
  refused("norm is 0x", [&](auto& a) { a.norm = reinterpret_cast<const double*>(reinterpret_cast<const char*>(norm.data()) + 1); });
  refused("tensor_count is -1", [](auto& a) { a.tensor_count = -1; });
  refused("tensors is null", [](auto& a) { a.tensors = nullptr; });
  refused("tensors[1].parameter is null", [&](auto&) { list[1].parameter = nullptr; });
  refused("tensors[1].gradient is null", [&](auto&) { list[1].gradient = nullptr; });
  refused("tensors[1].state1 is null", [&](auto&) { list[1].state1 = nullptr; });
  refused("tensors[0].state2 is null", [&](auto&) { list[0].state2 = nullptr; });
  refused("tensors[0].count is -1", [&](auto&) { list[0].count = -1; });
  refused("tensors[0].learning_rate_scale is -1", [&](auto&) { list[0].learning_rate_scale = -1; });
  refused("tensors[0].weight_decay is nan", [&](auto&) { list[0].weight_decay = nan; });
  refused("overlaps", [&](auto&) { list[1].parameter = list[0].parameter + 3; });
  refused("overlaps", [&](auto&) { list[1].state1 = list[0].parameter; });
  refused("overlaps", [&](auto&) { list[1].gradient = list[0].parameter; });
  refused("overlaps norm", [&](auto& a) {
    a.norm = norm.data();
    list[0].state1 = reinterpret_cast<float*>(norm.data()) - 2;
  });
  const Buffer<cudamoe_step_numbers> numbers(device, 2);
  refused("numbers is 0x",
          [&](auto& a) { a.numbers = reinterpret_cast<const cudamoe_step_numbers*>(reinterpret_cast<const char*>(numbers.data()) + 4); });
  refused("overlaps numbers", [&](auto& a) {
    a.numbers = numbers.data();
    list[0].state1 = reinterpret_cast<float*>(numbers.data()) + 5;
  });
  // Gradients are only read: two tensors may share one.
  list = tensors.list();
  list[0].gradient = list[1].gradient;
  auto args = good;
  args.tensors = list.data();
  CUDAMOE_EXPECT_OK(cudamoe_optimizer_step(device.stream(), &args));
}

}  // namespace
}  // namespace cudamoe::test
