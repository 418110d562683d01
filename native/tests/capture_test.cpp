// Captures: the calls of a stream, kept and run again, on every backend.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <tuple>

#include "embedding/embedding_case.h"
#include "support/buffer.h"
#include "support/random.h"
#include "support/test_device.h"

namespace cudamoe::test {
namespace {

// Owns a capture, released before the buffers that it names.
class Capture {
 public:
  // What `calls` calls on the stream.
  template <class Calls>
  Capture(TestDevice& device, Calls&& calls) {
    CUDAMOE_EXPECT_OK(cudamoe_capture_begin(device.stream()));
    calls();
    CUDAMOE_EXPECT_OK(cudamoe_capture_end(device.stream(), &capture_));
  }
  ~Capture() { CUDAMOE_EXPECT_OK(cudamoe_capture_destroy(capture_)); }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  cudamoe_capture* get() const { return capture_; }
  void launch() const { CUDAMOE_EXPECT_OK(cudamoe_capture_launch(capture_)); }

 private:
  cudamoe_capture* capture_ = nullptr;
};

// averages += (values - averages) / 2.
void average(TestDevice& device, const Buffer<float>& values, const Buffer<float>& averages) {
  cudamoe_balance_average_args args{};
  args.struct_size = sizeof args;
  args.rate = 0.5f;
  args.count = values.size();
  args.values = values.data();
  args.averages = averages.data();
  CUDAMOE_EXPECT_OK(cudamoe_balance_average(device.stream(), &args));
  std::memset(&args, 0xCD, sizeof args);
}

void copy(TestDevice& device, const Buffer<float>& to, const Buffer<float>& from) {
  CUDAMOE_EXPECT_OK(cudamoe_memory_copy(device.stream(), to.data(), from.data(), 4 * from.size(), CUDAMOE_DEVICE_TO_DEVICE));
}

TEST(Capture, RunsTheCallsOnWhatTheMemoryThenHolds) {
  for (const std::string& spec : equivalent_device_specs()) {
    TestDevice device(spec);
    constexpr int64_t kCount = 9;
    Buffer<float> values(device, std::vector<float>(kCount, 8)), averages(device, std::vector<float>(kCount, 0));
    Buffer<float> copied(device, std::vector<float>(kCount, -1)), cleared(device, std::vector<float>(kCount, -1));
    const Capture capture(device, [&] {
      average(device, values, averages);
      copy(device, copied, averages);
      CUDAMOE_EXPECT_OK(cudamoe_memory_fill(device.stream(), cleared.data(), 0, 4 * kCount));
      average(device, copied, cleared);
    });
    EXPECT_EQ(averages.get(), std::vector<float>(kCount, 0));  // nothing has run
    EXPECT_EQ(copied.get(), std::vector<float>(kCount, -1));
    EXPECT_EQ(cleared.get(), std::vector<float>(kCount, -1));
    for (const float expected : {4.0f, 6.0f, 7.0f}) {
      capture.launch();
      EXPECT_EQ(averages.get(), std::vector<float>(kCount, expected)) << spec;
      EXPECT_EQ(copied.get(), std::vector<float>(kCount, expected)) << spec;
      EXPECT_EQ(cleared.get(), std::vector<float>(kCount, expected / 2)) << spec;
    }
    values.set(std::vector<float>(kCount, -1));
    capture.launch();
    average(device, values, averages);  // behind it
    EXPECT_EQ(averages.get(), std::vector<float>(kCount, 1)) << spec;
    EXPECT_TRUE(values.guards_intact() && averages.guards_intact() && copied.guards_intact() && cleared.guards_intact());
  }
}

TEST(Capture, LaunchesFollowEachOtherWithoutWaiting) {
  TestDevice device;
  Buffer<float> values(device, std::vector<float>(5, 64)), first(device, std::vector<float>(5, 0)),
      second(device, std::vector<float>(5, 0));
  const Capture one(device, [&] { average(device, values, first); });
  const Capture other(device, [&] { average(device, first, second); });
  for (int i = 0; i < 3; ++i) one.launch();
  other.launch();
  one.launch();
  other.launch();
  EXPECT_EQ(first.get(), std::vector<float>(5, 60));
  EXPECT_EQ(second.get(), std::vector<float>(5, 44));
}

TEST(Capture, OfNothingRunsNothing) {
  TestDevice device;
  const Capture capture(device, [] {});
  capture.launch();
  capture.launch();
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
}

// Every operation with arrays on the host: they are gone and overwritten before the launch.
TEST(Capture, KeepsWhatHostArraysSaid) {
  TestDevice device;
  Random random(90);
  constexpr int64_t kRows = 6, kDim = 4;
  const Buffer<float> logits(device, random.reals(kRows)), labels(device, std::vector<float>(kRows, 1)), dlogits(device, kRows);
  const Buffer<double> losses(device, 1), weight_sums(device, 1), norm(device, 1), gram(device, 4);
  Buffer<float> parameter(device, random.reals(kRows));
  const Buffer<float> products(device, random.integers(25)), table(device, random.reals(3 * kDim)), pooled(device, kRows * kDim);
  const Buffer<int32_t> ids(device, {0, 1, 2, 2, 1, 0});
  std::unique_ptr<Workspace> loss_workspace, norm_workspace;

  const auto calls = [&](bool capturing) {
    const auto spoil = [capturing](auto& of) {
      if (capturing) std::memset(&of, 0xCD, sizeof of);
    };
    cudamoe_loss_task task{};
    task.logits = logits.data();
    task.labels = labels.data();
    task.dlogits = dlogits.data();
    task.logits_row_stride = task.labels_stride = task.dlogits_row_stride = 1;
    task.classes = 1;
    task.scale = 1;
    cudamoe_loss_args loss{};
    loss.struct_size = sizeof loss;
    loss.task_count = 1;
    loss.rows = kRows;
    loss.tasks = &task;
    loss.losses = losses.data();
    loss.weight_sums = weight_sums.data();
    CUDAMOE_EXPECT_OK(cudamoe_loss_workspace(device.stream(), &loss, &loss.workspace_bytes));
    if (!loss_workspace) loss_workspace = std::make_unique<Workspace>(device, loss.workspace_bytes);
    loss.workspace = loss_workspace->data();
    CUDAMOE_EXPECT_OK(cudamoe_loss(device.stream(), &loss));
    spoil(task);

    cudamoe_optimizer_tensor tensor{};
    tensor.parameter = parameter.data();
    tensor.gradient = dlogits.data();
    tensor.count = kRows;
    tensor.learning_rate_scale = 1;
    cudamoe_optimizer_norm_args norms{};
    norms.struct_size = sizeof norms;
    norms.tensor_count = 1;
    norms.tensors = &tensor;
    norms.norm = norm.data();
    CUDAMOE_EXPECT_OK(cudamoe_optimizer_norm_workspace(device.stream(), &norms, &norms.workspace_bytes));
    if (!norm_workspace) norm_workspace = std::make_unique<Workspace>(device, norms.workspace_bytes);
    norms.workspace = norm_workspace->data();
    CUDAMOE_EXPECT_OK(cudamoe_optimizer_norm(device.stream(), &norms));
    cudamoe_optimizer_step_args step{};
    step.struct_size = sizeof step;
    step.tensor_count = 1;
    step.tensors = &tensor;
    step.optimizer = CUDAMOE_OPTIMIZER_SGD;
    step.learning_rate = 0.25f;
    step.gradient_scale = 1;
    step.epsilon = 1e-8f;
    step.step = 1;
    step.norm = norm.data();
    CUDAMOE_EXPECT_OK(cudamoe_optimizer_step(device.stream(), &step));
    spoil(tensor);

    int64_t starts[3] = {0, 2, 5};
    cudamoe_balance_factored_gram_args factored{};
    factored.struct_size = sizeof factored;
    factored.tasks = 2;
    factored.starts = starts;
    factored.gradient_products = factored.weight_products = products.data();
    factored.gradient_products_row_stride = factored.weight_products_row_stride = 5;
    factored.gram = gram.data();
    CUDAMOE_EXPECT_OK(cudamoe_balance_factored_gram(device.stream(), &factored));
    spoil(starts);

    cudamoe_embedding_table rows{};
    rows.weights = table.data();
    rows.rows = 3;
    rows.row_stride = rows.dim = kDim;
    cudamoe_embedding_feature feature{};
    feature.ids = ids.data();
    feature.bag_size = 1;
    feature.lookups = kRows;
    cudamoe_embedding_forward_args embedding{};
    embedding.struct_size = sizeof embedding;
    embedding.table_count = embedding.feature_count = 1;
    embedding.batch = kRows;
    embedding.tables = &rows;
    embedding.features = &feature;
    embedding.output = pooled.data();
    embedding.output_row_stride = kDim;
    CUDAMOE_EXPECT_OK(cudamoe_embedding_forward(device.stream(), &embedding));
    spoil(rows);
    spoil(feature);
  };

  const std::vector<float> before = parameter.get();
  calls(false);
  CUDAMOE_ASSERT_OK(cudamoe_stream_synchronize(device.stream()));
  const auto results = [&] { return std::tuple(losses.get(), dlogits.get(), norm.get(), parameter.get(), gram.get(), pooled.get()); };
  const auto expected = results();
  parameter.set(before);
  const Capture capture(device, [&] { calls(true); });
  for (const auto* memory : {&dlogits, &pooled})
    CUDAMOE_EXPECT_OK(cudamoe_memory_fill(device.stream(), memory->data(), 0xCD, 4 * memory->size()));
  for (const auto* memory : {&losses, &norm, &gram})
    CUDAMOE_EXPECT_OK(cudamoe_memory_fill(device.stream(), memory->data(), 0xCD, 8 * memory->size()));
  capture.launch();
  CUDAMOE_ASSERT_OK(cudamoe_stream_synchronize(device.stream()));
  EXPECT_EQ(results(), expected);
}

// Learning rates and numbers of steps that change between launches.
TEST(Capture, UpdatesTakeTheNumbersThatTheMemoryThenHolds) {
  TestDevice device;
  Random random(91);
  CaseShape shape;
  shape.rows = {20, 9};
  shape.dims = {16, 5};
  shape.bag_sizes = {2, 3};
  shape.dtypes = {CUDAMOE_F32, CUDAMOE_BF16};
  const EmbeddingData data = make_case(random, shape);
  constexpr int64_t kCount = 70;
  const std::vector<float> before = random.reals(kCount), zeros(kCount, 0);
  const Buffer<float> gradient(device, random.reals(kCount)), row_gradient(device, random.reals(data.batch * data.width));
  EmbeddingOptimizer settings;
  settings.optimizer = CUDAMOE_OPTIMIZER_ROWWISE_ADAM;
  settings.weight_decay = 0.01;
  Buffer<cudamoe_step_numbers> numbers(device, 1);

  // The parameters after six steps.
  const auto train = [&](bool captured) {
    const Buffer<float> parameter(device, before), state1(device, zeros), state2(device, zeros);
    const EmbeddingCase rows(device, data, settings.optimizer);
    const cudamoe_optimizer_tensor tensor{parameter.data(), gradient.data(), state1.data(), state2.data(), kCount, 0.5f, 0.1f};
    cudamoe_optimizer_step_args step{};
    step.struct_size = sizeof step;
    step.tensor_count = 1;
    step.tensors = &tensor;
    step.optimizer = CUDAMOE_OPTIMIZER_ADAMW;
    step.beta1 = 0.9f;
    step.beta2 = 0.999f;
    step.epsilon = 1e-8f;
    step.gradient_scale = 1;
    cudamoe_embedding_update_args update = rows.update_args(settings, row_gradient, data.width);
    update.beta1 = step.beta1;
    update.beta2 = step.beta2;
    CUDAMOE_EXPECT_OK(cudamoe_embedding_update_workspace(device.stream(), &update, &update.workspace_bytes));
    const Workspace workspace(device, update.workspace_bytes);
    update.workspace = workspace.data();
    const auto calls = [&] {
      CUDAMOE_EXPECT_OK(cudamoe_optimizer_step(device.stream(), &step));
      CUDAMOE_EXPECT_OK(cudamoe_embedding_update(device.stream(), &update));
    };
    if (captured) step.numbers = update.numbers = numbers.data();
    std::unique_ptr<Capture> capture;
    for (int64_t i = 1; i <= 6; ++i) {
      step.learning_rate = update.learning_rate = 0.1f / static_cast<float>(i);
      step.step = update.step = i;
      cudamoe_step_numbers current{};
      CUDAMOE_EXPECT_OK(cudamoe_step_numbers_make(step.learning_rate, step.beta1, step.beta2, i, &current));
      numbers.set({current});
      if (capture) {
        capture->launch();
        continue;
      }
      calls();
      if (captured) capture = std::make_unique<Capture>(device, calls);
    }
    CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
    return std::tuple(parameter.get(), state1.get(), state2.get(), rows.weights(0), rows.weights(1), rows.state1(0), rows.state2(1));
  };
  EXPECT_EQ(train(true), train(false));
}

// A sparse combine with a slot out of range.
TEST(Capture, BadDataIsReportedAfterEachLaunch) {
  TestDevice device;
  const Buffer<float> gates(device, std::vector<float>{1, 1}), expert(device, std::vector<float>{3, 5}), y(device, 2);
  Buffer<int32_t> slots(device, {0, 7});
  cudamoe_combine_forward_args args{};
  args.struct_size = sizeof args;
  args.tasks = args.choices = 1;
  args.rows = 2;
  args.width = 1;
  args.gates = gates.data();
  args.slot_of_pair = slots.data();
  args.expert = expert.data();
  args.expert_row_stride = args.y_row_stride = args.y_task_stride = 1;
  args.expert_rows = 2;
  args.y = y.data();
  const Capture capture(device, [&] { CUDAMOE_EXPECT_OK(cudamoe_combine_forward(device.stream(), &args)); });
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
  for (int i = 0; i < 2; ++i) {
    capture.launch();
    EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), CUDAMOE_ERROR_REPORTED);
    EXPECT_NE(last_error().find("7"), std::string::npos) << last_error();
  }
  slots.set({1, 0});
  capture.launch();
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
  EXPECT_EQ(y.get(), (std::vector<float>{5, 3}));
}

