// Every kind of bad argument of caches of embedding rows.
#include <gtest/gtest.h>

#include <limits>

#include "embedding/embedding_case.h"

namespace cudamoe::test {
namespace {

class EmbeddingCacheArguments : public ::testing::Test {
 protected:
  EmbeddingCacheArguments()
      : random_(1),
        data_(make_case(random_, shape())),
        case_(device_, data_, CUDAMOE_OPTIMIZER_ROWWISE_ADAM, 0, Place::kMapped),
        gradient_(device_, random_.reals(data_.batch * data_.width)),
        output_(device_, data_.batch * data_.width),
        memory_(device_, std::vector<unsigned char>(1 << 16, 0)),
        workspace_(device_, 1 << 20) {
    for (int64_t t = 0; t < 2; ++t) caches_.push_back({memory_.data() + (t << 15), 1 << 15, 16, CUDAMOE_OPTIMIZER_ROWWISE_ADAM, 0});
  }

  static CaseShape shape() {
    CaseShape shape;
    shape.dims = {16, 8};
    shape.bag_sizes = {1, 0, 3};
    return shape;
  }

  cudamoe_embedding_cache_prepare_args prepare_args() {
    auto args = case_.args<cudamoe_embedding_cache_prepare_args>();
    args.caches = caches_.data();
    args.workspace = workspace_.data();
    args.workspace_bytes = workspace_.size();
    return args;
  }
  cudamoe_embedding_cache_flush_args flush_args() {
    return {sizeof(cudamoe_embedding_cache_flush_args), 2, case_.tables().data(), caches_.data()};
  }
  cudamoe_embedding_forward_args forward_args() {
    auto args = case_.args<cudamoe_embedding_forward_args>();
    args.output = output_.data();
    args.output_row_stride = data_.width;
    args.caches = caches_.data();
    return args;
  }
  cudamoe_embedding_update_args update_args() {
    EmbeddingOptimizer settings;
    settings.optimizer = CUDAMOE_OPTIMIZER_ROWWISE_ADAM;
    auto args = case_.update_args(settings, gradient_, data_.width);
    args.workspace = workspace_.data();
    args.workspace_bytes = workspace_.size();
    args.caches = caches_.data();
    return args;
  }

  template <class Change>
  void all_refuse(const char* words, Change&& change) {
    const auto caches = caches_;
    change(caches_);
    const auto prepare = prepare_args();
    CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_cache_prepare(device_.stream(), &prepare), words);
    const auto flush = flush_args();
    CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_cache_flush(device_.stream(), &flush), words);
    const auto forward = forward_args();
    CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_forward(device_.stream(), &forward), words);
    const auto update = update_args();
    CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_update(device_.stream(), &update), words);
    caches_ = caches;
  }

  TestDevice device_;
  Random random_;
  EmbeddingData data_;
  EmbeddingCase case_;
  Buffer<float> gradient_, output_;
  Buffer<unsigned char> memory_;
  Workspace workspace_;
  std::vector<cudamoe_embedding_cache> caches_;
};

TEST_F(EmbeddingCacheArguments, GoodOnesAreAccepted) {
  const auto prepare = prepare_args();
  CUDAMOE_EXPECT_OK(cudamoe_embedding_cache_prepare(device_.stream(), &prepare));
  const auto forward = forward_args();
  CUDAMOE_EXPECT_OK(cudamoe_embedding_forward(device_.stream(), &forward));
  const auto update = update_args();
  CUDAMOE_EXPECT_OK(cudamoe_embedding_update(device_.stream(), &update));
  const auto flush = flush_args();
  CUDAMOE_EXPECT_OK(cudamoe_embedding_cache_flush(device_.stream(), &flush));
  CUDAMOE_EXPECT_OK(cudamoe_stream_synchronize(device_.stream()));
}

TEST_F(EmbeddingCacheArguments, Caches) {
  using Caches = std::vector<cudamoe_embedding_cache>;
  all_refuse("caches[1].rows is 12; it must be 0 or a multiple of 8", [](Caches& c) { c[1].rows = 12; });
  all_refuse("caches[0].rows is -8; it must be 0 or a multiple of 8", [](Caches& c) { c[0].rows = -8; });
  all_refuse("caches[0].rows is 17179868784; an eighth of it and the 50 rows of tables[0] must be less than 2^31 together",
             [](Caches& c) { c[0].rows = ((int64_t{1} << 31) - 50) * 8; });
  all_refuse("caches[1].optimizer is 3; an embedding takes", [](Caches& c) { c[1].optimizer = CUDAMOE_OPTIMIZER_ADAMW; });
  all_refuse("caches[0].reserved is 1; it must be 0", [](Caches& c) { c[0].reserved = 1; });
  all_refuse("caches[1].memory is null", [](Caches& c) { c[1].memory = nullptr; });
  all_refuse("caches[0].memory is ", [](Caches& c) { c[0].memory = static_cast<char*>(c[0].memory) + 32; });
  all_refuse("caches[1].bytes is 63; cudamoe_embedding_cache_bytes says ", [](Caches& c) { c[1].bytes = 63; });
  all_refuse("memory overlaps caches[", [](Caches& c) { c[1].memory = static_cast<char*>(c[0].memory) + 64; });
  all_refuse("caches[1].memory overlaps tables[0].weights; they must be apart", [&](Caches& c) {
    c[1].memory = reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(case_.tables()[0].weights) & ~uintptr_t{63});
  });
}

