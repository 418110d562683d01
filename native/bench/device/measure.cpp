#include "device/measure.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

namespace cudamoe::bench {
namespace {

constexpr int kLeastSamples = 5;
constexpr double kNoise = 0.005;

// Takes samples until they are enough; their median.
double median_of(double seconds, const std::function<double()>& sample) {
  const auto begin = std::chrono::steady_clock::now();
  std::vector<double> samples;
  double sum = 0, squares = 0;
  for (;;) {
    const double value = sample();
    samples.push_back(value);
    sum += value;
    squares += value * value;
    const double n = static_cast<double>(samples.size()), mean = sum / n;
    const double deviation = std::sqrt(std::max(squares / n - mean * mean, 0.0) / n);
    const double spent = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (spent >= seconds || (samples.size() >= 4 * kLeastSamples && spent >= seconds / 2 && deviation <= kNoise * mean)) break;
  }
  std::sort(samples.begin(), samples.end());
  return samples[samples.size() / 2];
}

}  // namespace

Meter::Meter(DeviceEngine& engine, double seconds, bool markdown)
    : engine_(engine), seconds_(seconds), markdown_(markdown), timer_(make_timer(engine)) {
  // More than any second-level cache; the executor has none.
  flush_bytes_ = std::string(engine.info().backend) == "cuda" ? int64_t{256} << 20 : 4096;
  std::string reason;
  cublas_ = Cublas::open(engine, &reason);
  measure_ceilings();
  std::printf("Device: %s (%s, %d multiprocessors), timed by %s.\n", engine.info().name, engine.info().level, engine.info().threads,
              timer_->about());
  std::printf("Copy: %.1f GB/s read and written. ", copy_bytes_ * 1e-9);
  if (cublas_ != nullptr) {
    std::printf("bf16 product of 8192 x 8192 x 8192 by cuBLAS: %.1f TFLOP/s.\n", product_operations_ * 1e-12);
  } else {
    std::printf("cuBLAS is left out: %s.\n", reason.c_str());
  }
  std::printf(markdown_ ? "\n| operation | batch | cold us | warm us | GB/s of floor, cold | of copy | TFLOP/s | of product |\n"
                          "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
                        : "\n%-44s %8s %10s %10s %8s %8s %8s %8s\n",
              "operation", "batch", "cold us", "warm us", "GB/s", "of copy", "TFLOP/s", "of prod.");
}

void Meter::measure_ceilings() {
  const bool gpu = std::string(engine_.info().backend) == "cuda";
  const int64_t bytes = gpu ? int64_t{1} << 30 : int64_t{1} << 20;
  void *from = engine_.allocate(bytes), *to = engine_.allocate(bytes);
  const double copy = warm_seconds([&] { require(cudamoe_memory_copy(engine_.stream(), to, from, bytes, CUDAMOE_DEVICE_TO_DEVICE)); });
  copy_bytes_ = 2 * static_cast<double>(bytes) / copy;
  engine_.clear();
  if (cublas_ != nullptr) {
    constexpr int64_t kSide = 8192;
    GroupedProduct product{nullptr, nullptr, nullptr, {0, kSide}, kSide, kSide};
    product.x = engine_.random_of(kSide * kSide, CUDAMOE_BF16);
    product.weights = engine_.random_of(kSide * kSide, CUDAMOE_BF16);
    product.y = engine_.allocate(2 * kSide * kSide);
    product_operations_ = 2.0 * kSide * kSide * kSide / warm_seconds(cublas_->loop(product));
    engine_.clear();
  }
}

double Meter::warm_seconds(const std::function<void()>& run) {
  run();
  const double once = timer_->seconds(run);
  const int repeats = static_cast<int>(std::clamp(0.005 / std::max(once, 1e-6), 1.0, 1000.0));
  return median_of(seconds_ / 2, [&] {
    return timer_->seconds([&] {
      for (int i = 0; i < repeats; ++i) run();
    }) / repeats;
  });
}

double Meter::cold_seconds(const std::function<void()>& run) {
  void* flush = engine_.allocate(flush_bytes_);
  run();
  return median_of(seconds_ / 2, [&] {
    require(cudamoe_memory_fill(engine_.stream(), flush, 0, flush_bytes_));
    return timer_->seconds(run);
  });
}

void Meter::print(const std::string& name, int64_t batch, double cold, double warm, const Floor& floor) {
  const auto share = [](double value, double ceiling) { return ceiling > 0 && value > 0 ? value / ceiling * 100 : 0; };
  const double bytes = floor.bytes / cold, operations = floor.operations / cold;
  std::printf(markdown_ ? "| %s | %lld | %.2f | %.2f | %.1f | %.0f %% | %.2f | %.0f %% |\n"
                        : "%-44s %8lld %10.2f %10.2f %8.1f %6.0f %% %8.2f %6.0f %%\n",
              name.c_str(), static_cast<long long>(batch), cold * 1e6, warm * 1e6, bytes * 1e-9, share(bytes, copy_bytes_),
              operations * 1e-12, share(operations, product_operations_));
}

void Meter::measure(const Case& each, int64_t batch) {
  const Prepared prepared = each.prepare(engine_, batch);
  prepared.run();
  engine_.synchronize();
  const auto measure = [&](const std::string& name, const std::function<void()>& run) {
    if (run) print(name, batch, cold_seconds(run), warm_seconds(run), prepared.floor);
  };
  measure(each.name, prepared.run);
  if (cublas_ == nullptr || prepared.peer.x == nullptr) return;
  measure("cuBLAS, a call a group: " + each.name, cublas_->loop(prepared.peer));
  measure("cuBLAS, grouped: " + each.name, cublas_->grouped(engine_, prepared.peer));
  measure("cuBLAS, batched: " + each.name, cublas_->batched(prepared.peer));
}

}  // namespace cudamoe::bench
