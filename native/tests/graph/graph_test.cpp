// Sums over neighbours, their gradients and the transposed matrix, against plain double arithmetic, and what bad data does.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "support/buffer.h"
#include "support/compare.h"
#include "support/random.h"

namespace cudamoe::test {
namespace {

struct Graph {
  int64_t rows = 0, columns = 0;
  std::vector<int64_t> offsets;
  std::vector<int32_t> neighbours;
  std::vector<float> weights;  // empty: all 1

  int64_t edges() const { return static_cast<int64_t>(neighbours.size()); }
  double weight(int64_t e) const { return weights.empty() ? 1.0 : static_cast<double>(weights[e]); }
  bool good(int64_t e) const { return neighbours[e] >= 0 && neighbours[e] < columns; }
  double factor(int64_t row, bool mean) const {
    int64_t count = 0;
    for (int64_t e = offsets[row]; e < offsets[row + 1]; ++e) count += good(e) ? 1 : 0;
    return mean && count > 0 ? 1 / static_cast<double>(count) : 1.0;
  }
};

Graph make(Random& random, int64_t rows, int64_t columns, int64_t edges, bool weighted) {
  Graph graph{rows, columns, {0}, {}, {}};
  for (int64_t r = 1; r < rows; ++r) graph.offsets.push_back(random.integer(0, edges));
  if (rows > 0) graph.offsets.push_back(edges);
  std::sort(graph.offsets.begin(), graph.offsets.end());
  for (int64_t e = 0; e < edges; ++e) graph.neighbours.push_back(static_cast<int32_t>(random.integer(0, columns - 1)));
  if (weighted) graph.weights = random.reals(edges);
  return graph;
}

std::string name(const Graph& g, int64_t width, bool mean) {
  return std::to_string(g.rows) + " x " + std::to_string(g.columns) + ", " + std::to_string(g.edges()) + " edges, width " +
         std::to_string(width) + (mean ? " mean" : "") + (g.weights.empty() ? "" : " weighted");
}

// A matrix in device memory with a gap behind each row.
struct Matrix {
  Matrix(TestDevice& device, int64_t row_count, int64_t columns, int64_t gap, int64_t misaligned)
      : rows(row_count), width(columns), stride(columns + gap), memory(device, rows > 0 ? (rows - 1) * stride + width : 0, misaligned) {}

  void set(const std::vector<float>& values) {
    std::vector<float> all(memory.size(), std::numeric_limits<float>::quiet_NaN());
    for (int64_t i = 0; i < rows * width; ++i) all[i / width * stride + i % width] = values[i];
    memory.set(all);
  }
  std::vector<float> get() const {
    const std::vector<float> all = memory.get();
    std::vector<float> values(rows * width);
    for (int64_t i = 0; i < rows * width; ++i) values[i] = all[i / width * stride + i % width];
    return values;
  }

