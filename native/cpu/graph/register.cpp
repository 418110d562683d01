#include "cpu/graph/graph.h"

namespace cudamoe::cpu {

void register_graph(Backend& table) {
  table.graph_aggregate = graph_aggregate;
  table.graph_edge_gradient = graph_edge_gradient;
  table.graph_transpose = graph_transpose;
  table.graph_transpose_workspace = graph_transpose_workspace;
}

}  // namespace cudamoe::cpu
