// Every kind of bad argument of the embedding operations.
#include <gtest/gtest.h>

#include <limits>

#include "embedding/embedding_case.h"

namespace cudamoe::test {
namespace {

// Two tables and three features; the arguments of each operation, good to begin with.
class EmbeddingArguments : public ::testing::Test {
 protected:
  EmbeddingArguments()
      : random_(1),
        data_(make_case(random_, shape())),
        case_(device_, data_, CUDAMOE_OPTIMIZER_ROWWISE_ADAM),
        gradient_(device_, random_.reals(data_.batch * data_.width)),
        output_(device_, data_.batch * data_.width),
        rows_(device_, data_.lookups()),
        values_(device_, data_.lookups() * kDim),
        counts_(device_, 2),
        workspace_(device_, 1 << 20) {}

  static constexpr int64_t kDim = 16;

  static CaseShape shape() {
    CaseShape shape;
    shape.dims = {16, 8};
    shape.bag_sizes = {1, 0, 3};
    return shape;
  }

  cudamoe_embedding_forward_args forward_args() {
    auto args = case_.args<cudamoe_embedding_forward_args>();
    args.output = output_.data();
    args.output_row_stride = data_.width;
    return args;
  }
  cudamoe_embedding_update_args update_args() {
    EmbeddingOptimizer settings;
    settings.optimizer = CUDAMOE_OPTIMIZER_ROWWISE_ADAM;
    auto args = case_.update_args(settings, gradient_, data_.width);
    args.workspace = workspace_.data();
    args.workspace_bytes = workspace_.size();
    return args;
  }
  cudamoe_embedding_gradient_args gradient_args() {
    auto args = case_.args<cudamoe_embedding_gradient_args>();
    args.gradient = gradient_.data();
    args.gradient_row_stride = data_.width;
    args.unique_rows = rows_.data();
    args.values = values_.data();
    args.values_row_stride = kDim;
    args.counts = counts_.data();
    args.workspace = workspace_.data();
    args.workspace_bytes = workspace_.size();
    return args;
  }

  // Each changes the tables, the features or the members that the three operations share.
  template <class Change>
  void all_refuse(const char* words, Change&& change) {
    const auto tables = case_.tables();
    const auto features = case_.features();
    auto forward = forward_args();
    auto update = update_args();
    auto gradient = gradient_args();
    change(case_.tables(), case_.features());
    CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_forward(device_.stream(), &forward), words);
    CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_update(device_.stream(), &update), words);
    CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_gradient(device_.stream(), &gradient), words);
    case_.tables() = tables;
    case_.features() = features;
  }
  template <class Change>
  void all_refuse_args(const char* words, Change&& change) {
    auto forward = forward_args();
    auto update = update_args();
    auto gradient = gradient_args();
    change(forward), change(update), change(gradient);
    CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_forward(device_.stream(), &forward), words);
    CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_update(device_.stream(), &update), words);
    CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_gradient(device_.stream(), &gradient), words);
  }
  template <class Change>
  void update_refuses(const char* words, Change&& change) {
    auto args = update_args();
    change(args);
    CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_update(device_.stream(), &args), words);
  }
  template <class Change>
  void gradient_refuses(const char* words, Change&& change) {
    auto args = gradient_args();
    change(args);
    CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_gradient(device_.stream(), &args), words);
  }
  template <class Change>
  void forward_refuses(const char* words, Change&& change) {
    auto args = forward_args();
    change(args);
    CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_forward(device_.stream(), &args), words);
  }

  template <class T>
  static T* shifted(T* pointer, int64_t bytes) {
    return reinterpret_cast<T*>(reinterpret_cast<intptr_t>(pointer) + bytes);
  }

  TestDevice device_;
  Random random_;
  EmbeddingData data_;
  EmbeddingCase case_;
  Buffer<float> gradient_, output_;
  Buffer<int32_t> rows_;
  Buffer<float> values_;
  Buffer<int64_t> counts_;
  Workspace workspace_;
};

TEST_F(EmbeddingArguments, GoodOnesAreAccepted) {
  auto forward = forward_args();
  auto update = update_args();
  auto gradient = gradient_args();
  CUDAMOE_EXPECT_OK(cudamoe_embedding_forward(device_.stream(), &forward));
  CUDAMOE_EXPECT_OK(cudamoe_embedding_update(device_.stream(), &update));
  CUDAMOE_EXPECT_OK(cudamoe_embedding_gradient(device_.stream(), &gradient));
  gradient.tables = case_.tables().data();
  for (auto& table : case_.tables()) table.weights = nullptr;
  CUDAMOE_EXPECT_OK(cudamoe_embedding_gradient(device_.stream(), &gradient));
}

TEST_F(EmbeddingArguments, NullStreamAndArguments) {
  auto forward = forward_args();
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_forward(nullptr, &forward), "cudamoe_embedding_forward: stream is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_forward(device_.stream(), nullptr), "args is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_update(device_.stream(), nullptr), "args is null");
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_gradient(device_.stream(), nullptr), "args is null");
  auto update = update_args();
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_update_workspace(device_.stream(), &update, nullptr), "bytes is null");
  int64_t bytes = 0;
  update.batch = -1;
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_update_workspace(device_.stream(), &update, &bytes), "batch is -1");
  auto gradient = gradient_args();
  gradient.bounds = 5;
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_gradient_workspace(device_.stream(), &gradient, &bytes), "bounds is 5");
}

