// The embedding family on the configurations of benchmarks/configs/embedding-*.json: batch 4096, row-wise AdaGrad. The floor is the
// time in which this machine reads as many random rows (forward), or reads and writes them (update: twice that), measured in the same
// round.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "support/harness.h"
#include "support/peaks.h"

namespace cudamoe::bench {
namespace {

constexpr int64_t kBatch = 4096;
constexpr int kBatches = 8;  // made beforehand; calls take the next one

// The benchmark data that peers ran on: u(stream, i) is splitmix64 of stream * 2^32 + i, its top 24 bits as a fraction.
double uniform(uint64_t stream, uint64_t i) {
  uint64_t z = (((stream << 32) + i) + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return static_cast<double>((z ^ (z >> 31)) >> 40) * 0x1p-24;
}

struct Config {
  const char* name;
  int32_t features;
  int64_t rows;
  int32_t dim, bag, pooling;
  double skew;
};
constexpr Config kConfigs[] = {
    {"embedding-onehot", 26, 100000, 16, 1, CUDAMOE_POOLING_SUM, 3},
    {"embedding-bag20", 26, 100000, 16, 20, CUDAMOE_POOLING_SUM, 3},
    {"embedding-bag20-uniform", 26, 100000, 16, 20, CUDAMOE_POOLING_MEAN, 1},
    {"embedding-large", 8, 1000000, 64, 10, CUDAMOE_POOLING_SUM, 2},
};

class Model {
 public:
  Model(Engine& engine, const Config& config, int32_t dtype) : engine_(engine), config_(config) {
    const int64_t width = int64_t{config.features} * config.dim, lookups = kBatch * config.bag;
    for (int32_t t = 0; t < config.features; ++t) {
      const int64_t count = config.rows * config.dim;
      void* weights = dtype == CUDAMOE_F32 ? engine.random(count) : engine.allocate(2 * count);
      tables_.push_back({weights, config.rows, config.dim, engine.allocate_of<float>(config.rows), nullptr, config.dim, dtype});
    }
    for (int b = 0; b < kBatches; ++b) {
      for (int32_t f = 0; f < config.features; ++f) {
        auto* ids = engine.allocate_of<int32_t>(lookups);
        for (int64_t i = 0; i < lookups; ++i) {
          const int64_t sample = i / config.bag, place = i % config.bag;
          const double u =
              uniform(4 * static_cast<uint64_t>(b) + 1, static_cast<uint64_t>((sample * config.features + f) * config.bag + place));
          ids[i] = static_cast<int32_t>(
              std::min<int64_t>(static_cast<int64_t>(static_cast<double>(config.rows) * std::pow(u, config.skew)), config.rows - 1));
        }
        features_.push_back({ids, nullptr, config.bag, f, config.pooling, 0, int64_t{f} * config.dim, lookups});
      }
    }
    forward_.struct_size = sizeof forward_;
    forward_.table_count = forward_.feature_count = config.features;
    forward_.batch = kBatch;
    forward_.tables = tables_.data();
    forward_.output = engine.allocate_of<float>(kBatch * width);
    forward_.output_row_stride = width;
    update_.struct_size = sizeof update_;
    update_.table_count = update_.feature_count = config.features;
    update_.optimizer = CUDAMOE_OPTIMIZER_ROWWISE_ADAGRAD;
    update_.batch = kBatch;
    update_.tables = tables_.data();
    update_.features = features_.data();
    update_.gradient = engine.random(kBatch * width);
    update_.gradient_row_stride = width;
    update_.learning_rate = 0.05f;
    update_.epsilon = 1e-8f;
    update_.gradient_scale = 1;
    update_.step = 1;
    require(cudamoe_embedding_update_workspace(engine.stream(), &update_, &update_.workspace_bytes));
    update_.workspace = engine.allocate(update_.workspace_bytes);
  }

  int64_t lookups() const { return config_.features * kBatch * config_.bag; }

  void forward() {
    forward_.features = features_.data() + (forward_calls_++ % kBatches) * config_.features;
    require(cudamoe_embedding_forward(engine_.stream(), &forward_));
  }
  void update() {
    update_.features = features_.data() + (update_calls_++ % kBatches) * config_.features;
    require(cudamoe_embedding_update(engine_.stream(), &update_));
  }

 private:
  Engine& engine_;
  const Config& config_;
  std::vector<cudamoe_embedding_table> tables_;
  std::vector<cudamoe_embedding_feature> features_;
  cudamoe_embedding_forward_args forward_{};
  cudamoe_embedding_update_args update_{};
  int forward_calls_ = 0, update_calls_ = 0;
};

void run(Bench& bench, Engine& engine) {
  for (const Config& config : kConfigs) {
    for (const int32_t dtype : {CUDAMOE_F32, CUDAMOE_BF16}) {
      const std::string name = std::string(config.name) + (dtype == CUDAMOE_BF16 ? ", bf16 weights" : "");
      if (!bench.selected(name)) continue;
      Engine own(engine.threads());  // the tables are large: free them after each configuration
      Model model(own, config, dtype);
      const int64_t row_bytes = config.dim * (dtype == CUDAMOE_BF16 ? 2 : 4), table_bytes = config.features * config.rows * row_bytes;
      Work gather;
      gather.bytes = static_cast<double>(model.lookups() * row_bytes);
      gather.floor_seconds = [&](int threads) {
        return static_cast<double>(model.lookups()) / random_row_rate(threads, std::max<int64_t>(row_bytes, 64), table_bytes);
      };
      bench.table(own, name, gather, {{"forward", [&] { model.forward(); }}, {"update", [&] { model.update(); }}, {"forward + update", [&] {
                                                                                                                     model.forward();
                                                                                                                     model.update();
                                                                                                                   }}});
    }
  }
}

const Suite suite("embedding", run);

}  // namespace
}  // namespace cudamoe::bench