TEST(Capture, WhatCannotBeCapturedIsRefusedAndTheCaptureGoesOn) {
  TestDevice device;
  Buffer<float> values(device, std::vector<float>(4, 8)), averages(device, std::vector<float>(4, 0));
  const Capture earlier(device, [] {});
  const Capture capture(device, [&] {
    float host[4] = {};
    cudamoe_stream* stream = device.stream();
    CUDAMOE_EXPECT_REFUSED(cudamoe_stream_synchronize(stream), "cudamoe_stream_synchronize: the stream is being captured");
    CUDAMOE_EXPECT_REFUSED(cudamoe_memory_copy(stream, values.data(), host, 16, CUDAMOE_HOST_TO_DEVICE),
                           "direction is 0; while the stream");
    CUDAMOE_EXPECT_REFUSED(cudamoe_memory_copy(stream, host, values.data(), 16, CUDAMOE_DEVICE_TO_HOST),
                           "direction is 1; while the stream");
    CUDAMOE_EXPECT_REFUSED(cudamoe_capture_begin(stream), "cudamoe_capture_begin: the stream is being captured");
    CUDAMOE_EXPECT_REFUSED(cudamoe_capture_launch(earlier.get()), "cudamoe_capture_launch: the stream is being captured");
    CUDAMOE_EXPECT_REFUSED(cudamoe_memory_fill(stream, values.data(), 256, 16), "value is 256");
    CUDAMOE_EXPECT_REFUSED(cudamoe_capture_end(stream, nullptr), "capture is null");
    average(device, values, averages);
  });
  capture.launch();
  EXPECT_EQ(averages.get(), std::vector<float>(4, 4));
  EXPECT_EQ(values.get(), std::vector<float>(4, 8));
}

