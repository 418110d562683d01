// Attention and its gradients against the double-precision reference, at edge shapes, and what unseen keys may hold.
#include "reference/attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/buffer.h"
#include "support/compare.h"
#include "support/random.h"
#include "support/rows.h"

namespace cudamoe::test {
namespace {

using reference::AttentionShape;

struct Case {
  AttentionShape shape;
  int64_t gap = 0, misaligned = 0;
  bool side_by_side = false;  // q, k and v, and their gradients, as columns of one matrix
  std::vector<float> q, k, v, weights, dy;
  std::vector<int32_t> counts;
};

struct Result {
  std::vector<float> y, log_sum, dq, dk, dv;
  cudamoe_status forward = CUDAMOE_OK, backward = CUDAMOE_OK;  // of the stream
};

// A matrix in device memory, rows `stride` apart, at a column.
class Matrix {
 public:
  Matrix(const Buffer<float>& memory, int64_t column, int64_t rows, int64_t width, int64_t stride)
      : memory_(memory), column_(column), rows_(rows), width_(width), stride_(stride) {}

  float* data() const { return memory_.data() + column_; }
  int64_t stride() const { return stride_; }
  void put(std::vector<float>& all, const std::vector<float>& values) const {
    for (int64_t i = 0; i < rows_ * width_; ++i) all[column_ + i / width_ * stride_ + i % width_] = values[i];
  }
  std::vector<float> get() const {
    const std::vector<float> all = memory_.get();
    std::vector<float> values(rows_ * width_);
    for (int64_t i = 0; i < rows_ * width_; ++i) values[i] = all[column_ + i / width_ * stride_ + i % width_];
    return values;
  }

 private:
  const Buffer<float>& memory_;
  int64_t column_, rows_, width_, stride_;
};

int64_t extent(int64_t rows, int64_t width, int64_t stride) { return rows > 0 ? (rows - 1) * stride + width : 0; }

// Three matrices, each in memory of its own or all in one.
struct Triple {
  Triple(TestDevice& device, const Case& c)
      : rows(c.shape.sequences * c.shape.queries),
        key_rows((c.shape.shared ? 1 : c.shape.sequences) * c.shape.keys),
        q_width(c.shape.heads * c.shape.width),
        k_width(c.shape.key_heads * c.shape.width),
        stride(q_width + 2 * k_width + c.gap),
        first(device, c.side_by_side ? extent(std::max(rows, key_rows), stride, stride) : extent(rows, q_width, q_width + c.gap),
              c.misaligned),
        second(device, c.side_by_side ? 0 : extent(key_rows, k_width, k_width + c.gap)),
        third(device, c.side_by_side ? 0 : extent(key_rows, k_width, k_width + c.gap), c.misaligned),
        q(first, 0, rows, q_width, c.side_by_side ? stride : q_width + c.gap),
        k(c.side_by_side ? first : second, c.side_by_side ? q_width : 0, key_rows, k_width, c.side_by_side ? stride : k_width + c.gap),
        v(c.side_by_side ? first : third, c.side_by_side ? q_width + k_width : 0, key_rows, k_width,
          c.side_by_side ? stride : k_width + c.gap),
        one(c.side_by_side) {}

  void set(const Case& c) {
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> all(first.size(), kNan), second_all(second.size(), kNan), third_all(third.size(), kNan);
    q.put(all, c.q);
    k.put(one ? all : second_all, c.k);
    v.put(one ? all : third_all, c.v);
    first.set(all);
    second.set(second_all);
    third.set(third_all);
  }
  bool guards_intact() const { return first.guards_intact() && second.guards_intact() && third.guards_intact(); }

