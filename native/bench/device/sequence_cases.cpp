// Attention over sequences, and sums over the neighbours of a graph.
#include "device/cases.h"

namespace cudamoe::bench {
namespace {

// A batch of sequences of 32 positions, 4 heads of 32.
constexpr int64_t kPositions = 32;
constexpr int32_t kHeads = 4, kHeadWidth = 32;
constexpr int64_t kModelWidth = int64_t{kHeads} * kHeadWidth;

double count(int64_t n) { return static_cast<double>(n); }

cudamoe_attention_forward_args attention_args(DeviceEngine& engine, int64_t batch) {
  const int64_t elements = batch * kModelWidth;
  cudamoe_attention_forward_args args{};
  args.struct_size = sizeof args;
  args.heads = args.key_heads = kHeads;
  args.head_width = kHeadWidth;
  args.scale = 0.17677669f;
  args.sequences = batch / kPositions;
  args.queries = args.keys = kPositions;
  args.q = engine.random(elements);
  args.k = engine.random(elements);
  args.v = engine.random(elements);
  args.y = engine.allocate_of<float>(elements);
  args.q_row_stride = args.k_row_stride = args.v_row_stride = args.y_row_stride = kModelWidth;
  args.log_sum = engine.allocate_of<float>(batch * kHeads);
  require(cudamoe_attention_forward_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  return args;
}

// Products of a query with each key of its sequence, times two.
double product_operations(int64_t batch) { return 2 * count(batch * kPositions * kModelWidth); }

Prepared attention(DeviceEngine& engine, int64_t batch) {
  const cudamoe_attention_forward_args args = attention_args(engine, batch);
  return {[&engine, args] { require(cudamoe_attention_forward(engine.stream(), &args)); },
          {16 * count(batch * kModelWidth) + 4 * count(batch * kHeads), 2 * product_operations(batch)},
          {}};
}

Prepared attention_backward(DeviceEngine& engine, int64_t batch) {
  const cudamoe_attention_forward_args forward = attention_args(engine, batch);
  require(cudamoe_attention_forward(engine.stream(), &forward));
  const int64_t elements = batch * kModelWidth;
  cudamoe_attention_backward_args args{};
  args.struct_size = sizeof args;
  args.heads = args.key_heads = kHeads;
  args.head_width = kHeadWidth;
  args.scale = forward.scale;
  args.sequences = forward.sequences;
  args.queries = args.keys = kPositions;
  args.q = forward.q;
  args.k = forward.k;
  args.v = forward.v;
  args.y = forward.y;
  args.log_sum = forward.log_sum;
  args.dy = engine.random(elements);
  args.dq = engine.allocate_of<float>(elements);
  args.dk = engine.allocate_of<float>(elements);
  args.dv = engine.allocate_of<float>(elements);
  args.q_row_stride = args.k_row_stride = args.v_row_stride = args.y_row_stride = kModelWidth;
  args.dy_row_stride = args.dq_row_stride = args.dk_row_stride = args.dv_row_stride = kModelWidth;
  require(cudamoe_attention_backward_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  return {[&engine, args] { require(cudamoe_attention_backward(engine.stream(), &args)); },
          {32 * count(elements) + 4 * count(batch * kHeads), 5 * product_operations(batch)},
          {}};
}

Prepared maximum(DeviceEngine& engine, int64_t batch) {
  cudamoe_sequence_maximum_forward_args args{};
  args.struct_size = sizeof args;
  args.sequences = batch / kPositions;
  args.positions = kPositions;
  args.width = args.x_row_stride = args.y_row_stride = kModelWidth;
  args.x = engine.random(batch * kModelWidth);
  args.y = engine.allocate_of<float>(args.sequences * kModelWidth);
  args.places = engine.allocate_of<int32_t>(args.sequences * kModelWidth);
  return {[&engine, args] { require(cudamoe_sequence_maximum_forward(engine.stream(), &args)); },
          {4 * count((batch + 2 * args.sequences) * kModelWidth), 0},
          {}};
}

Prepared maximum_backward(DeviceEngine& engine, int64_t batch) {
  std::vector<int32_t> places;
  Numbers numbers;
  for (int64_t i = 0; i < batch / kPositions * kModelWidth; ++i) places.push_back(static_cast<int32_t>(numbers.below(kPositions)));
  cudamoe_sequence_maximum_backward_args args{};
  args.struct_size = sizeof args;
  args.sequences = batch / kPositions;
  args.positions = kPositions;
  args.width = args.dy_row_stride = args.dx_row_stride = kModelWidth;
  args.places = engine.upload(places);
  args.dy = engine.random(args.sequences * kModelWidth);
  args.dx = engine.allocate_of<float>(batch * kModelWidth);
  return {[&engine, args] { require(cudamoe_sequence_maximum_backward(engine.stream(), &args)); },
          {4 * count((batch + 2 * args.sequences) * kModelWidth), 0},
          {}};
}

// A row a sample, eight neighbours each, rows of 64.
constexpr int64_t kNeighbours = 8, kNodeWidth = 64;

struct Graph {
  const int64_t* offsets;
  const int32_t* neighbours;
};

Graph graph_of(DeviceEngine& engine, int64_t rows, int64_t columns) {
  std::vector<int64_t> offsets;
  std::vector<int32_t> neighbours;
  Numbers numbers;
  for (int64_t row = 0; row <= rows; ++row) offsets.push_back(row * kNeighbours);
  for (int64_t e = 0; e < rows * kNeighbours; ++e) neighbours.push_back(static_cast<int32_t>(numbers.below(columns)));
  return {engine.upload(offsets), engine.upload(neighbours)};
}

// Offsets and neighbours, and a number for each edge, and rows read once and written once. Rows are smaller than the L2 cache, so what is
// read again there does not count.
double graph_bytes(int64_t batch) { return count(batch) * (8 + 8 * kNeighbours + 8 * kNodeWidth); }

Prepared aggregate(DeviceEngine& engine, int64_t batch) {
  const Graph graph = graph_of(engine, batch, batch);
  cudamoe_graph_aggregate_args args{};
  args.struct_size = sizeof args;
  args.rows = args.columns = batch;
  args.edges = batch * kNeighbours;
  args.width = args.x_row_stride = args.y_row_stride = kNodeWidth;
  args.offsets = graph.offsets;
  args.neighbours = graph.neighbours;
  args.weights = engine.random(args.edges);
  args.x = engine.random(batch * kNodeWidth);
  args.y = engine.allocate_of<float>(batch * kNodeWidth);
  return {[&engine, args] { require(cudamoe_graph_aggregate(engine.stream(), &args)); },
          {graph_bytes(batch), 2 * count(args.edges * kNodeWidth)},
          {}};
}

Prepared edge_gradient(DeviceEngine& engine, int64_t batch) {
  const Graph graph = graph_of(engine, batch, batch);
  cudamoe_graph_edge_gradient_args args{};
  args.struct_size = sizeof args;
  args.rows = args.columns = batch;
  args.edges = batch * kNeighbours;
  args.width = args.x_row_stride = args.dy_row_stride = kNodeWidth;
  args.offsets = graph.offsets;
  args.neighbours = graph.neighbours;
  args.x = engine.random(batch * kNodeWidth);
  args.dy = engine.random(batch * kNodeWidth);
  args.dweights = engine.allocate_of<float>(args.edges);
  return {[&engine, args] { require(cudamoe_graph_edge_gradient(engine.stream(), &args)); },
          {graph_bytes(batch), 2 * count(args.edges * kNodeWidth)},
          {}};
}

// As many columns at any batch, so that the sort has as many passes.
Prepared transpose(DeviceEngine& engine, int64_t batch) {
  const Graph graph = graph_of(engine, batch, kReferenceBatch);
  cudamoe_graph_transpose_args args{};
  args.struct_size = sizeof args;
  args.mean = 1;
  args.rows = batch;
  args.columns = kReferenceBatch;
  args.edges = batch * kNeighbours;
  args.offsets = graph.offsets;
  args.neighbours = graph.neighbours;
  args.weights = engine.random(args.edges);
  args.transposed_offsets = engine.allocate_of<int64_t>(args.columns + 1);
  args.transposed_neighbours = engine.allocate_of<int32_t>(args.edges);
  args.transposed_weights = engine.allocate_of<float>(args.edges);
  require(cudamoe_graph_transpose_workspace(engine.stream(), &args, &args.workspace_bytes));
  args.workspace = engine.allocate(args.workspace_bytes);
  return {[&engine, args] { require(cudamoe_graph_transpose(engine.stream(), &args)); },
          {8 * count(batch + args.columns) + 16 * count(args.edges), 0},
          {}};
}

}  // namespace

std::vector<Case> sequence_cases() {
  return {{"attention of 32 positions", attention},        {"attention of 32 positions, backward", attention_backward},
          {"maxima over 32 positions", maximum},           {"maxima over 32 positions, backward", maximum_backward},
          {"sums over 8 neighbours", aggregate},           {"sums over 8 neighbours, weights' gradient", edge_gradient},
          {"graph of 8 neighbours, transposed", transpose}};
}

}  // namespace cudamoe::bench