TEST_F(EmbeddingCacheArguments, Bytes) {
  auto args = flush_args();
  int64_t bytes = -1;
  args.table_count = 2;
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_cache_bytes(device_.stream(), &args, &bytes), "table_count is 2; it must be 1");
  args.table_count = 1;
  caches_[0].rows = 0;
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_cache_bytes(device_.stream(), &args, &bytes), "caches[0].rows is 0");
  caches_[0].rows = 16;
  caches_[0].memory = nullptr;
  CUDAMOE_EXPECT_OK(cudamoe_embedding_cache_bytes(device_.stream(), &args, &bytes));
  // At least its counters; on a GPU the rows with both moments and 9 bytes beside.
  EXPECT_GE(bytes, int64_t{sizeof(cudamoe_embedding_cache_counters)});
  if (test_device_spec().rfind("cpu", 0) != 0) {
    EXPECT_EQ(bytes, 64 + 64 + 64 + 64 + 16 * 64 + 16 * 64 + 64);
  }
  args.caches = nullptr;
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_cache_bytes(device_.stream(), &args, &bytes), "caches is null");
}

TEST_F(EmbeddingCacheArguments, Flush) {
  const auto refuse = [&](const char* words, const cudamoe_embedding_cache_flush_args& args) {
    CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_cache_flush(device_.stream(), &args), words);
  };
  auto args = flush_args();
  args.table_count = 0;
  refuse("table_count is 0", args);
  args = flush_args();
  args.tables = nullptr;
  refuse("tables is null", args);
  args = flush_args();
  args.caches = nullptr;
  refuse("caches is null", args);
  auto tables = case_.tables();
  args = flush_args();
  args.tables = tables.data();
  tables[1].state2 = nullptr;
  refuse("tables[1].state2 is null", args);
  tables[1].state1 = nullptr;
  refuse("tables[1].state1 is null", args);
  tables[1].weights = nullptr;
  refuse("tables[1].weights is null", args);
  tables[1].rows = 0;
  refuse("tables[1].rows is 0", args);
  // A table without a cache needs nothing.
  tables[1] = case_.tables()[1];
  tables[1].weights = nullptr;
  caches_[1] = {};
  CUDAMOE_EXPECT_OK(cudamoe_embedding_cache_flush(device_.stream(), &args));
}

TEST_F(EmbeddingCacheArguments, Prepare) {
  auto args = prepare_args();
  args.caches = nullptr;
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_cache_prepare(device_.stream(), &args), "caches is null");
  args = prepare_args();
  args.features = nullptr;
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_cache_prepare(device_.stream(), &args), "features is null");
  args = prepare_args();
  CUDAMOE_ASSERT_OK(cudamoe_embedding_cache_prepare_workspace(device_.stream(), &args, &args.workspace_bytes));
  if (args.workspace_bytes > 0) {
    --args.workspace_bytes;
    CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_cache_prepare(device_.stream(), &args), "workspace_bytes is ");
  }
  args = prepare_args();
  args.workspace = memory_.data();
  args.workspace_bytes = memory_.size();
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_cache_prepare(device_.stream(), &args), "workspace overlaps caches[0].memory");
}

TEST_F(EmbeddingCacheArguments, ForwardAndUpdate) {
  auto forward = forward_args();
  forward.output = memory_.data() + 64;
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_forward(device_.stream(), &forward), "output overlaps caches[0].memory; they must be apart");
  auto update = update_args();
  caches_[1].optimizer = CUDAMOE_OPTIMIZER_SGD;
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_update(device_.stream(), &update), "caches[1].optimizer is 0; it must be optimizer, 4");
  caches_[1].optimizer = CUDAMOE_OPTIMIZER_ROWWISE_ADAM;
  update.gradient = reinterpret_cast<const float*>(memory_.data() + (1 << 15));
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_update(device_.stream(), &update), "gradient overlaps caches[1].memory");
  update = update_args();
  update.norm = reinterpret_cast<const double*>(memory_.data());
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_update(device_.stream(), &update), "norm overlaps caches[0].memory");
  update.norm = nullptr;
  update.numbers = reinterpret_cast<const cudamoe_step_numbers*>(memory_.data());
  CUDAMOE_EXPECT_REFUSED(cudamoe_embedding_update(device_.stream(), &update), "numbers overlaps caches[0].memory");
}

}  // namespace
}  // namespace cudamoe::test
