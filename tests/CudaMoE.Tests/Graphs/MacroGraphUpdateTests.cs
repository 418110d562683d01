using CudaMoE.Data;
using CudaMoE.Graphs;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Graphs;

public sealed class MacroGraphUpdateTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly int _seed = Random.Shared.Next();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(0)]
    [InlineData(0.5)]
    public void Counts_after_updates_are_those_of_a_new_count(double beta)
    {
        GraphLogs all = GraphLogs.Random(_seed, 300, 30, 20);
        MacroGraphBuilder.Build(GraphLogs.Options(all.Write(Path("log.csv"))) with { Beta = beta }, Path("graph"));
        for (int day = 1; day <= 3; day++)
        {
            // Some users and items are new, some pairs known, some known in another task.
            GraphLogs more = GraphLogs.Random(unchecked(_seed + day), 60, 20, 12, firstUser: day * 8, firstItem: day * 5);
            InteractionLog log = more.Write(Path("more.csv"));
            using (MacroGraph before = MacroGraph.Open(Path("graph")))
            {
                int[] users = before.Assignment(GraphSide.User).ToArray();
                int[] items = before.Assignment(GraphSide.Item).ToArray();
                MacroGraphInfo info = MacroGraphUpdater.Update(before, log, Path("graph"), threads: 1 + (day % 2));
                Assert.Equal(day, info.Updates);
                using MacroGraph after = MacroGraph.Open(Path("graph"));
                Assert.Equal(users, after.Assignment(GraphSide.User)[..users.Length].ToArray());
                Assert.Equal(items, after.Assignment(GraphSide.Item)[..items.Length].ToArray());
                CheckNearest(after, GraphSide.User, users.Length);
                CheckNearest(after, GraphSide.Item, items.Length);
            }

            all.Add(more);
            using MacroGraph graph = MacroGraph.Open(Path("graph"));
            DenseGraph.Check(graph, all, beta, 1.3);
            Assert.Equal(all.Rows.Count, graph.Info.Interactions);
        }
    }

    [Fact]
    public void Known_interactions_change_nothing_but_the_number_of_updates()
    {
        InteractionLog log = GraphLogs.Random(_seed, 100, 10, 10).Write(Path("log.csv"));
        MacroGraphBuilder.Build(GraphLogs.Options(log), Path("graph"));
        using MacroGraph graph = MacroGraph.Open(Path("graph"));
        MacroGraphInfo info = MacroGraphUpdater.Update(graph, log, Path("again"));
        Assert.Equal(graph.Info.Pairs, info.Pairs);
        using MacroGraph again = MacroGraph.Open(Path("again"));
        foreach (GraphSide side in Enum.GetValues<GraphSide>())
        {
            for (int node = 0; node < graph.Nodes(side); node++)
            {
                Assert.Equal(graph.Second(side, node).ToArray(), again.Second(side, node).ToArray());
                Assert.Equal(graph.Weights(side, node).ToArray(), again.Weights(side, node).ToArray());
            }
        }
    }

    [Fact]
    public void An_update_that_fails_leaves_the_graph_as_it_was()
    {
        InteractionLog log = GraphLogs.Random(_seed, 100, 10, 10).Write(Path("log.csv"));
        MacroGraphBuilder.Build(GraphLogs.Options(log), Path("graph"));
        byte[] before = File.ReadAllBytes(Path("graph"));
        File.WriteAllText(Path("bad.csv"), "user,item,event\nu1,,view\n");
        using (MacroGraph graph = MacroGraph.Open(Path("graph")))
            Assert.Throws<DataException>(() => MacroGraphUpdater.Update(graph, log with { Sources = [new(Path("bad.csv"), InteractionKind.Events)] }, Path("graph")));
        Assert.Equal(before, File.ReadAllBytes(Path("graph")));
        Assert.Equal(["bad.csv", "graph", "log.csv"], Directory.EnumerateFileSystemEntries(_folder.Root).Select(System.IO.Path.GetFileName).Order());
    }

    /// <summary>Compares the macro nodes of new nodes with the nearest centres, in double.</summary>
    private static unsafe void CheckNearest(MacroGraph graph, GraphSide side, int first)
    {
        const int width = 64;
        double[,] points = new double[graph.Nodes(side), width];
        NodeIndex users = graph.NewIndex(GraphSide.User);
        NodeIndex items = graph.NewIndex(GraphSide.Item);
        for (int user = 0; user < graph.Info.Users; user++)
        {
            for (long p = graph.Starts[user]; p < graph.Starts[user + 1]; p++)
            {
                Pair pair = graph.Pairs[p];
                bool isUser = side == GraphSide.User;
                ulong signs = SignProjection.Signs(isUser ? items.Hashes[pair.Item] : users.Hashes[user], graph.Info.Seed);
                for (int j = 0; j < width; j++)
                    points[isUser ? user : pair.Item, j] += (((signs >> j) & 1) == 1 ? -1 : 1) * graph.Scores.Units(pair.Mask);
            }
        }

        for (int node = first; node < graph.Nodes(side); node++)
        {
            double length = Math.Sqrt(Enumerable.Range(0, width).Sum(j => points[node, j] * points[node, j]));
            double[] distances =
            [
                .. Enumerable.Range(0, graph.Centres(side).Length / width).Select(k =>
                    Enumerable.Range(0, width).Sum(j => Math.Pow((points[node, j] / length) - graph.Centres(side)[(k * width) + j], 2))),
            ];
            Assert.Equal(distances.Min(), distances[graph.Assignment(side)[node] - 1], 1e-5);
        }
    }

    private string Path(string name) => _folder[name];
}
