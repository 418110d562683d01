// Every rule on the arguments of the gemm functions: a bad one is refused with a message that names it, and nothing is written.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <string_view>

#include "gemm/problem.h"

namespace cudamoe::test {
namespace {

constexpr int64_t kRows = 6, kN = 5, kK = 4, kGroups = 2;

// Valid arguments of every operation over the same buffers; each test breaks one of them.
class GemmArguments : public ::testing::Test {
 protected:
  TestDevice device_;
  Random random_{61};
  Buffer<float> x_{device_, random_.reals(kGroups*kRows*kK)}, weights_{device_, random_.reals(kGroups*kN*kK)};
  Buffer<float> y_{device_, kGroups*kRows*kN}, before_{device_, kGroups*kRows*kN}, bias_{device_, random_.reals(kGroups*kN)};
  Buffer<float> dx_{device_, kGroups*kRows*kK}, dw_{device_, kGroups*kN*kK}, dbias_{device_, kGroups*kN};
  Buffer<int64_t> offsets_{device_, std::vector<int64_t>{0, 3, 6}};
  Buffer<int32_t> gather_{device_, std::vector<int32_t>{0, 1, 2, 3, 4, 5}};
  Buffer<unsigned char> packed_{device_, 1 << 14}, packed_transposed_{device_, 1 << 14}, workspace_{device_, 1 << 22};

  template <class Args>
  Args shape() const {
    Args args{};
    args.struct_size = sizeof args;
    args.groups = kGroups;
    args.n = kN;
    args.k = kK;
    return args;
  }

  cudamoe_gemm_pack_args pack() const {
    auto args = shape<cudamoe_gemm_pack_args>();
    args.weights = weights_.data();
    args.weights_row_stride = kK;
    args.weights_group_stride = kN * kK;
    args.packed = packed_.data();
    args.packed_bytes = packed_.size();
    return args;
  }
  cudamoe_gemm_forward_args forward() const {
    auto args = shape<cudamoe_gemm_forward_args>();
    args.rows = kRows;
    args.x = x_.data();
    args.x_row_stride = kK;
    args.x_group_stride = kRows * kK;
    args.packed = packed_.data();
    args.bias = bias_.data();
    args.bias_group_stride = kN;
    args.y = y_.data();
    args.y_row_stride = kN;
    args.y_group_stride = kRows * kN;
    args.workspace = workspace_.data();
    args.workspace_bytes = workspace_.size();
    return args;
  }
  cudamoe_gemm_dgrad_args dgrad() const {
    auto args = shape<cudamoe_gemm_dgrad_args>();
    args.rows = kRows;
    args.dz = y_.data();
    args.dz_row_stride = kN;
    args.dz_group_stride = kRows * kN;
    args.packed = packed_transposed_.data();
    args.dx = dx_.data();
    args.dx_row_stride = kK;
    args.dx_group_stride = kRows * kK;
    args.below = x_.data();
    args.below_row_stride = kK;
    args.below_group_stride = kRows * kK;
    args.activation = CUDAMOE_ACTIVATION_RELU;
    args.workspace = workspace_.data();
    args.workspace_bytes = workspace_.size();
    return args;
  }
  cudamoe_gemm_wgrad_args wgrad() const {
    auto args = shape<cudamoe_gemm_wgrad_args>();
    args.rows = kRows;
    args.dz = y_.data();
    args.dz_row_stride = kN;
    args.dz_group_stride = kRows * kN;
    args.x = x_.data();
    args.x_row_stride = kK;
    args.x_group_stride = kRows * kK;
    args.dw = dw_.data();
    args.dw_row_stride = kK;
    args.dw_group_stride = kN * kK;
    args.dbias = dbias_.data();
    args.dbias_group_stride = kN;
    args.workspace = workspace_.data();
    args.workspace_bytes = workspace_.size();
    return args;
  }

  cudamoe_stream* stream() const { return device_.stream(); }

  int64_t needed_ = 0;  // bytes of work space of the operation under test