TEST(Capture, MemoryComesAndGoesMeanwhile) {
  TestDevice device, other;
  Buffer<float> values(device, std::vector<float>(4, 8)), averages(device, std::vector<float>(4, 0));
  void* old = nullptr;
  CUDAMOE_ASSERT_OK(cudamoe_memory_allocate(device.device(), 1000, &old));
  const Capture capture(device, [&] {
    average(device, values, averages);
    CUDAMOE_EXPECT_OK(cudamoe_memory_free(device.device(), old));
    CUDAMOE_ASSERT_OK(cudamoe_memory_allocate(device.device(), 1000, &old));
    average(device, values, averages);
  });
  capture.launch();
  EXPECT_EQ(averages.get(), std::vector<float>(4, 6));
  CUDAMOE_EXPECT_OK(cudamoe_memory_free(device.device(), old));
}

// What was queued before the capture runs while it is made, and what is freed then waits for it. The executor reports work on freed memory.
TEST(Capture, MemoryFreedMeanwhileOutlivesTheWorkThatWasQueuedBefore) {
  for (const std::string& spec : equivalent_device_specs()) {
    TestDevice device(spec);
    constexpr int64_t kBytes = 4096;
    void *used = nullptr, *next = nullptr;
    CUDAMOE_ASSERT_OK(cudamoe_memory_allocate(device.device(), kBytes, &used));
    CUDAMOE_EXPECT_OK(cudamoe_memory_fill(device.stream(), used, 0x11, kBytes));
    const Capture capture(device, [&] {
      CUDAMOE_EXPECT_OK(cudamoe_memory_free(device.device(), used));
      CUDAMOE_ASSERT_OK(cudamoe_memory_allocate(device.device(), kBytes, &next));
    });
    std::vector<unsigned char> bytes(kBytes, 0xCD);
    CUDAMOE_EXPECT_OK(cudamoe_memory_copy(device.stream(), bytes.data(), next, kBytes, CUDAMOE_DEVICE_TO_HOST));
    EXPECT_EQ(bytes, std::vector<unsigned char>(kBytes, 0)) << spec;
    CUDAMOE_EXPECT_OK(cudamoe_memory_free(device.device(), next));
  }
}