  int64_t rows, width, stride;
  Buffer<float> memory;
};

template <class Args>
void fill(Args& a, const Graph& graph, bool mean, const Buffer<int64_t>& offsets, const Buffer<int32_t>& neighbours) {
  a.struct_size = sizeof a;
  a.mean = mean;
  a.rows = graph.rows;
  a.columns = graph.columns;
  a.edges = graph.edges();
  a.offsets = offsets.data();
  a.neighbours = neighbours.data();
}

struct Operand {
  int64_t width = 1, gap = 0, misaligned = 0;
  bool mean = false, accumulate = false;
};

std::vector<float> aggregate(TestDevice& device, const Graph& graph, const Operand& o, const std::vector<float>& x,
                             const std::vector<float>& before, cudamoe_status* status = nullptr) {
  const Buffer<int64_t> offsets(device, graph.offsets);
  const Buffer<int32_t> neighbours(device, graph.neighbours);
  const Buffer<float> weights(device, graph.weights, o.misaligned);
  Matrix in(device, graph.columns, o.width, o.gap, o.misaligned), out(device, graph.rows, o.width, o.gap, o.misaligned);
  in.set(x);
  if (o.accumulate) out.set(before);
  cudamoe_graph_aggregate_args a{};
  fill(a, graph, o.mean, offsets, neighbours);
  a.accumulate = o.accumulate;
  a.width = o.width;
  a.weights = graph.weights.empty() ? nullptr : weights.data();
  a.x = in.memory.data();
  a.x_row_stride = in.stride;
  a.y = out.memory.data();
  a.y_row_stride = out.stride;
  CUDAMOE_EXPECT_OK(cudamoe_graph_aggregate(device.stream(), &a));
  const cudamoe_status reported = cudamoe_stream_synchronize(device.stream());
  if (status == nullptr) {
    EXPECT_EQ(reported, CUDAMOE_OK) << last_error();
  } else {
    *status = reported;
  }
  EXPECT_TRUE(out.memory.guards_intact() && in.memory.guards_intact());
  return out.get();
}

std::vector<float> edge_gradient(TestDevice& device, const Graph& graph, const Operand& o, const std::vector<float>& x,
                                 const std::vector<float>& dy, const std::vector<float>& before, cudamoe_status* status = nullptr) {
  const Buffer<int64_t> offsets(device, graph.offsets);
  const Buffer<int32_t> neighbours(device, graph.neighbours);
  Matrix in(device, graph.columns, o.width, o.gap, o.misaligned), upper(device, graph.rows, o.width, o.gap, o.misaligned);
  in.set(x);
  upper.set(dy);
  Buffer<float> dweights(device, graph.edges(), o.misaligned);
  if (o.accumulate) dweights.set(before);
  cudamoe_graph_edge_gradient_args a{};
  fill(a, graph, o.mean, offsets, neighbours);
  a.accumulate = o.accumulate;
  a.width = o.width;
  a.x = in.memory.data();
  a.x_row_stride = in.stride;
  a.dy = upper.memory.data();
  a.dy_row_stride = upper.stride;
  a.dweights = dweights.data();
  CUDAMOE_EXPECT_OK(cudamoe_graph_edge_gradient(device.stream(), &a));
  const cudamoe_status reported = cudamoe_stream_synchronize(device.stream());
  if (status == nullptr) {
    EXPECT_EQ(reported, CUDAMOE_OK) << last_error();
  } else {
    *status = reported;
  }
  EXPECT_TRUE(dweights.guards_intact());
  return dweights.get();
}

// The transposed matrix; its edges are those that were good. Without its weights, where they are not wanted.
Graph transpose(TestDevice& device, const Graph& graph, bool mean, cudamoe_status* status = nullptr, bool wants_weights = true) {
  const Buffer<int64_t> offsets(device, graph.offsets), transposed_offsets(device, graph.columns + 1);
  const Buffer<int32_t> neighbours(device, graph.neighbours), transposed_neighbours(device, graph.edges());
  const Buffer<float> weights(device, graph.weights), transposed_weights(device, wants_weights ? graph.edges() : 0);
  cudamoe_graph_transpose_args a{};
  fill(a, graph, mean, offsets, neighbours);
  int64_t bytes = -1;
  CUDAMOE_EXPECT_OK(cudamoe_graph_transpose_workspace(device.stream(), &a, &bytes));
  const Workspace workspace(device, bytes);
  a.weights = graph.weights.empty() ? nullptr : weights.data();
  a.transposed_offsets = transposed_offsets.data();
  a.transposed_neighbours = transposed_neighbours.data();
  a.transposed_weights = wants_weights ? transposed_weights.data() : nullptr;
  a.workspace = workspace.data();
  a.workspace_bytes = bytes;
  CUDAMOE_EXPECT_OK(cudamoe_graph_transpose(device.stream(), &a));
  const cudamoe_status reported = cudamoe_stream_synchronize(device.stream());
  if (status == nullptr) {
    EXPECT_EQ(reported, CUDAMOE_OK) << last_error();
  } else {
    *status = reported;
  }
  EXPECT_TRUE(transposed_offsets.guards_intact() && transposed_neighbours.guards_intact() && transposed_weights.guards_intact());
  EXPECT_TRUE(workspace.guards_intact());
  Graph result{graph.columns, graph.rows, transposed_offsets.get(), transposed_neighbours.get(), transposed_weights.get()};
  for (int64_t e = result.offsets.back(); e < graph.edges(); ++e) {
    EXPECT_EQ(result.neighbours[e], -1);
    if (wants_weights) {
      EXPECT_EQ(result.weights[e], 0.0f);
    }
  }
  result.neighbours.resize(result.offsets.back());
  if (wants_weights) result.weights.resize(result.offsets.back());
  return result;
}

std::vector<double> reference(const Graph& graph, const Operand& o, const std::vector<float>& x, const std::vector<float>& before) {
  std::vector<double> y(graph.rows * o.width);
  for (int64_t r = 0; r < graph.rows; ++r) {
    const double factor = graph.factor(r, o.mean);
    for (int64_t e = graph.offsets[r]; e < graph.offsets[r + 1]; ++e) {
      for (int64_t c = 0; c < o.width && graph.good(e); ++c)
        y[r * o.width + c] += factor * graph.weight(e) * static_cast<double>(x[graph.neighbours[e] * o.width + c]);
    }
  }
  for (size_t i = 0; o.accumulate && i < y.size(); ++i) y[i] += static_cast<double>(before[i]);
  return y;
}

struct EdgeGradient {
  std::vector<double> dweights;
  double terms = 0;  // the norm of all that is added up
};

EdgeGradient edge_reference(const Graph& graph, const Operand& o, const std::vector<float>& x, const std::vector<float>& dy,
                            const std::vector<float>& before) {
  EdgeGradient result{std::vector<double>(graph.edges()), 0};
  double squares = 0;
  for (int64_t r = 0; r < graph.rows; ++r) {
    const double factor = graph.factor(r, o.mean);
    for (int64_t e = graph.offsets[r]; e < graph.offsets[r + 1]; ++e) {
      double& sum = result.dweights[e];
      if (o.accumulate) sum = static_cast<double>(before[e]);
      squares += sum * sum;
      for (int64_t c = 0; c < o.width && graph.good(e); ++c) {
        const double term = factor * static_cast<double>(dy[r * o.width + c]) * static_cast<double>(x[graph.neighbours[e] * o.width + c]);
        sum += term;
        squares += term * term;
      }
    }
  }
  result.terms = std::sqrt(squares);
  return result;
}

// A product of one edge may cancel, so the error is measured by its terms.
void expect_near(const std::vector<float>& have, const EdgeGradient& want, double bound) {
  ASSERT_EQ(have.size(), want.dweights.size());
  double difference = 0;
  for (size_t e = 0; e < have.size(); ++e) difference += std::pow(static_cast<double>(have[e]) - want.dweights[e], 2);
  EXPECT_LE(std::sqrt(difference), bound * want.terms);
}

template <class Use>
void for_graphs(Random& random, bool slow, Use&& use) {
  struct Size {
    int64_t rows, columns, edges;
  };
  std::vector<Size> sizes = {{0, 3, 0}, {1, 1, 1}, {3, 5, 0}, {4, 2, 9}, {7, 30, 70}};
  if (!slow) sizes.insert(sizes.end(), {{300, 500, 5000}, {2, 1000, 30000}, {5000, 10, 20000}});
  for (const Size& s : sizes) {
    for (const int64_t width : {1, 3, 16, 17, 40, 130, 300}) {
      if (s.edges > 1000 && width > 40) continue;
      Operand o;
      o.width = width;
      o.gap = random.integer(0, 3);
      o.misaligned = random.integer(0, 3);
      o.mean = random.coin();
      o.accumulate = random.coin();
      const Graph graph = make(random, s.rows, s.columns, s.edges, random.coin());
      SCOPED_TRACE(name(graph, width, o.mean));
      use(graph, o);
    }
    // Rows that allow accesses of 16 bytes, read by 8, 16 and 32 lanes.
    for (const int64_t width : {8, 48, 136}) {
      if (s.edges > 1000 && width > 48) continue;
      Operand o;
      o.width = width;
      o.gap = 4 * random.integer(0, 1);
      o.mean = random.coin();
      o.accumulate = random.coin();
      const Graph graph = make(random, s.rows, s.columns, s.edges, random.coin());
      SCOPED_TRACE(name(graph, width, o.mean));
      use(graph, o);
    }
  }
}

TEST(Graph, SumsOverNeighboursAgreeWithTheReference) {
  TestDevice device;
  Random random(101);
  for_graphs(random, test_device_is_slow(), [&](const Graph& graph, const Operand& o) {
    const std::vector<float> x = random.reals(graph.columns * o.width), before = random.reals(graph.rows * o.width);
    EXPECT_LE(relative_error(aggregate(device, graph, o, x, before), reference(graph, o, x, before)), f32_bound(graph.edges()));
  });
}

TEST(Graph, GradientOfEdgesAgreesWithTheReference) {
  TestDevice device;
  Random random(102);
  for_graphs(random, test_device_is_slow(), [&](const Graph& graph, const Operand& o) {
    const std::vector<float> x = random.reals(graph.columns * o.width), dy = random.reals(graph.rows * o.width);
    const std::vector<float> before = random.reals(graph.edges());
    expect_near(edge_gradient(device, graph, o, x, dy, before), edge_reference(graph, o, x, dy, before), f32_bound(o.width));
  });
}

// <dy, A x> = <A^T dy, x>: the sum over the transposed matrix is the backward, also of the mean.
TEST(Graph, SumsOverTheTransposedMatrixAreTheBackward) {
  TestDevice device(test_device_spec_of("cpu:threads=2", "simt"));
  Random random(103);
  for_graphs(random, test_device_is_slow(), [&](const Graph& graph, Operand o) {
    o.accumulate = false;
    const Graph turned = transpose(device, graph, o.mean);
    EXPECT_EQ(turned.edges(), graph.edges());
    const std::vector<float> dy = random.reals(graph.rows * o.width);
    std::vector<double> dx(graph.columns * o.width);
    for (int64_t r = 0; r < graph.rows; ++r) {
      const double factor = graph.factor(r, o.mean);
      for (int64_t e = graph.offsets[r]; e < graph.offsets[r + 1]; ++e) {
        for (int64_t c = 0; c < o.width; ++c)
          dx[graph.neighbours[e] * o.width + c] += factor * graph.weight(e) * static_cast<double>(dy[r * o.width + c]);
      }
    }
    Operand plain = o;
    plain.mean = false;
    EXPECT_LE(relative_error(aggregate(device, turned, plain, dy, {}), dx), f32_bound(graph.edges()));
  });
}

// The good edges sorted by neighbour, those of one neighbour as they came.
Graph transposed_reference(const Graph& graph, bool mean) {
  std::vector<int64_t> edges, row_of(graph.edges());
  std::vector<float> factors;
  for (int64_t r = 0; r < graph.rows; ++r) {
    std::fill(row_of.begin() + graph.offsets[r], row_of.begin() + graph.offsets[r + 1], r);
    factors.push_back(static_cast<float>(graph.factor(r, mean)));
  }
  for (int64_t e = 0; e < graph.edges(); ++e)
    if (graph.good(e)) edges.push_back(e);
  std::stable_sort(edges.begin(), edges.end(), [&](int64_t a, int64_t b) { return graph.neighbours[a] < graph.neighbours[b]; });
  Graph result{graph.columns, graph.rows, std::vector<int64_t>(graph.columns + 1), {}, {}};
  for (const int64_t e : edges) {
    ++result.offsets[graph.neighbours[e] + 1];
    result.neighbours.push_back(static_cast<int32_t>(row_of[e]));
    result.weights.push_back(factors[row_of[e]] * static_cast<float>(graph.weight(e)));
  }
  for (int64_t c = 0; c < graph.columns; ++c) result.offsets[c + 1] += result.offsets[c];
  return result;
}

void expect_same(const Graph& have, const Graph& want) {
  EXPECT_EQ(have.offsets, want.offsets);
  EXPECT_EQ(have.neighbours, want.neighbours);
  EXPECT_EQ(have.weights, want.weights);
}

TEST(Graph, TransposedMatrixIsThatOfTheReference) {
  TestDevice device(test_device_spec_of("cpu:threads=2", "simt"));
  Random random(108);
  for_graphs(random, test_device_is_slow(), [&](const Graph& graph, const Operand& o) {
    expect_same(transpose(device, graph, o.mean), transposed_reference(graph, o.mean));
  });
  // Edges of several tiles of the sort, columns of one digit (those of a byte and less) and of more; every ninth neighbour is bad.
  const int64_t edges = test_device_is_slow() ? 2600 : 300000;
  for (const int64_t columns : {1, 255, 511, 512, 70000}) {
    Graph graph = make(random, 900, columns, edges, true);
    for (int64_t e = 4; e < edges; e += 9) graph.neighbours[e] = static_cast<int32_t>(random.coin() ? columns : -1 - e);
    SCOPED_TRACE(name(graph, 0, true));
    cudamoe_status status = CUDAMOE_OK;
    expect_same(transpose(device, graph, true, &status), transposed_reference(graph, true));
    EXPECT_EQ(status, CUDAMOE_ERROR_REPORTED);
    EXPECT_NE(last_error().find("cudamoe_graph_transpose: neighbours[4] is"), std::string::npos) << last_error();
  }
}

TEST(Graph, TransposedMatrixWithoutItsWeights) {
  TestDevice device(test_device_spec_of("cpu:threads=2", "simt"));
  Random random(109);
  for_graphs(random, test_device_is_slow(), [&](Graph graph, const Operand& o) {
    if (graph.edges() > 3) graph.neighbours[3] = -1;
    Graph want = transposed_reference(graph, o.mean);
    want.weights.clear();
    cudamoe_status status = CUDAMOE_OK;
    expect_same(transpose(device, graph, o.mean, &status, false), want);
    EXPECT_EQ(status, graph.edges() > 3 ? CUDAMOE_ERROR_REPORTED : CUDAMOE_OK);
  });
}

TEST(Graph, WithoutColumnsEveryEdgeIsLeftOut) {
  TestDevice device;
  Graph graph{2, 0, {0, 1, 3}, {0, 0, 0}, {}};
  cudamoe_status status = CUDAMOE_OK;
  EXPECT_EQ(transpose(device, graph, true, &status).offsets, std::vector<int64_t>{0});
  EXPECT_EQ(status, CUDAMOE_ERROR_REPORTED);
}

TEST(Graph, NeighboursOutOfRangeAreReportedAndLeftOut) {
  TestDevice device;
  Random random(105);
  Graph graph = make(random, 3, 5, 12, true);
  graph.offsets = {0, 4, 4, 12};
  graph.neighbours[2] = 5;
  graph.neighbours[9] = -1;
  Operand o;
  o.width = 6;
  o.mean = true;
  const std::vector<float> x = random.reals(30), dy = random.reals(18);
  cudamoe_status status = CUDAMOE_OK;
  EXPECT_LE(relative_error(aggregate(device, graph, o, x, {}, &status), reference(graph, o, x, {})), f32_bound(12));
  EXPECT_EQ(status, CUDAMOE_ERROR_REPORTED);
  EXPECT_NE(last_error().find("cudamoe_graph_aggregate: neighbours[2] is 5"), std::string::npos) << last_error();
  expect_near(edge_gradient(device, graph, o, x, dy, {}, &status), edge_reference(graph, o, x, dy, {}), f32_bound(6));
  EXPECT_EQ(status, CUDAMOE_ERROR_REPORTED);
  EXPECT_NE(last_error().find("cudamoe_graph_edge_gradient: neighbours[2] is 5"), std::string::npos) << last_error();
  EXPECT_EQ(transpose(device, graph, true, &status).edges(), 10);
  EXPECT_EQ(status, CUDAMOE_ERROR_REPORTED);
  EXPECT_NE(last_error().find("cudamoe_graph_transpose: neighbours[2] is 5"), std::string::npos) << last_error();
}

TEST(Graph, BadOffsetsAreReportedAndLeaveNoEdges) {
  TestDevice device;
  Random random(106);
  Operand o;
  o.width = 3;
  const std::vector<float> x = random.reals(12), dy = random.reals(9);
  struct Bad {
    std::vector<int64_t> offsets;
    const char* words;
  };
  for (const Bad& bad : {Bad{{1, 4, 6, 8}, "offsets[0] is 1"}, Bad{{0, 5, 4, 8}, "offsets[2] is 4"}, Bad{{0, 5, 9, 8}, "offsets[2] is 9"},
                         Bad{{0, 2, 4, 7}, "offsets[3] is 7"}, Bad{{0, -3, 4, 8}, "offsets[1] is -3"}}) {
    Graph graph = make(random, 3, 4, 8, false);
    graph.offsets = bad.offsets;
    for (int turn = 0; turn < 2; ++turn) {  // the second time shows that the first left nothing behind
      cudamoe_status status = CUDAMOE_OK;
      EXPECT_EQ(aggregate(device, graph, o, x, {}, &status), std::vector<float>(9, 0.0f));
      EXPECT_EQ(status, CUDAMOE_ERROR_REPORTED);
      EXPECT_NE(last_error().find(bad.words), std::string::npos) << last_error();
      EXPECT_EQ(edge_gradient(device, graph, o, x, dy, {}, &status), std::vector<float>(8, 0.0f));
      EXPECT_EQ(status, CUDAMOE_ERROR_REPORTED);
      EXPECT_EQ(transpose(device, graph, false, &status).edges(), 0);
      EXPECT_EQ(status, CUDAMOE_ERROR_REPORTED);
    }
    const Graph good = make(random, 3, 4, 8, false);
    EXPECT_LE(relative_error(aggregate(device, good, o, x, {}), reference(good, o, x, {})), f32_bound(8));
  }
}

TEST(Graph, SameBitsForAnyOrder) {
  Random random(107);
  TestDevice one;
  const bool slow = test_device_is_slow();
  const Graph graph = make(random, slow ? 20 : 3000, slow ? 30 : 2000, slow ? 200 : 60000, true);
  Operand o;
  o.width = 33;
  o.mean = true;
  const std::vector<float> x = random.reals(graph.columns * 33), dy = random.reals(graph.rows * 33);
  const std::vector<float> y = aggregate(one, graph, o, x, {}), dw = edge_gradient(one, graph, o, x, dy, {});
  const Graph turned = transpose(one, graph, true);
  for (const std::string& spec : repeated_device_specs()) {
    TestDevice device(spec);
    for (int repeat = 0; repeat < repetitions_of_a_spec(); ++repeat) {
      ASSERT_EQ(aggregate(device, graph, o, x, {}), y);
      ASSERT_EQ(edge_gradient(device, graph, o, x, dy, {}), dw);
      expect_same(transpose(device, graph, true), turned);
    }
  }
}

TEST(Graph, RefusesBadArguments) {
  TestDevice device;
  const Buffer<float> data(device, std::vector<float>(1024, 0.0f));
  float* p = data.data();
  const auto refused = [&](auto&& change, const char* words) {
    cudamoe_graph_aggregate_args a{};
    a.struct_size = sizeof a;
    a.rows = 3;
    a.columns = 4;
    a.edges = 5;
    a.width = 6;
    a.offsets = reinterpret_cast<const int64_t*>(p);
    a.neighbours = reinterpret_cast<const int32_t*>(p + 64);
    a.x = p + 128;
    a.x_row_stride = 6;
    a.y = p + 256;
    a.y_row_stride = 6;
    change(a);
    CUDAMOE_EXPECT_REFUSED(cudamoe_graph_aggregate(device.stream(), &a), words);
  };
  refused([](auto& a) { a.struct_size = 1; }, "struct_size");
  refused([](auto& a) { a.mean = 2; }, "mean is 2");
  refused([](auto& a) { a.rows = -1; }, "rows is -1");
  refused([](auto& a) { a.columns = int64_t{1} << 31; }, "columns is 2147483648");
  refused([](auto& a) { a.edges = -1; }, "edges is -1");
  refused([](auto& a) { a.offsets = nullptr; }, "offsets is null");
  refused([](auto& a) { a.neighbours = nullptr; }, "neighbours is null");
  refused([](auto& a) { a.x_row_stride = 5; }, "x_row_stride is 5");
  refused([p](auto& a) { a.y = p + 130; }, "y (");
}

}  // namespace
}  // namespace cudamoe::test