  template <class Args>
  struct Rule {
    const char* words;  // that the message must contain
    std::function<void(Args&)> spoil;
  };
  template <class Args>
  void expect_refused(cudamoe_status (*call)(cudamoe_stream*, const Args*), const Args& valid, const std::vector<Rule<Args>>& rules) {
    CUDAMOE_ASSERT_OK(call(stream(), &valid));
    const std::vector<float> y = y_.get(), dx = dx_.get(), dw = dw_.get();
    for (const Rule<Args>& rule : rules) {
      // Without need of work space its pointer counts for nothing.
      if (needed_ == 0 && std::string_view(rule.words).substr(0, 10) == "workspace ") continue;
      Args args = valid;
      rule.spoil(args);
      SCOPED_TRACE(rule.words);
      CUDAMOE_EXPECT_REFUSED(call(stream(), &args), rule.words);
    }
    CUDAMOE_EXPECT_REFUSED(call(stream(), nullptr), "args is null");
    CUDAMOE_EXPECT_REFUSED(call(nullptr, &valid), "stream is null");
    // Bitwise: the buffers may hold NaN.
    EXPECT_EQ(0, std::memcmp(y.data(), y_.get().data(), y.size() * sizeof(float)));
    EXPECT_EQ(0, std::memcmp(dx.data(), dx_.get().data(), dx.size() * sizeof(float)));
    EXPECT_EQ(0, std::memcmp(dw.data(), dw_.get().data(), dw.size() * sizeof(float)));
  }