TEST(CaptureHandles, AreCheckedLikeAllOthers) {
  TestDevice device;
  cudamoe_capture* capture = nullptr;
  CUDAMOE_EXPECT_REFUSED(cudamoe_capture_begin(nullptr), "cudamoe_capture_begin: stream is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_capture_end(nullptr, &capture), "cudamoe_capture_end: stream is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_capture_end(device.stream(), &capture), "the stream is not being captured");
  CUDAMOE_EXPECT_REFUSED(cudamoe_capture_launch(nullptr), "cudamoe_capture_launch: capture is null");
  CUDAMOE_EXPECT_OK(cudamoe_capture_destroy(nullptr));
  unsigned char bytes[256] = {};
  for (void* pointer : {static_cast<void*>(bytes), static_cast<void*>(device.stream()), reinterpret_cast<void*>(8)}) {
    CUDAMOE_EXPECT_REFUSED(cudamoe_capture_launch(static_cast<cudamoe_capture*>(pointer)), "is not a live capture");
    CUDAMOE_EXPECT_REFUSED(cudamoe_capture_destroy(static_cast<cudamoe_capture*>(pointer)), "is not a live capture");
  }
  for (void* pointer : {static_cast<void*>(bytes), static_cast<void*>(device.device())}) {
    CUDAMOE_EXPECT_REFUSED(cudamoe_capture_begin(static_cast<cudamoe_stream*>(pointer)), "is not a live stream");
    CUDAMOE_EXPECT_REFUSED(cudamoe_capture_end(static_cast<cudamoe_stream*>(pointer), &capture), "is not a live stream");
  }
  CUDAMOE_ASSERT_OK(cudamoe_capture_begin(device.stream()));
  CUDAMOE_ASSERT_OK(cudamoe_capture_end(device.stream(), &capture));
  CUDAMOE_EXPECT_OK(cudamoe_capture_destroy(capture));
  CUDAMOE_EXPECT_REFUSED(cudamoe_capture_destroy(capture), "is not a live capture");
  CUDAMOE_EXPECT_REFUSED(cudamoe_capture_launch(capture), "is not a live capture");
}

