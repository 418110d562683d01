#include "device/timer.h"

#include <dlfcn.h>

#include <chrono>
#include <stdexcept>
#include <string>

#include "core/abi.h"
#include "cuda/device.h"

namespace cudamoe::bench {
namespace {

class HostTimer final : public Timer {
 public:
  explicit HostTimer(DeviceEngine& engine) : engine_(engine) {}
  double seconds(const std::function<void()>& work) override {
    engine_.synchronize();
    const auto begin = std::chrono::steady_clock::now();
    work();
    engine_.synchronize();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  const char* about() const override { return "the host's clock"; }

 private:
  DeviceEngine& engine_;
};

// The driver's interface, of which the program needs nothing where there is no GPU.
class EventTimer final : public Timer {
 public:
  explicit EventTimer(DeviceEngine& engine) : stream_(native_stream(engine.stream())) {
    void* driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == nullptr) throw std::runtime_error(dlerror());
    find(driver, "cuEventCreate", create_);
    find(driver, "cuEventRecord", record_);
    find(driver, "cuEventSynchronize", synchronize_);
    find(driver, "cuEventElapsedTime", elapsed_);
    check(create_(&begin_, 0));
    check(create_(&end_, 0));
  }
  double seconds(const std::function<void()>& work) override {
    check(record_(begin_, stream_));
    work();
    check(record_(end_, stream_));
    check(synchronize_(end_));
    float milliseconds = 0;
    check(elapsed_(&milliseconds, begin_, end_));
    return static_cast<double>(milliseconds) * 1e-3;
  }
  const char* about() const override { return "events of the driver"; }

 private:
  template <class Function>
  static void find(void* driver, const char* name, Function*& function) {
    function = reinterpret_cast<Function*>(dlsym(driver, name));
    if (function == nullptr) throw std::runtime_error(std::string("libcuda.so.1 has no ") + name);
  }
  static void check(int result) {
    if (result != 0) throw std::runtime_error("the driver's event functions failed with " + std::to_string(result));
  }

  void* stream_;
  void *begin_ = nullptr, *end_ = nullptr;
  int (*create_)(void**, unsigned) = nullptr;
  int (*record_)(void*, void*) = nullptr;
  int (*synchronize_)(void*) = nullptr;
  int (*elapsed_)(float*, void*, void*) = nullptr;
};

}  // namespace

void* native_stream(cudamoe_stream* stream) { return static_cast<cuda::Stream*>(stream->stream)->get(); }

std::unique_ptr<Timer> make_timer(DeviceEngine& engine) {
  if (std::string(engine.info().backend) == "cuda") return std::make_unique<EventTimer>(engine);
  return std::make_unique<HostTimer>(engine);
}

}  // namespace cudamoe::bench