TEST_F(EmbeddingArguments, SharedMembers) {
  all_refuse_args("struct_size", [](auto& a) { a.struct_size = 12; });
  all_refuse_args("table_count is 0", [](auto& a) { a.table_count = 0; });
  all_refuse_args("feature_count is -1", [](auto& a) { a.feature_count = -1; });
  all_refuse_args("batch is -1", [](auto& a) { a.batch = -1; });
  all_refuse_args("batch is 2147483648", [](auto& a) { a.batch = int64_t{1} << 31; });
  all_refuse_args("bounds is 2", [](auto& a) { a.bounds = 2; });
  all_refuse_args("tables is null", [](auto& a) { a.tables = nullptr; });
  all_refuse_args("features is null", [](auto& a) { a.features = nullptr; });
  all_refuse_args("features[0].lookups is 7; without offsets it must be batch * bag_size, 8", [](auto& a) { a.batch = 8; });
}

TEST_F(EmbeddingArguments, Tables) {
  all_refuse("tables[1].rows is 0", [](auto& t, auto&) { t[1].rows = 0; });
  all_refuse("tables[1].rows is 2147483648", [](auto& t, auto&) { t[1].rows = int64_t{1} << 31; });
  all_refuse("tables[0].dim is 0", [](auto& t, auto&) { t[0].dim = 0; });
  all_refuse("tables[0].dim is 8193", [](auto& t, auto&) { t[0].dim = 8193; });
  all_refuse("tables[1].dtype is 2", [](auto& t, auto&) { t[1].dtype = 2; });
  all_refuse("tables[1].row_stride is 7; it must be at least dim, 8", [](auto& t, auto&) { t[1].row_stride = 7; });
  all_refuse("exceed the address space", [](auto& t, auto&) { t[1].rows = 1 << 30, t[1].row_stride = int64_t{1} << 40; });
  const auto tables = case_.tables();
  case_.tables()[1].weights = nullptr;
  forward_refuses("tables[1].weights is null", [](auto&) {});
  update_refuses("tables[1].weights is null", [](auto&) {});
  case_.tables()[1].weights = shifted(tables[1].weights, 2);
  forward_refuses("must be aligned to 4 bytes", [](auto&) {});
  case_.tables() = tables;
}

TEST_F(EmbeddingArguments, Features) {
  all_refuse("features[0].table is 2", [](auto&, auto& f) { f[0].table = 2; });
  all_refuse("features[0].table is -1", [](auto&, auto& f) { f[0].table = -1; });
  all_refuse("features[2].pooling is 2", [](auto&, auto& f) { f[2].pooling = 2; });
  all_refuse("features[2].reserved is 1", [](auto&, auto& f) { f[2].reserved = 1; });
  all_refuse("features[2].column is -1", [](auto&, auto& f) { f[2].column = -1; });
  all_refuse("features[1].column is 15; it lies within the columns 0 .. 15 of features[0]", [](auto&, auto& f) { f[1].column = 15; });
  all_refuse("features[2].lookups is -1", [](auto&, auto& f) { f[2].lookups = -1; });
  all_refuse("look-ups together", [](auto&, auto& f) { f[0].lookups = f[1].lookups = f[2].lookups = 2147483647; });
  all_refuse("features[2].bag_size is 0", [](auto&, auto& f) { f[2].bag_size = 0; });
  all_refuse("features[2].lookups is 20; without offsets it must be batch * bag_size, 21", [](auto&, auto& f) { f[2].lookups = 20; });
  all_refuse("features[0].ids is null", [](auto&, auto& f) { f[0].ids = nullptr; });
  all_refuse("features[0].ids is 0x", [](auto&, auto& f) { f[0].ids = shifted(f[0].ids, 1); });
  all_refuse("features[1].offsets is 0x", [](auto&, auto& f) { f[1].offsets = shifted(f[1].offsets, 2); });
}

TEST_F(EmbeddingArguments, SlotsBeyond32Bits) {
  auto update = update_args();
  for (auto& feature : case_.features()) feature.table = 0, feature.lookups = 0;
  for (size_t f = 0; f < 3; ++f) case_.features()[f].column = static_cast<int64_t>(f) * 16;
  update.batch = std::numeric_limits<int32_t>::max();
  int64_t bytes = 0;
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_update_workspace(device_.stream(), &update, &bytes), "3 features share tables[0]");
}