TEST(CaptureHandles, AStreamOutlivesItsCaptures) {
  TestDevice device;
  cudamoe_stream* stream = nullptr;
  cudamoe_capture* capture = nullptr;
  CUDAMOE_ASSERT_OK(cudamoe_stream_create(device.device(), &stream));
  CUDAMOE_ASSERT_OK(cudamoe_capture_begin(stream));
  CUDAMOE_ASSERT_OK(cudamoe_capture_end(stream, &capture));
  CUDAMOE_EXPECT_REFUSED(cudamoe_stream_destroy(stream), "1 captures are still live; destroy them first");
  CUDAMOE_EXPECT_OK(cudamoe_capture_launch(capture));
  CUDAMOE_EXPECT_OK(cudamoe_capture_destroy(capture));
  CUDAMOE_EXPECT_OK(cudamoe_stream_destroy(stream));
}

TEST(CaptureHandles, AStreamMayGoWithACaptureBegun) {
  TestDevice device;
  Buffer<float> values(device, std::vector<float>(4, 8));
  cudamoe_stream* stream = nullptr;
  CUDAMOE_ASSERT_OK(cudamoe_stream_create(device.device(), &stream));
  CUDAMOE_ASSERT_OK(cudamoe_capture_begin(stream));
  CUDAMOE_EXPECT_OK(cudamoe_memory_fill(stream, values.data(), 0, 16));
  CUDAMOE_EXPECT_OK(cudamoe_stream_destroy(stream));
  EXPECT_EQ(values.get(), std::vector<float>(4, 8));
}