  int64_t rows, key_rows, q_width, k_width, stride;
  Buffer<float> first, second, third;
  Matrix q, k, v;
  bool one;
};

template <class Args>
void fill(Args& a, const Case& c, const Triple& in, const Buffer<int32_t>& counts, const Buffer<float>& weights) {
  a.struct_size = sizeof a;
  a.causal = c.shape.causal;
  a.shared_keys = c.shape.shared;
  a.heads = static_cast<int32_t>(c.shape.heads);
  a.key_heads = static_cast<int32_t>(c.shape.key_heads);
  a.head_width = static_cast<int32_t>(c.shape.width);
  a.scale = static_cast<float>(c.shape.scale);
  a.sequences = c.shape.sequences;
  a.queries = c.shape.queries;
  a.keys = c.shape.keys;
  a.q = in.q.data();
  a.q_row_stride = in.q.stride();
  a.k = in.k.data();
  a.k_row_stride = in.k.stride();
  a.v = in.v.data();
  a.v_row_stride = in.v.stride();
  a.key_counts = c.counts.empty() ? nullptr : counts.data();
  a.key_weights = c.weights.empty() ? nullptr : weights.data();
  a.key_weights_row_stride = c.shape.keys + 1;
}

Result run(TestDevice& device, const Case& c, bool backward = true) {
  Triple in(device, c), out(device, c);
  in.set(c);
  const int64_t y_stride = in.q_width + c.gap;
  std::vector<float> spread_weights;
  for (size_t i = 0; i < c.weights.size(); ++i) {
    spread_weights.push_back(c.weights[i]);
    if (static_cast<int64_t>(i + 1) % c.shape.keys == 0) spread_weights.push_back(std::numeric_limits<float>::quiet_NaN());
  }
  const Buffer<int32_t> counts(device, c.counts);
  const Buffer<float> weights(device, spread_weights), log_sum(device, in.rows * c.shape.heads);
  const Buffer<float> y_memory(device, extent(in.rows, in.q_width, y_stride), c.misaligned);
  Buffer<float> dy_memory(device, y_memory.size());
  const Matrix y(y_memory, 0, in.rows, in.q_width, y_stride), dy(dy_memory, 0, in.rows, in.q_width, y_stride);
  cudamoe_attention_forward_args f{};
  fill(f, c, in, counts, weights);
  int64_t bytes = -1;
  CUDAMOE_EXPECT_OK(cudamoe_attention_forward_workspace(device.stream(), &f, &bytes));
  const Workspace workspace(device, bytes);
  f.y = y.data();
  f.y_row_stride = y_stride;
  f.log_sum = log_sum.data();
  f.workspace = workspace.data();
  f.workspace_bytes = bytes;
  Result result;
  CUDAMOE_EXPECT_OK(cudamoe_attention_forward(device.stream(), &f));
  result.forward = cudamoe_stream_synchronize(device.stream());
  result.y = y.get();
  result.log_sum = log_sum.get();
  if (backward) {
    std::vector<float> all(dy_memory.size(), std::numeric_limits<float>::quiet_NaN());
    dy.put(all, c.dy);
    dy_memory.set(all);
    cudamoe_attention_backward_args b{};
    fill(b, c, in, counts, weights);
    CUDAMOE_EXPECT_OK(cudamoe_attention_backward_workspace(device.stream(), &b, &bytes));
    const Workspace second(device, bytes);
    b.y = y.data();
    b.y_row_stride = y_stride;
    b.log_sum = log_sum.data();
    b.dy = dy.data();
    b.dy_row_stride = y_stride;
    b.dq = out.q.data();
    b.dq_row_stride = out.q.stride();
    b.dk = out.k.data();
    b.dk_row_stride = out.k.stride();
    b.dv = out.v.data();
    b.dv_row_stride = out.v.stride();
    b.workspace = second.data();
    b.workspace_bytes = bytes;
    CUDAMOE_EXPECT_OK(cudamoe_attention_backward(device.stream(), &b));
    result.backward = cudamoe_stream_synchronize(device.stream());
    result.dq = out.q.get();
    result.dk = out.k.get();
    result.dv = out.v.get();
    EXPECT_TRUE(second.guards_intact() && out.guards_intact());
  }
  EXPECT_TRUE(workspace.guards_intact() && y_memory.guards_intact() && log_sum.guards_intact() && in.guards_intact());
  return result;
}

reference::AttentionData data_of(const Case& c) { return {wide(c.q), wide(c.k), wide(c.v), wide(c.weights), c.counts}; }

Case make(Random& random, const AttentionShape& shape) {
  Case c;
  c.shape = shape;
  c.shape.scale = static_cast<double>(static_cast<float>(1 / std::sqrt(static_cast<double>(shape.width))));
  c.q = random.reals(shape.q_elements(), -2, 2);
  c.k = random.reals(shape.k_elements(), -2, 2);
  c.v = random.reals(shape.k_elements());
  c.dy = random.reals(shape.q_elements());
  c.gap = random.integer(0, 5);
  c.misaligned = random.integer(0, 3);
  c.side_by_side = random.coin();
  if (random.coin()) {
    for (int64_t s = 0; s < shape.sequences; ++s) c.counts.push_back(static_cast<int32_t>(random.integer(0, shape.keys)));
  }
  if (random.coin()) c.weights = random.reals(shape.sequences * shape.keys, 0, 2);
  return c;
}

std::string name(const Case& c) {
  const AttentionShape& s = c.shape;
  return std::to_string(s.sequences) + " x (" + std::to_string(s.queries) + " queries, " + std::to_string(s.keys) + " keys), heads " +
         std::to_string(s.heads) + "/" + std::to_string(s.key_heads) + " of " + std::to_string(s.width) + (s.causal ? " causal" : "") +
         (s.shared ? " shared" : "") + (c.counts.empty() ? "" : " counts") + (c.weights.empty() ? "" : " weights") +
         (c.side_by_side ? " side by side" : "");
}

std::vector<AttentionShape> shapes(bool slow) {
  std::vector<AttentionShape> list;
  struct Size {
    int64_t sequences, queries, keys, heads, key_heads, width;
  };
  std::vector<Size> sizes = {{1, 1, 1, 1, 1, 1},  {3, 1, 5, 1, 1, 2},   {2, 3, 4, 2, 2, 8},    {5, 10, 10, 2, 2, 64},
                             {4, 5, 5, 1, 1, 33}, {0, 3, 4, 1, 1, 4},   {2, 0, 4, 1, 1, 4},    {2, 3, 0, 2, 1, 4},
                             {3, 7, 17, 6, 2, 5}, {2, 4, 65, 4, 1, 16}, {1, 2, 33, 1, 1, 100}, {2, 1, 3, 2, 1, 129},
                             {3, 1, 7, 5, 5, 1},  {2, 4, 6, 19, 19, 1}, {0, 1, 3, 2, 2, 1},    {2, 2, 0, 3, 3, 1}};
  if (!slow) {
    for (const Size& more : {Size{2, 70, 130, 3, 1, 20}, Size{300, 10, 10, 4, 1, 16}, Size{1, 33, 64, 8, 8, 256},
                             Size{700, 1, 21, 1, 1, 20}, Size{300, 1, 20, 32, 32, 1}})
      sizes.push_back(more);
  }
  for (const Size& s : sizes) {
    for (const bool causal : {false, true}) {
      for (const bool shared : {false, true})
        list.push_back({s.sequences, s.queries, s.keys, s.heads, s.key_heads, s.width, causal, shared, 1.0});
    }
  }
  return list;
}

TEST(Attention, AgreesWithTheReference) {
  TestDevice device;
  Random random(91);
  for (const AttentionShape& shape : shapes(test_device_is_slow())) {
    const Case c = make(random, shape);
    SCOPED_TRACE(name(c));
    const Result have = run(device, c);
    EXPECT_EQ(have.forward, CUDAMOE_OK);
    EXPECT_EQ(have.backward, CUDAMOE_OK);
    const reference::AttentionResult want = reference::attention(c.shape, data_of(c));
    const reference::AttentionGradient gradient = reference::attention_gradient(c.shape, data_of(c), wide(c.dy));
    // A score carries the rounding of its product into the exponent.
    const double bound = 4 * f32_bound(shape.width + shape.keys);
    EXPECT_LE(relative_error(have.y, want.y), bound);
    EXPECT_LE(relative_error(have.dq, gradient.dq), bound);
    EXPECT_LE(relative_error(have.dk, gradient.dk), bound + f32_bound(shape.queries * shape.heads));
    EXPECT_LE(relative_error(have.dv, gradient.dv), bound + f32_bound(shape.queries * shape.heads));
    ASSERT_EQ(have.log_sum.size(), want.log_sum.size());
    for (size_t i = 0; i < want.log_sum.size(); ++i) {
      if (std::isinf(want.log_sum[i])) {
        EXPECT_EQ(have.log_sum[i], -std::numeric_limits<float>::infinity());
      } else {
        EXPECT_NEAR(static_cast<double>(have.log_sum[i]), want.log_sum[i], 1e-5);
      }
    }
  }
}

TEST(Attention, DerivativeOfTheReferenceIsRight) {
  Random random(92);
  for (const bool shared : {false, true}) {
    Case c = make(random, {2, 3, 4, 4, 2, 3, true, shared, 1.0});
    c.counts = {4, 3};
    c.weights = random.reals(8, 0, 2);
    reference::AttentionData data = data_of(c);
    const std::vector<double> dy = wide(c.dy);
    const auto value = [&] {
      const std::vector<double> y = reference::attention(c.shape, data).y;
      return reference::dot(y.data(), dy.data(), static_cast<int64_t>(y.size()));
    };
    const reference::AttentionGradient gradient = reference::attention_gradient(c.shape, data, dy);
    const auto check = [&](std::vector<double>& x, const std::vector<double>& dx) {
      for (size_t i = 0; i < x.size(); ++i) {
        const double at = x[i], step = 1e-5;
        x[i] = at + step;
        const double above = value();
        x[i] = at - step;
        const double below = value();
        x[i] = at;
        EXPECT_NEAR((above - below) / (2 * step), dx[i], 1e-8);
      }
    };
    check(data.q, gradient.dq);
    check(data.k, gradient.dk);
    check(data.v, gradient.dv);
  }
}

TEST(Attention, UnseenKeysHaveNoEffectWhateverTheyHold) {
  TestDevice device;
  Random random(93);
  for (const auto& [queries, by_columns] : {std::pair<int64_t, bool>{1, false}, {6, false}, {1, true}, {6, true}}) {
    for (const bool causal : {false, true}) {
      const AttentionShape shape = by_columns ? AttentionShape{2, queries, 9, 6, 6, 1, causal, false, 1.0}
                                              : AttentionShape{2, queries, 9, 2, 1, 6, causal, false, 1.0};
      Case c = make(random, shape);
      c.counts = {7, 0};
      const Result want = run(device, c);
      for (int64_t s = 0; s < 2; ++s) {
        for (int64_t j = c.counts[s]; j < 9; ++j) {
          for (int64_t i = 0; i < 6; ++i) {
            c.k[(s * 9 + j) * 6 + i] = std::numeric_limits<float>::quiet_NaN();
            c.v[(s * 9 + j) * 6 + i] = std::numeric_limits<float>::infinity();
          }
        }
      }
      const Result have = run(device, c);
      EXPECT_EQ(have.y, want.y);
      EXPECT_EQ(have.dq, want.dq);
      EXPECT_EQ(have.dk, want.dk);
      EXPECT_EQ(have.dv, want.dv);
      for (size_t i = want.y.size() / 2; i < want.y.size(); ++i) EXPECT_EQ(have.y[i], 0.0f);  // of the sequence without keys
    }
  }
}

TEST(Attention, ALaterKeyThatIsNanHarmsNoEarlierCausalQuery) {
  TestDevice device;
  Random random(94);
  Case c = make(random, {1, 5, 5, 1, 1, 4, true, false, 1.0});
  c.counts.clear();
  for (int64_t i = 0; i < 4; ++i) c.k[3 * 4 + i] = c.v[3 * 4 + i] = std::numeric_limits<float>::quiet_NaN();
  const Result have = run(device, c);
  for (int64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(std::isnan(have.y[i]), i >= 12) << i;
    EXPECT_EQ(std::isnan(have.dq[i]), i >= 12) << i;
  }
}

TEST(Attention, EqualKeysShareEqually) {
  TestDevice device;
  Case c;
  c.shape = {1, 1, 4, 1, 1, 2, false, false, 1.0};
  c.q = {3, -1};
  c.k = {1, 2, 1, 2, 1, 2, 1, 2};
  c.v = {1, 0, 2, 0, 3, 0, 4, 8};
  c.dy = {4, 8};
  const Result have = run(device, c);
  EXPECT_EQ(have.y, (std::vector<float>{2.5f, 2}));
  EXPECT_EQ(have.dv, (std::vector<float>{1, 2, 1, 2, 1, 2, 1, 2}));
  EXPECT_NEAR(static_cast<double>(have.log_sum[0]), 1 + std::log(4.0), 1e-6);
}

TEST(Attention, LargeScoresDoNotOverflow) {
  TestDevice device;
  Random random(95);
  Case c = make(random, {1, 3, 70, 1, 1, 4, false, false, 1.0});
  c.counts.clear();
  for (float& x : c.q) x *= 1e4f;
  const Result have = run(device, c);
  const reference::AttentionResult want = reference::attention(c.shape, data_of(c));
  EXPECT_LE(relative_error(have.y, want.y), 1e-2);  // the scores themselves are rounded by 1e-3
  for (const float x : have.dq) EXPECT_TRUE(std::isfinite(x));
}

TEST(Attention, KeyCountsOutOfRangeAreReportedAndBounded) {
  TestDevice device;
  Random random(96);
  Case c = make(random, {3, 2, 4, 1, 1, 4, false, false, 1.0});
  c.counts = {4, 4, 0};
  const Result want = run(device, c);
  c.counts = {4, 5, -1};
  const Result have = run(device, c);
  EXPECT_EQ(have.forward, CUDAMOE_ERROR_REPORTED);
  EXPECT_EQ(have.backward, CUDAMOE_ERROR_REPORTED);
  EXPECT_NE(last_error().find("key_counts[1] is 5"), std::string::npos) << last_error();
  EXPECT_EQ(have.y, want.y);
  EXPECT_EQ(have.dk, want.dk);
}

TEST(Attention, SameBitsForAnyOrder) {
  Random random(97);
  TestDevice one;
  const bool slow = test_device_is_slow();
  const Case separate = make(random, {slow ? 4 : 200, 5, 20, 2, 1, 16, true, false, 1.0});
  const Case shared = make(random, {slow ? 70 : 500, 1, 20, 1, 1, 16, false, true, 1.0});
  const Case columns = make(random, {slow ? 4 : 300, 2, 20, 18, 18, 1, true, false, 1.0});
  const Result first = run(one, separate), second = run(one, shared), third = run(one, columns);
  for (const std::string& spec : repeated_device_specs()) {
    TestDevice device(spec);
    for (int repeat = 0; repeat < repetitions_of_a_spec(); ++repeat) {
      const Result again = run(device, separate), again_shared = run(device, shared);
      const Result again_columns = run(device, columns);
      ASSERT_TRUE(again.y == first.y && again.dq == first.dq && again.dk == first.dk && again.dv == first.dv);
      ASSERT_TRUE(again_columns.y == third.y && again_columns.dq == third.dq && again_columns.dk == third.dk &&
                  again_columns.dv == third.dv);
      ASSERT_TRUE(again_shared.y == second.y && again_shared.dq == second.dq && again_shared.dk == second.dk &&
                  again_shared.dv == second.dv);
    }
  }
}

TEST(Attention, RefusesBadArguments) {
  TestDevice device;
  const Buffer<float> data(device, std::vector<float>(4096, 0.0f));
  float* p = data.data();
  const auto refused = [&](auto&& change, const char* words) {
    cudamoe_attention_backward_args a{};
    a.struct_size = sizeof a;
    a.heads = 4;
    a.key_heads = 2;
    a.head_width = 4;
    a.scale = 0.5f;
    a.sequences = 2;
    a.queries = 3;
    a.keys = 5;
    a.q = p;
    a.k = p + 128;
    a.v = p + 256;
    a.y = p + 384;
    a.dy = p + 512;
    a.log_sum = p + 640;
    a.dq = p + 768;
    a.dk = p + 896;
    a.dv = p + 1024;
    a.q_row_stride = a.y_row_stride = a.dy_row_stride = a.dq_row_stride = 16;
    a.k_row_stride = a.v_row_stride = a.dk_row_stride = a.dv_row_stride = 8;
    a.key_weights_row_stride = 5;
    a.workspace = p + 2048;
    a.workspace_bytes = 1 << 30;
    change(a);
    CUDAMOE_EXPECT_REFUSED(cudamoe_attention_backward(device.stream(), &a), words);
  };
  refused([](auto& a) { a.struct_size = 1; }, "struct_size");
  refused([](auto& a) { a.causal = 2; }, "causal is 2");
  refused([](auto& a) { a.shared_keys = -1; }, "shared_keys is -1");
  refused([](auto& a) { a.heads = 3; }, "heads is 3 and key_heads is 2");
  refused([](auto& a) { a.head_width = 257; }, "head_width is 257");
  refused([](auto& a) { a.sequences = -1; }, "sequences is -1");
  refused([](auto& a) { a.queries = a.sequences = int64_t{1} << 47; }, "address space");
  refused([](auto& a) { a.scale = std::numeric_limits<float>::infinity(); }, "scale");
  refused([](auto& a) { a.q = nullptr; }, "q is null");
  refused([](auto& a) { a.k_row_stride = 7; }, "k_row_stride is 7");
  refused([](auto& a) { a.log_sum = nullptr; }, "log_sum is null");
  refused([p](auto& a) { a.key_weights = p, a.key_weights_row_stride = 4; }, "key_weights_row_stride is 4");
  refused([p](auto& a) { a.dq = p + 8; }, "overlaps q");
  refused([p](auto& a) { a.dv = p + 900; }, "overlaps");
  refused([](auto& a) { a.shared_keys = 1, a.workspace_bytes = 10; }, "workspace_bytes is 10");
}

}  // namespace
}  // namespace cudamoe::test
