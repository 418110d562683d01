// Trials with kernels that are wrong on purpose: what is struck out, what is chosen, what is kept.
#include "cuda/trials/trials.h"

#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

#include "common/samples.h"
#include "core/backend.h"
#include "cuda/device.h"
#include "expert/expert.h"
#include "gemm/gemm.h"

extern "C" const cudamoe::Backend* cudamoe_backend_entry(const cudamoe::Host* host);

namespace cudamoe::test {
namespace {

namespace fs = std::filesystem;
using cuda::CallKind;
using cuda::Candidate;
using cuda::Trials;

constexpr int64_t kRows = 20, kColumns = 12, kDepth = 9, kStride = 16;

const Backend& backend() {
  static const Host host{kBackendVersion, [](const char*) noexcept {}};
  return *cudamoe_backend_entry(&host);
}

// A device of the backend with a stream, and memory that holds values.
class OpenDevice {
 public:
  explicit OpenDevice(const char* options = "") {
    EXPECT_EQ(backend().device_open(options, &device_), CUDAMOE_OK);
    EXPECT_EQ(backend().stream_create(device_, &stream_), CUDAMOE_OK);
  }
  ~OpenDevice() {
    backend().stream_destroy(stream_);
    for (void* memory : memory_) backend().release(device_, memory, 0);
    backend().device_close(device_);
  }
  OpenDevice(const OpenDevice&) = delete;
  OpenDevice& operator=(const OpenDevice&) = delete;

  void* handle() const { return stream_; }
  cuda::Stream& stream() const { return *static_cast<cuda::Stream*>(stream_); }

  template <class T>
  T* keep(const std::vector<T>& values) {
    void* memory = nullptr;
    const auto bytes = static_cast<int64_t>(values.size() * sizeof(T));
    EXPECT_EQ(backend().allocate(device_, bytes, &memory), CUDAMOE_OK);
    EXPECT_EQ(backend().copy(stream_, memory, values.data(), bytes, CUDAMOE_HOST_TO_DEVICE), CUDAMOE_OK);
    EXPECT_EQ(backend().stream_synchronize(stream_), CUDAMOE_OK);
    memory_.push_back(memory);
    return static_cast<T*>(memory);
  }

 private:
  void *device_ = nullptr, *stream_ = nullptr;
  std::vector<void*> memory_;
};

// With a product.
class Product : public OpenDevice {
 public:
  explicit Product(float scale = 1, const char* options = "") : OpenDevice(options) {
    std::vector<float> x(kRows * kDepth), packed(kDepth * kStride);
    for (size_t i = 0; i < x.size(); ++i) x[i] = scale * std::sin(static_cast<float>(i + 1));
    for (size_t i = 0; i < packed.size(); ++i) packed[i] = std::cos(static_cast<float>(i + 1));
    product_.rows = {nullptr,
                     nullptr,
                     kRows,
                     kRows,
                     1,
                     kernels::GemmFunction::kForward,
                     stream().device_report(),
                     static_cast<kernels::OffenderCell*>(stream().scratch())};
    product_.columns = kColumns;
    product_.depth = kDepth;
    product_.x = {keep(x), kDepth, 0, 0};
    product_.packed = keep(packed);
    product_.packed_row_stride = kStride;
    product_.packed_group_stride = kDepth * kStride;
    product_.y = {keep(std::vector<float>(kRows * kColumns)), kColumns, 0, 0};
  }

  const kernels::GemmProduct& get() const { return product_; }

 private:
  kernels::GemmProduct product_{};
};

using Kernel = std::function<cudaError_t(const kernels::GemmProduct&, cudaStream_t)>;

cudaError_t right(const kernels::GemmProduct& product, cudaStream_t stream) {
  return kernels::gemm_product_ffma(product, kernels::GemmTile::kMedium, stream);
}
// Leaves out the last term of every sum.
cudaError_t short_sums(const kernels::GemmProduct& product, cudaStream_t stream) {
  kernels::GemmProduct own = product;
  own.depth -= 1;
  return right(own, stream);
}
// Leaves the last row as it was.
cudaError_t missing_row(const kernels::GemmProduct& product, cudaStream_t stream) {
  kernels::GemmProduct own = product;
  own.rows.rows -= 1;
  return right(own, stream);
}
cudaError_t refused(const kernels::GemmProduct&, cudaStream_t) { return cudaErrorInvalidConfiguration; }
cudaError_t slow(const kernels::GemmProduct& product, cudaStream_t stream) {
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return right(product, stream);
}

class OwnTrial : public cuda::Trial {
 public:
  OwnTrial(const Product& product, std::vector<Kernel> kernels) : product_(product), kernels_(std::move(kernels)) {}