  template <class Args>
  static std::vector<Rule<Args>> shape_rules() {
    return {{"struct_size is 8", [](Args& a) { a.struct_size = 8; }},
            {"struct_size is", [](Args& a) { a.struct_size = sizeof(Args) - 1; }},
            {"groups is 0", [](Args& a) { a.groups = 0; }},
            {"groups is -1", [](Args& a) { a.groups = -1; }},
            {"groups is 65536", [](Args& a) { a.groups = 65536; }},
            {"n is 0", [](Args& a) { a.n = 0; }},
            {"n is -3", [](Args& a) { a.n = -3; }},
            {"k is 0", [](Args& a) { a.k = 0; }},
            {"k is 9223372036854775807", [](Args& a) { a.k = std::numeric_limits<int64_t>::max(); }},
            {"exceed the address space", [](Args& a) { a.n = a.k = int64_t{1} << 40; }}};
  }
};

template <class Rules>
Rules join(Rules a, const Rules& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST_F(GemmArguments, Pack) {
  using A = cudamoe_gemm_pack_args;
  expect_refused<A>(
      cudamoe_gemm_pack, pack(),
      join(shape_rules<A>(),
           {{"transposed is 2", [](A& a) { a.transposed = 2; }},
            {"dtype is 2", [](A& a) { a.dtype = 2; }},
            {"dtype is -1", [](A& a) { a.dtype = -1; }},
            {"weights is null", [](A& a) { a.weights = nullptr; }},
            {"weights is 0x", [](A& a) { a.weights = reinterpret_cast<const float*>(reinterpret_cast<uintptr_t>(a.weights) + 2); }},
            {"weights_row_stride is 3", [](A& a) { a.weights_row_stride = 3; }},
            {"weights_row_stride is -4", [](A& a) { a.weights_row_stride = -4; }},
            {"weights_group_stride is 19", [](A& a) { a.weights_group_stride = 19; }},
            {"packed is null", [](A& a) { a.packed = nullptr; }},
            {"packed is 0x", [](A& a) { a.packed = static_cast<char*>(a.packed) + 4; }},
            {"packed_bytes is 16", [](A& a) { a.packed_bytes = 16; }},
            {"packed_bytes is -1", [](A& a) { a.packed_bytes = -1; }},
            {"overlaps weights", [](A& a) { a.weights = static_cast<const float*>(a.packed) + 1; }}}));
  A args = pack();
  int64_t bytes = 0;
  CUDAMOE_EXPECT_OK(cudamoe_gemm_packed_bytes(stream(), &args, &bytes));
  EXPECT_GE(bytes, kGroups * kN * kK * 4);
  CUDAMOE_EXPECT_REFUSED(cudamoe_gemm_packed_bytes(stream(), &args, nullptr), "bytes is null");
  args.n = 0;
  CUDAMOE_EXPECT_REFUSED(cudamoe_gemm_packed_bytes(stream(), &args, &bytes), "n is 0");
}

TEST_F(GemmArguments, Forward) {
  using A = cudamoe_gemm_forward_args;
  auto pack_args = pack();
  CUDAMOE_ASSERT_OK(cudamoe_gemm_pack(stream(), &pack_args));
  const A valid = forward();
  CUDAMOE_ASSERT_OK(cudamoe_gemm_forward_workspace(stream(), &valid, &needed_));
  expect_refused<A>(
      cudamoe_gemm_forward, valid,
      join(shape_rules<A>(),
           {{"rows is -1", [](A& a) { a.rows = -1; }},
            {"x_dtype is 2", [](A& a) { a.x_dtype = 2; }},
            {"packed_dtype is 7", [](A& a) { a.packed_dtype = 7; }},
            {"y_dtype is -1", [](A& a) { a.y_dtype = -1; }},
            {"activation is 7", [](A& a) { a.activation = 7; }},
            {"activation is -1", [](A& a) { a.activation = -1; }},
            {"activation_slope is",
             [](A& a) {
               a.activation = CUDAMOE_ACTIVATION_LEAKY_RELU;
               a.activation_slope = -0.5f;
             }},
            {"activation_slope is",
             [](A& a) {
               a.activation = CUDAMOE_ACTIVATION_LEAKY_RELU;
               a.activation_slope = NAN;
             }},
            {"accumulate is 2", [](A& a) { a.accumulate = 2; }},
            {"accumulate is 1 and activation is 1",
             [](A& a) {
               a.accumulate = 1;
               a.activation = 1;
             }},
            {"preactivation is set",
             [this](A& a) {
               a.accumulate = 1;
               a.preactivation = before_.data();
             }},
            {"x is null", [](A& a) { a.x = nullptr; }},
            {"x is 0x", [](A& a) { a.x = static_cast<const char*>(a.x) + 1; }},
            {"x_row_stride is 3", [](A& a) { a.x_row_stride = 3; }},
            {"x_group_stride is -1", [](A& a) { a.x_group_stride = -1; }},
            {"packed is null", [](A& a) { a.packed = nullptr; }},
            {"packed is 0x", [](A& a) { a.packed = static_cast<const char*>(a.packed) + 32; }},
            {"bias is 0x", [](A& a) { a.bias = reinterpret_cast<const float*>(reinterpret_cast<uintptr_t>(a.bias) + 1); }},
            {"bias_group_stride is 4", [](A& a) { a.bias_group_stride = 4; }},
            {"y is null", [](A& a) { a.y = nullptr; }},
            {"y is 0x", [](A& a) { a.y = static_cast<char*>(a.y) + 2; }},
            {"y_row_stride is 4", [](A& a) { a.y_row_stride = 4; }},
            {"y_group_stride is 29", [](A& a) { a.y_group_stride = 29; }},
            {"y_group_stride is 5", [](A& a) { a.y_group_stride = 5; }},
            {"y_group_stride is 0", [](A& a) { a.y_group_stride = 0; }},
            {"y_row_stride is 281474976710656",
             [](A& a) {
               a.y_row_stride = int64_t{1} << 48;
               a.rows = int64_t{1} << 20;
             }},
            {"gather is set and offsets is null", [this](A& a) { a.gather = gather_.data(); }},
            {"x_rows is 0",
             [this](A& a) {
               a.offsets = offsets_.data();
               a.gather = gather_.data();
             }},
            {"offsets is 0x",
             [this](A& a) { a.offsets = reinterpret_cast<const int64_t*>(reinterpret_cast<uintptr_t>(offsets_.data()) + 4); }},
            {"preactivation is 0x", [this](A& a) { a.preactivation = reinterpret_cast<char*>(before_.data()) + 1; }},
            {"y (", [](A& a) { a.y = const_cast<void*>(a.x); }},
            {"preactivation (", [](A& a) { a.preactivation = static_cast<float*>(a.y) + 1; }},
            {"overlaps bias", [](A& a) { a.y = const_cast<float*>(a.bias); }},
            {"workspace is null", [](A& a) { a.workspace = nullptr; }},
            {"workspace is 0x", [](A& a) { a.workspace = static_cast<char*>(a.workspace) + 16; }},
            {"workspace_bytes is", [this](A& a) { a.workspace_bytes = needed_ - 1; }},
            {"workspace (", [](A& a) { a.y = a.workspace; }}}));
  A empty = valid;
  empty.rows = 0;
  empty.x = nullptr;
  empty.y = nullptr;
  CUDAMOE_EXPECT_OK(cudamoe_gemm_forward(stream(), &empty));
}

TEST_F(GemmArguments, Dgrad) {
  using A = cudamoe_gemm_dgrad_args;
  auto pack_args = pack();
  pack_args.transposed = 1;
  pack_args.packed = packed_transposed_.data();
  CUDAMOE_ASSERT_OK(cudamoe_gemm_pack(stream(), &pack_args));
  const A valid = dgrad();
  CUDAMOE_ASSERT_OK(cudamoe_gemm_dgrad_workspace(stream(), &valid, &needed_));
  expect_refused<A>(cudamoe_gemm_dgrad, valid,
                    join(shape_rules<A>(), {{"rows is -1", [](A& a) { a.rows = -1; }},
                                            {"dz_dtype is 2", [](A& a) { a.dz_dtype = 2; }},
                                            {"packed_dtype is 2", [](A& a) { a.packed_dtype = 2; }},
                                            {"dx_dtype is 2", [](A& a) { a.dx_dtype = 2; }},
                                            {"activation is 9", [](A& a) { a.activation = 9; }},
                                            {"accumulate is -1", [](A& a) { a.accumulate = -1; }},
                                            {"dz is null", [](A& a) { a.dz = nullptr; }},
                                            {"dz_row_stride is 4", [](A& a) { a.dz_row_stride = 4; }},
                                            {"dz_group_stride is -5", [](A& a) { a.dz_group_stride = -5; }},
                                            {"packed is null", [](A& a) { a.packed = nullptr; }},
                                            {"dx is null", [](A& a) { a.dx = nullptr; }},
                                            {"dx is 0x", [](A& a) { a.dx = static_cast<char*>(a.dx) + 1; }},
                                            {"dx_row_stride is 3", [](A& a) { a.dx_row_stride = 3; }},
                                            {"dx_group_stride is 0", [](A& a) { a.dx_group_stride = 0; }},
                                            {"below is 0x", [](A& a) { a.below = static_cast<const char*>(a.below) + 1; }},
                                            {"below_row_stride is 2", [](A& a) { a.below_row_stride = 2; }},
                                            {"overlaps below", [](A& a) { a.below = a.dx; }},
                                            {"overlaps dz", [](A& a) { a.dx = const_cast<void*>(a.dz); }},
                                            {"workspace is null", [](A& a) { a.workspace = nullptr; }},
                                            {"workspace_bytes is", [this](A& a) { a.workspace_bytes = needed_ - 1; }}}));
}

TEST_F(GemmArguments, Wgrad) {
  using A = cudamoe_gemm_wgrad_args;
  const A valid = wgrad();
  CUDAMOE_ASSERT_OK(cudamoe_gemm_wgrad_workspace(stream(), &valid, &needed_));
  expect_refused<A>(
      cudamoe_gemm_wgrad, valid,
      join(shape_rules<A>(), {{"rows is -1", [](A& a) { a.rows = -1; }},
                              {"dz_dtype is 2", [](A& a) { a.dz_dtype = 2; }},
                              {"x_dtype is 2", [](A& a) { a.x_dtype = 2; }},
                              {"compute_dtype is 2", [](A& a) { a.compute_dtype = 2; }},
                              {"accumulate is 3", [](A& a) { a.accumulate = 3; }},
                              {"dz is null", [](A& a) { a.dz = nullptr; }},
                              {"x is null", [](A& a) { a.x = nullptr; }},
                              {"dw is null", [](A& a) { a.dw = nullptr; }},
                              {"dw is 0x", [](A& a) { a.dw = reinterpret_cast<float*>(reinterpret_cast<uintptr_t>(a.dw) + 1); }},
                              {"dw_row_stride is 3", [](A& a) { a.dw_row_stride = 3; }},
                              {"dw_group_stride is 19", [](A& a) { a.dw_group_stride = 19; }},
                              {"dbias is 0x", [](A& a) { a.dbias = reinterpret_cast<float*>(reinterpret_cast<uintptr_t>(a.dbias) + 3); }},
                              {"dbias_group_stride is 1", [](A& a) { a.dbias_group_stride = 1; }},
                              {"x_row_stride is 1", [](A& a) { a.x_row_stride = 1; }},
                              {"dz_row_stride is 1", [](A& a) { a.dz_row_stride = 1; }},
                              {"gather is set and offsets is null", [this](A& a) { a.gather = gather_.data(); }},
                              {"overlaps x", [this](A& a) { a.dw = x_.data(); }},
                              {"overlaps dw", [](A& a) { a.dbias = a.dw; }},
                              {"workspace is null", [](A& a) { a.workspace = nullptr; }},
                              {"workspace_bytes is", [this](A& a) { a.workspace_bytes = needed_ - 1; }}}));
}

TEST_F(GemmArguments, ALargerStructIsAcceptedWhenItsNewPartIsZero) {
  struct Newer {
    cudamoe_gemm_pack_args args;
    int64_t more;
  } newer{pack(), 0};
  newer.args.struct_size = sizeof newer;
  CUDAMOE_EXPECT_OK(cudamoe_gemm_pack(stream(), &newer.args));
  newer.more = 1;
  CUDAMOE_EXPECT_REFUSED(cudamoe_gemm_pack(stream(), &newer.args), "use a newer one");
}

// Kernels count columns and depth in 32 bits. Nothing is read: the pointers are of no memory.
TEST_F(GemmArguments, WeightsThatAGpuCannotCountAreUnsupported) {
  if (std::string_view(device_.info().backend) == "cpu") GTEST_SKIP() << "the cpu backend takes every size";
  constexpr int64_t kBeyond = (int64_t{1} << 31) - 255, kApart = int64_t{1} << 44;
  const auto at = [](int64_t place) { return reinterpret_cast<float*>(static_cast<uintptr_t>(place * kApart)); };
  const auto unsupported = [](cudamoe_status status, const char* function) {
    EXPECT_EQ(status, CUDAMOE_ERROR_UNSUPPORTED) << last_error();
    EXPECT_NE(last_error().find(std::string(function) + ": n is "), std::string::npos) << last_error();
    EXPECT_NE(last_error().find("at most 2147483392"), std::string::npos) << last_error();
  };
  for (const bool wide : {true, false}) {
    const auto sized = [&](auto args) {
      args.groups = 1;
      args.n = wide ? kBeyond : 1;
      args.k = wide ? 1 : kBeyond;
      return args;
    };
    auto pack = sized(this->pack());
    pack.weights = at(1);
    pack.weights_row_stride = pack.k;
    pack.packed = at(2);
    pack.packed_bytes = kApart;
    unsupported(cudamoe_gemm_pack(device_.stream(), &pack), "cudamoe_gemm_pack");
    auto forward = sized(this->forward());
    forward.rows = 1;
    forward.x = at(1);
    forward.x_row_stride = forward.k;
    forward.packed = at(2);
    forward.bias = nullptr;
    forward.y = at(3);
    forward.y_row_stride = forward.n;
    unsupported(cudamoe_gemm_forward(device_.stream(), &forward), "cudamoe_gemm_forward");
    auto dgrad = sized(this->dgrad());
    dgrad.rows = 1;
    dgrad.dz = at(1);
    dgrad.dz_row_stride = dgrad.n;
    dgrad.packed = at(2);
    dgrad.dx = at(3);
    dgrad.dx_row_stride = dgrad.k;
    dgrad.below = nullptr;
    dgrad.activation = CUDAMOE_ACTIVATION_NONE;
    unsupported(cudamoe_gemm_dgrad(device_.stream(), &dgrad), "cudamoe_gemm_dgrad");
    auto wgrad = sized(this->wgrad());
    wgrad.rows = 1;
    wgrad.dz = at(1);
    wgrad.dz_row_stride = wgrad.n;
    wgrad.x = at(2);
    wgrad.x_row_stride = wgrad.k;
    wgrad.dw = at(3);
    wgrad.dw_row_stride = wgrad.k;
    wgrad.dbias = nullptr;
    unsupported(cudamoe_gemm_wgrad(device_.stream(), &wgrad), "cudamoe_gemm_wgrad");
  }
}

}  // namespace
}  // namespace cudamoe::test
