using System.Globalization;
using System.Text;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Graphs;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>Fills tables of macro weights from a graph: row by row of the embedding table of users or items, by the id that the row stands for.</summary>
internal static class MacroWeightLoader
{
    public static void Load(MacroWeightTables tables, MacroDescription macro, MacroGraph graph, FittedEncoders encoders)
    {
        if (graph.Info.UserNodes != macro.UserNodes || graph.Info.ItemNodes != macro.ItemNodes)
        {
            throw new DescriptionException(
                $"architecture.macro has {macro.UserNodes} user_nodes and {macro.ItemNodes} item_nodes; the graph {graph.Path} has {graph.Info.UserNodes} and {graph.Info.ItemNodes}");
        }

        Load(tables, GraphSide.User, macro.User!, graph, encoders);
        Load(tables, GraphSide.Item, macro.Item!, graph, encoders);
    }

    private static void Load(MacroWeightTables tables, GraphSide side, string feature, MacroGraph graph, FittedEncoders encoders)
    {
        FittedTable table = encoders.Tables.Single(t => t.Name == encoders.Features.Single(f => f.Description.Name == feature).Table);
        float[] cold = new float[graph.Width(side)];
        graph.ColdWeights(side, cold);
        tables.Set(side, 0, cold);
        for (int row = 1; row < table.Rows; row++)
        {
            string id = table.Vocabulary?[row - 1] ?? row.ToString(CultureInfo.InvariantCulture);
            int node = graph.Find(side, Encoding.UTF8.GetBytes(id));
            tables.Set(side, row, node < 0 ? cold : graph.Weights(side, node));
        }
    }
}