  std::string describe() const override { return "9 -> 12"; }
  cudaError_t prepare() override { return cudaSuccess; }
  cudaError_t poison() override {
    const auto& y = product_.get().y;
    return cudaMemsetAsync(const_cast<void*>(y.data), 0xFF, kRows * kColumns * sizeof(float), product_.stream().get());
  }
  cudaError_t run(size_t candidate) override {
    ++runs;
    return kernels_[candidate](product_.get(), product_.stream().get());
  }
  cudaError_t compare(kernels::SampleCounts* counts) override {
    return kernels::gemm_compare_product(product_.get(), false, 64, counts, product_.stream().get());
  }

  int runs = 0;

 private:
  const Product& product_;
  std::vector<Kernel> kernels_;
};

// A path in a folder of this test alone, which does not exist yet.
std::string fresh_log() {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  const fs::path folder = fs::path(testing::TempDir()) / (std::string("cudamoe-trials-") + test->name());
  fs::remove_all(folder);
  return (folder / "deeper" / "log.txt").string();
}

std::string contents(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

bool has(const std::string& text, const std::string& words) { return text.find(words) != std::string::npos; }

constexpr CallKind kKind{1, 2};

cudamoe_status choose(Trials& trials, const Product& product, OwnTrial& trial, const std::vector<Candidate>& candidates, size_t plain,
                      size_t* chosen) {
  *chosen = 99;
  return trials.choose(product.stream(), "cudamoe_test", kKind, candidates, plain, trial, chosen);
}

class WrongOnPurpose : public testing::TestWithParam<std::pair<const char*, Kernel>> {};

TEST_P(WrongOnPurpose, IsStruckOutAndStaysSo) {
  const auto& [name, kernel] = GetParam();
  const Product product;
  const std::string log = fresh_log();
  const std::vector<Candidate> candidates = {{name, 0}, {"right", 1}};
  size_t chosen;
  {
    Trials trials(true, log);
    OwnTrial trial(product, {kernel, right});
    ASSERT_EQ(choose(trials, product, trial, candidates, 1, &chosen), CUDAMOE_OK);
    EXPECT_EQ(chosen, 1u);
    EXPECT_TRUE(has(trials.notes(), std::string("cudamoe_test 9 -> 12: ") + name + " is struck out: ")) << trials.notes();
    // Known from here on: nothing runs.
    trial.runs = 0;
    ASSERT_EQ(choose(trials, product, trial, candidates, 1, &chosen), CUDAMOE_OK);
    EXPECT_EQ(chosen, 1u);
    EXPECT_EQ(trial.runs, 0);
  }
  EXPECT_TRUE(has(contents(log), std::string(name) + " wrong ")) << contents(log);
  EXPECT_TRUE(has(contents(log), "right right ")) << contents(log);
  // Another process.
  Trials later(true, log);
  OwnTrial trial(product, {kernel, right});
  ASSERT_EQ(choose(later, product, trial, candidates, 1, &chosen), CUDAMOE_OK);
  EXPECT_EQ(chosen, 1u);
  EXPECT_EQ(trial.runs, 0);
  EXPECT_TRUE(has(later.notes(), "was struck out in an earlier run")) << later.notes();
}

INSTANTIATE_TEST_SUITE_P(Trials, WrongOnPurpose,
                         testing::Values(std::pair<const char*, Kernel>{"short_sums", short_sums},
                                         std::pair<const char*, Kernel>{"missing_row", missing_row},
                                         std::pair<const char*, Kernel>{"refused", refused}),
                         [](const auto& test) { return std::string(test.param.first); });

// Mixtures of three experts 9 -> 12 -> 5 for two tasks, of all or of two chosen ones, computed on the device, as their samples are
// described.
class Mixtures : public OpenDevice {
 public:
  explicit Mixtures(bool sparse) {
    cudamoe_expert_mix_args args{};
    args.struct_size = sizeof args;
    args.experts = kExperts;
    args.tasks = kTasks;
    args.choices = sparse ? 2 : kExperts;
    args.rows = kRows;
    args.n = kOutputs;
    args.hidden = kHidden;
    args.k = kDepth;
    args.x = keep(waves(kRows * kDepth, 1.7f));
    args.x_row_stride = kDepth;
    args.packed1 = keep(as_bf16(waves(kExperts * kDepth * 16, 0.3f)));
    args.packed2 = keep(as_bf16(waves(kExperts * kHidden * 8, 0.7f)));
    args.bias1 = keep(waves(kExperts * kHidden, 1.1f));
    args.bias1_group_stride = kHidden;
    args.bias2 = keep(waves(kExperts * kOutputs, 0.9f));
    args.bias2_group_stride = kOutputs;
    args.gates = keep(waves(kRows * kTasks * args.choices, 2.3f));
    if (sparse) {
      std::vector<int32_t> numbers(static_cast<size_t>(kRows * kTasks * 2));
      for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<int32_t>(i * 5 % 7 % kExperts);
      chosen = keep(numbers);
    } else {
      args.residual = keep(waves(kTasks * kExperts, 0.4f));
    }
    args.chosen = chosen;
    args.y = keep(std::vector<float>(kRows * kTasks * kOutputs));
    args.y_row_stride = kTasks * kOutputs;
    args.y_task_stride = kOutputs;
    args.packed_dtype = CUDAMOE_BF16;
    args.hidden_activation = CUDAMOE_ACTIVATION_TANH;
    args.workspace_bytes = backend().expert_mix_workspace(handle(), args);
    args.workspace = keep(std::vector<char>(static_cast<size_t>(args.workspace_bytes) + 1));
    EXPECT_EQ(backend().expert_mix(handle(), args), CUDAMOE_OK);
    expert.form = sparse ? kernels::ExpertForm::kSparse : kernels::ExpertForm::kDense;
    expert.rows.rows = kRows;
    expert.rows.groups = 1;
    expert.depth = kDepth;
    expert.hidden = kHidden;
    expert.columns = kOutputs;
    expert.x = {args.x, kDepth, 0, 0};
    expert.first = {args.packed1, 16, kDepth * 16, args.bias1, kHidden, kernels::Activation::kTanh};
    expert.second = {args.packed2, 8, kHidden * 8, args.bias2, kOutputs, kernels::Activation::kNone};
    expert.y = {args.y, args.y_row_stride, 0, 0};
    expert.y_task_stride = kOutputs;
    expert.experts = kExperts;
    expert.tasks = kTasks;
    expert.choices = args.choices;
    expert.gates = args.gates;
    expert.residual = args.residual;
  }

  kernels::SampleCounts compare(const kernels::Expert& as) {
    auto* counts = keep(std::vector<kernels::SampleCounts>(1));
    EXPECT_EQ(kernels::expert_compare(as, chosen, 64, counts, stream().get()), cudaSuccess);
    kernels::SampleCounts seen{};
    EXPECT_EQ(backend().copy(handle(), &seen, counts, sizeof seen, CUDAMOE_DEVICE_TO_HOST), CUDAMOE_OK);
    EXPECT_EQ(backend().stream_synchronize(handle()), CUDAMOE_OK);
    return seen;
  }

  static constexpr int kTasks = 2, kExperts = 3, kHidden = 12, kOutputs = 5;
  kernels::Expert expert{};
  const int32_t* chosen = nullptr;

 private:
  // With room behind, for descriptions that begin too late.
  static std::vector<float> waves(int64_t count, float step) {
    std::vector<float> values(static_cast<size_t>(count) + 8);
    for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(step * static_cast<float>(i + 1));
    return values;
  }
  static std::vector<uint16_t> as_bf16(const std::vector<float>& values) {
    std::vector<uint16_t> bits;
    for (const float value : values) bits.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
    return bits;
  }
};

TEST(ExpertSamples, FindWhatAFusedKernelLeavesOut) {
  for (const bool sparse : {false, true}) {
    SCOPED_TRACE(sparse ? "sparse" : "dense");
    Mixtures mixtures(sparse);
    const kernels::SampleCounts right = mixtures.compare(mixtures.expert);
    EXPECT_EQ(right.samples, 64u * Mixtures::kOutputs);
    EXPECT_EQ(right.informative, right.samples);
    EXPECT_EQ(right.wrong, 0u);
    const auto wrong = [&](auto&& change) {
      kernels::Expert other = mixtures.expert;
      change(other);
      return mixtures.compare(other).wrong;
    };
    EXPECT_GT(wrong([](auto& e) { e.depth -= 1; }), 0u);
    EXPECT_GT(wrong([](auto& e) { e.hidden -= 1; }), 0u);
    EXPECT_GT(wrong([](auto& e) { e.experts -= 1, e.choices = std::min(e.choices, e.experts); }), 0u);
    EXPECT_GT(wrong([](auto& e) { e.first.bias += 1; }), 0u);
    EXPECT_GT(wrong([](auto& e) { e.second.bias = nullptr; }), 0u);
    EXPECT_GT(wrong([](auto& e) { e.second.packed = static_cast<const uint16_t*>(e.second.packed) + 1; }), 0u);
    EXPECT_GT(wrong([](auto& e) { e.first.activation = kernels::Activation::kNone; }), 0u);
    EXPECT_GT(wrong([](auto& e) { e.gates += 1; }), 0u);
    EXPECT_GT(wrong([](auto& e) { e.y_task_stride = 0; }), 0u);
    if (!sparse) {
      EXPECT_GT(wrong([](auto& e) { e.residual = nullptr; }), 0u);
    }
  }
}

TEST(Trials, PreferenceComesBeforeSpeedAndSpeedAmongTheSameSums) {
  const Product product;
  Trials trials(true, "");
  // The first sums are right, so the fast kernel with other sums is not even run; of the first sums the faster one is kept.
  OwnTrial trial(product, {slow, right, [](const auto&, auto) {
                             ADD_FAILURE() << "other sums were run";
                             return cudaErrorInvalidValue;
                           }});
  size_t chosen;
  ASSERT_EQ(choose(trials, product, trial, {{"slow", 0}, {"fast", 0}, {"other", 1}}, 2, &chosen), CUDAMOE_OK);
  EXPECT_EQ(chosen, 1u);
  EXPECT_EQ(trials.notes(), "");
}

TEST(Trials, AKernelThatFailsLosesTheDeviceOnce) {
  const std::string log = fresh_log();
  const std::vector<Candidate> candidates = {{"failing", 0}, {"right", 1}};
  size_t chosen;
  {
    const Product product(1, "fault=1");
    Trials trials(true, log);
    OwnTrial trial(product, {right, right});
    EXPECT_EQ(choose(trials, product, trial, candidates, 1, &chosen), CUDAMOE_ERROR_DEVICE);
    EXPECT_TRUE(product.stream().device().faulted());
    EXPECT_TRUE(has(trials.notes(), "failing is struck out: it fails")) << trials.notes();
  }
  const Product product;
  Trials later(true, log);
  OwnTrial trial(product, {right, right});
  EXPECT_EQ(choose(later, product, trial, candidates, 1, &chosen), CUDAMOE_OK);
  EXPECT_EQ(chosen, 1u);
}

// Where the plain kernel fails the memory of the call is bad, which says nothing of the kernel.
TEST(Trials, ThePlainKernelIsNeverStruckOutForAFailure) {
  const std::string log = fresh_log();
  size_t chosen;
  {
    const Product product(1, "fault=1");
    Trials trials(true, log);
    OwnTrial trial(product, {right});
    EXPECT_EQ(choose(trials, product, trial, {{"plain", 0}}, 0, &chosen), CUDAMOE_ERROR_DEVICE);
    EXPECT_EQ(trials.notes(), "");
  }
  const Product product;
  Trials later(true, log);
  OwnTrial trial(product, {right});
  EXPECT_EQ(choose(later, product, trial, {{"plain", 0}}, 0, &chosen), CUDAMOE_OK);
}

// What an earlier launch, perhaps on another stream, did to the device is no fault of the candidate whose launch hears of it; and one
// that finds no memory may find it the next time.
TEST(Trials, ARefusalThatIsNotTheCandidatesStrikesNothingOut) {
  for (const cudaError_t refusal : {cudaErrorIllegalAddress, cudaErrorMemoryAllocation}) {
    const Product product;
    Trials trials(true, "");
    bool refuses = true;
    OwnTrial trial(product,
                   {[&](const kernels::GemmProduct& p, cudaStream_t stream) { return refuses ? refusal : right(p, stream); }, right});
    size_t chosen = 7;
    const cudamoe_status status = choose(trials, product, trial, {{"first", 0}, {"plain", 1}}, 1, &chosen);
    EXPECT_EQ(status, refusal == cudaErrorMemoryAllocation ? CUDAMOE_OK : CUDAMOE_ERROR_DEVICE);
    EXPECT_EQ(chosen, 1u);
    EXPECT_EQ(trials.notes(), "");
    refuses = false;
    EXPECT_EQ(choose(trials, product, trial, {{"first", 0}, {"plain", 1}}, 1, &chosen), CUDAMOE_OK);
    EXPECT_EQ(chosen, 0u);
  }
}

TEST(Trials, NoRightCandidateIsAnError) {
  const Product product;
  Trials trials(true, "");
  OwnTrial trial(product, {short_sums, missing_row});
  size_t chosen;
  EXPECT_EQ(choose(trials, product, trial, {{"a", 0}, {"b", 1}}, 1, &chosen), CUDAMOE_ERROR_DEVICE);
}

TEST(Trials, ZerosDecideNothing) {
  Trials trials(true, "");
  size_t chosen;
  {
    const Product zeros(0);
    OwnTrial trial(zeros, {short_sums, right});
    ASSERT_EQ(choose(trials, zeros, trial, {{"short", 0}, {"right", 1}}, 1, &chosen), CUDAMOE_OK);
    EXPECT_EQ(chosen, 1u);
    EXPECT_EQ(trials.notes(), "");
  }
  const Product product;
  OwnTrial trial(product, {right, right});
  ASSERT_EQ(choose(trials, product, trial, {{"short", 0}, {"right", 1}}, 1, &chosen), CUDAMOE_OK);
  EXPECT_EQ(chosen, 0u);
}

TEST(Trials, InACaptureThePlainKernelIsTakenAndNothingRuns) {
  const Product product;
  Trials trials(true, "");
  OwnTrial trial(product, {right, right, right});
  product.stream().set_captured(true);
  size_t chosen;
  ASSERT_EQ(choose(trials, product, trial, {{"a", 0}, {"b", 1}, {"c", 1}}, 1, &chosen), CUDAMOE_OK);
  EXPECT_EQ(chosen, 1u);
  EXPECT_EQ(trial.runs, 0);
  product.stream().set_captured(false);
  ASSERT_EQ(choose(trials, product, trial, {{"a", 0}, {"b", 1}, {"c", 1}}, 1, &chosen), CUDAMOE_OK);
  EXPECT_EQ(chosen, 0u);
}

TEST(Trials, TornAndForeignLinesAreNotRead) {
  const std::string log = fresh_log();
  fs::create_directories(fs::path(log).parent_path());
  std::ofstream(log) << "nonsense\n0000000000000001 0000000000000002 a maybe 3.0 words\n0000000000000001 0000000000000002 a wrong 3.0 torn";
  const cuda::TrialLog read(log);
  EXPECT_EQ(read.find(1, 2, "a"), nullptr);
}

// What an earlier candidate left in memory is no proof of a later one.
TEST(Trials, EachCandidateStartsFromNothing) {
  const Product product;
  Trials trials(true, "");
  OwnTrial trial(product, {slow, missing_row});
  size_t chosen;
  ASSERT_EQ(choose(trials, product, trial, {{"slow", 0}, {"missing_row", 0}}, 0, &chosen), CUDAMOE_OK);
  EXPECT_EQ(chosen, 0u);
  EXPECT_TRUE(has(trials.notes(), "missing_row is struck out")) << trials.notes();
}

TEST(Trials, ALogThatCannotBeWrittenIsSaid) {
  const std::string log = fresh_log();
  fs::create_directories(fs::path(log).parent_path().parent_path());
  std::ofstream(fs::path(log).parent_path()) << "a file where the folder should be";
  const Product product;
  Trials trials(true, log);
  OwnTrial trial(product, {right, right});
  size_t chosen;
  ASSERT_EQ(choose(trials, product, trial, {{"a", 0}, {"b", 1}}, 1, &chosen), CUDAMOE_OK);
  EXPECT_EQ(chosen, 0u);
  EXPECT_TRUE(has(trials.notes(), "cannot be kept: " + log)) << trials.notes();
}

}  // namespace
}  // namespace cudamoe::test