TEST_F(EmbeddingArguments, Forward) {
  forward_refuses("output_dtype is 3", [](auto& a) { a.output_dtype = 3; });
  forward_refuses("reserved is 1", [](auto& a) { a.reserved = 1; });
  forward_refuses("output is null", [](auto& a) { a.output = nullptr; });
  forward_refuses("output is 0x", [](auto& a) { a.output = shifted(a.output, 2); });
  forward_refuses("output_row_stride is 39; it must be at least 40", [](auto& a) { a.output_row_stride = 39; });
  forward_refuses("output overlaps tables[0].weights", [&](auto& a) { a.output = case_.tables()[0].weights; });
  forward_refuses("output overlaps features[2].ids", [&](auto& a) { a.output = const_cast<int32_t*>(case_.features()[2].ids); });
  forward_refuses("output overlaps features[1].offsets", [&](auto& a) { a.output = const_cast<int32_t*>(case_.features()[1].offsets); });
}

TEST_F(EmbeddingArguments, Update) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  update_refuses("reserved is 1", [](auto& a) { a.reserved = 1; });
  update_refuses("optimizer is 3", [](auto& a) { a.optimizer = CUDAMOE_OPTIMIZER_ADAMW; });
  update_refuses("optimizer is -1", [](auto& a) { a.optimizer = -1; });
  update_refuses("learning_rate is -1", [](auto& a) { a.learning_rate = -1; });
  update_refuses("learning_rate is nan", [&](auto& a) { a.learning_rate = nan; });
  update_refuses("weight_decay is -1", [](auto& a) { a.weight_decay = -1; });
  update_refuses("gradient_scale is nan", [&](auto& a) { a.gradient_scale = nan; });
  update_refuses("epsilon is 0", [](auto& a) { a.epsilon = 0; });
  update_refuses("beta1 is 1", [](auto& a) { a.beta1 = 1; });
  update_refuses("beta2 is -0.5", [](auto& a) { a.beta2 = -0.5f; });
  update_refuses("step is 0", [](auto& a) { a.step = 0; });
  update_refuses("gradient is null", [](auto& a) { a.gradient = nullptr; });
  update_refuses("gradient_row_stride is 39", [](auto& a) { a.gradient_row_stride = 39; });
  update_refuses("workspace is null", [](auto& a) { a.workspace = nullptr; });
  update_refuses("workspace is 0x", [](auto& a) { a.workspace = shifted(a.workspace, 8); });
  update_refuses("workspace_bytes is 10", [](auto& a) { a.workspace_bytes = 10; });
  update_refuses("overlaps gradient", [&](auto& a) { a.gradient = static_cast<const float*>(case_.tables()[0].weights); });
  update_refuses("numbers is 0x", [&](auto& a) { a.numbers = static_cast<const cudamoe_step_numbers*>(shifted(a.workspace, 4)); });
  update_refuses("overlaps numbers", [&](auto& a) { a.numbers = static_cast<const cudamoe_step_numbers*>(case_.tables()[0].weights); });
  update_refuses("workspace (", [&](auto& a) { a.numbers = static_cast<const cudamoe_step_numbers*>(a.workspace); });
  update_refuses("overlaps workspace", [&](auto& a) {
    a.workspace = case_.tables()[0].weights;
    a.workspace_bytes = 1 << 20;
  });
  const auto tables = case_.tables();
  const auto with_tables = [&](const char* words, auto&& change) {
    change(case_.tables());
    update_refuses(words, [](auto&) {});
    case_.tables() = tables;
  };
  with_tables("tables[0].state1 is null", [](auto& t) { t[0].state1 = nullptr; });
  with_tables("tables[1].state2 is null", [](auto& t) { t[1].state2 = nullptr; });
  with_tables("tables[1].state1 is 0x", [](auto& t) { t[1].state1 = shifted(t[1].state1, 1); });
  with_tables("overlaps", [](auto& t) { t[1].state1 = t[0].state1; });
  with_tables("overlaps", [](auto& t) { t[1].weights = t[0].weights; });
  with_tables("overlaps", [](auto& t) { t[0].state2 = static_cast<float*>(t[0].weights) + 5; });
}

TEST_F(EmbeddingArguments, Gradient) {
  gradient_refuses("gradient is null", [](auto& a) { a.gradient = nullptr; });
  gradient_refuses("gradient_row_stride is 39", [](auto& a) { a.gradient_row_stride = 39; });
  gradient_refuses("unique_rows is null", [](auto& a) { a.unique_rows = nullptr; });
  gradient_refuses("values is null", [](auto& a) { a.values = nullptr; });
  gradient_refuses("counts is null", [](auto& a) { a.counts = nullptr; });
  gradient_refuses("counts is 0x", [](auto& a) { a.counts = shifted(a.counts, 4); });
  gradient_refuses("values_row_stride is 15", [](auto& a) { a.values_row_stride = 15; });
  gradient_refuses("workspace is null", [](auto& a) { a.workspace = nullptr; });
  gradient_refuses("workspace_bytes is 10", [](auto& a) { a.workspace_bytes = 10; });
  gradient_refuses("overlaps", [](auto& a) { a.values = const_cast<float*>(a.gradient); });
  gradient_refuses("overlaps", [](auto& a) { a.unique_rows = reinterpret_cast<int32_t*>(a.values); });
  gradient_refuses("overlaps", [](auto& a) { a.counts = reinterpret_cast<int64_t*>(a.values); });
}

}  // namespace
}  // namespace cudamoe::test
