// Measures operations as nvbench does: cold, with the second-level cache flushed before each run, and warm, in runs that follow each other;
// until the standard deviation of the mean is 0.5 % or the time is over. What is stated are medians, and shares of what the device does in
// a copy and in a large product, measured before.
#pragma once

#include <memory>
#include <string>

#include "device/cases.h"
#include "device/cublas.h"
#include "device/timer.h"

namespace cudamoe::bench {

class Meter {
 public:
  // Each operation may take `seconds`; rows are of a Markdown table or aligned text.
  Meter(DeviceEngine& engine, double seconds, bool markdown);
  void measure(const Case& each, int64_t batch);

 private:
  void measure_ceilings();
  double warm_seconds(const std::function<void()>& run);
  double cold_seconds(const std::function<void()>& run);
  // Ratio: of the floor's time by the ceilings to the cold time.
  void print(const std::string& name, int64_t batch, double cold, double warm, const Floor& floor);

  DeviceEngine& engine_;
  double seconds_;
  bool markdown_;
  std::unique_ptr<Timer> timer_;
  std::unique_ptr<Cublas> cublas_;
  double copy_bytes_ = 0, product_operations_ = 0;  // a second
  int64_t flush_bytes_;
};

}  // namespace cudamoe::bench