// Memory that queued work still uses, freed: the work is done first, on all streams. The executor reports work on freed memory.
TEST(MemoryPool, FreedMemoryOutlivesTheWorkThatWasQueued) {
  for (const std::string& spec : equivalent_device_specs()) {
    TestDevice device(spec);
    cudamoe_stream* other = nullptr;
    CUDAMOE_ASSERT_OK(cudamoe_stream_create(device.device(), &other));
    for (int round = 0; round < 20; ++round) {
      constexpr int64_t kBytes = 4096;
      void *first = nullptr, *second = nullptr;
      CUDAMOE_ASSERT_OK(cudamoe_memory_allocate(device.device(), kBytes, &first));
      CUDAMOE_ASSERT_OK(cudamoe_memory_allocate(device.device(), kBytes, &second));
      std::vector<unsigned char> bytes(kBytes, 0xCD);
      CUDAMOE_EXPECT_OK(cudamoe_memory_copy(device.stream(), bytes.data(), first, kBytes, CUDAMOE_DEVICE_TO_HOST));
      EXPECT_EQ(bytes, std::vector<unsigned char>(kBytes, 0)) << spec;  // also where it was used before
      CUDAMOE_EXPECT_OK(cudamoe_memory_fill(device.stream(), first, 0x11, kBytes));
      CUDAMOE_EXPECT_OK(cudamoe_memory_copy(device.stream(), second, first, kBytes, CUDAMOE_DEVICE_TO_DEVICE));
      CUDAMOE_EXPECT_OK(cudamoe_memory_fill(other, second, 0x22, kBytes / 2));
      CUDAMOE_EXPECT_OK(cudamoe_memory_free(device.device(), first));
      CUDAMOE_EXPECT_OK(cudamoe_memory_free(device.device(), second));
      if (round % 3 == 0) {
        CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
      }
    }
    CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(other));
    CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
    CUDAMOE_EXPECT_OK(cudamoe_stream_destroy(other));
  }
}

// Memory that waits for queued work is there for who needs it, and only what is really used counts.
TEST(MemoryPool, AnAllocationTakesWhatFreedMemoryHolds) {
  if (!test_device_is_slow()) GTEST_SKIP() << "only the executor's memory can be made small";
  TestDevice device("simt:memory=1048576");
  constexpr int64_t kMost = (int64_t{1} << 20) - 65536;
  for (int round = 0; round < 3; ++round) {
    void *memory = nullptr, *more = nullptr;
    CUDAMOE_ASSERT_OK(cudamoe_memory_allocate(device.device(), kMost, &memory));
    EXPECT_EQ(cudamoe_memory_allocate(device.device(), kMost, &more), CUDAMOE_ERROR_OUT_OF_MEMORY);
    CUDAMOE_EXPECT_OK(cudamoe_memory_fill(device.stream(), memory, 1, kMost));
    CUDAMOE_EXPECT_OK(cudamoe_memory_free(device.device(), memory));
  }
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device.stream()));
}

}  // namespace
}  // namespace cudamoe::test
