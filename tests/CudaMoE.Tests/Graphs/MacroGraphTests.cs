using System.IO.Compression;
using System.Text;
using CudaMoE.Data;
using CudaMoE.Graphs;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Graphs;

public sealed class MacroGraphTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly int _seed = Random.Shared.Next();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(0, 1.3)]
    [InlineData(0.5, 0.6)]
    [InlineData(1, 1.9)]
    [InlineData(-1, 100)]
    public void Counts_and_weights_are_those_of_dense_products(double beta, double tau)
    {
        GraphLogs log = GraphLogs.Random(_seed, 400, 40, 25);
        Assert.True(Build(GraphLogs.Options(log.Write(Path("log.csv"))) with { Beta = beta, Tau = tau }).Pairs > 0);
        using MacroGraph graph = MacroGraph.Open(Path("graph"));
        DenseGraph.Check(graph, log, beta, tau);
        Assert.Equal(log.Rows.Count, graph.Info.Interactions);
    }

    [Fact]
    public void Every_way_of_writing_a_log_gives_the_same_file()
    {
        GraphLogs log = GraphLogs.Random(_seed, 300, 30, 20);
        Build(GraphLogs.Options(log.Write(Path("log.csv"))));
        byte[] expected = File.ReadAllBytes(Path("graph"));

        // One file a task, in the order of the rows: only the order of first appearance may differ, so the log is sorted by task first.
        GraphLogs sorted = new();
        foreach ((string user, string item, string kind, double time) in log.Rows.OrderBy(row => Array.IndexOf(GraphLogs.Tasks, row.Event)))
            sorted.Add(user, item, Array.IndexOf(GraphLogs.Tasks, kind), time);
        Build(GraphLogs.Options(sorted.Write(Path("sorted.csv"))));
        byte[] byEvents = File.ReadAllBytes(Path("graph"));
        List<InteractionSource> rows = [];
        List<InteractionSource> lists = [];
        foreach (string task in GraphLogs.Tasks)
        {
            (string User, string Item)[] pairs = [.. sorted.Rows.Where(row => row.Event == task).Select(row => (row.User, row.Item))];
            File.WriteAllText(Path(task + ".tsv"), "item\tuser\n" + string.Concat(pairs.Select(pair => $"{pair.Item}\t{pair.User}\n")));
            rows.Add(new(Path(task + ".tsv"), InteractionKind.Task, task));
            using (StreamWriter text = new(new GZipStream(File.Create(Path(task + ".gz")), CompressionMode.Compress)))
                text.Write(string.Concat(pairs.Select(pair => $"{pair.User}  {pair.Item} \r\n")).TrimEnd());
            lists.Add(new(Path(task + ".gz"), InteractionKind.Lists, task));
        }

        Build(GraphLogs.Options(new() { Sources = rows, Format = new() { Separator = "\t" } }));
        Assert.Equal(byEvents, File.ReadAllBytes(Path("graph")));
        Build(GraphLogs.Options(new() { Sources = lists }));
        Assert.Equal(byEvents, File.ReadAllBytes(Path("graph")));

        StringBuilder labels = new("user,item,view,cart,buy\n");
        foreach ((string user, string item, string kind, _) in log.Rows)
            labels.Append($"{user},{item},{string.Join(',', GraphLogs.Tasks.Select(task => task == kind ? "1" : task == "cart" ? "" : "0"))}\n");
        File.WriteAllText(Path("labels.csv"), labels.ToString());
        Build(GraphLogs.Options(new() { Sources = [new(Path("labels.csv"), InteractionKind.Labels)] }));
        Assert.Equal(expected, File.ReadAllBytes(Path("graph")));
    }

    [Fact]
    public void Threads_do_not_change_the_file()
    {
        GraphLogs log = GraphLogs.Random(_seed, 20000, 6000, 300);
        MacroGraphOptions options = GraphLogs.Options(log.Write(Path("log.csv"))) with { UserNodes = 9 };
        Build(options);
        byte[] one = File.ReadAllBytes(Path("graph"));
        foreach (int threads in new[] { 2, 3, 0 })
        {
            Build(options with { Threads = threads });
            Assert.Equal(one, File.ReadAllBytes(Path("graph")));
        }
    }

    [Theory]
    [InlineData(0.8, 80)]
    [InlineData(0.5, 50)]
    [InlineData(1, 100)]
    [InlineData(0.001, 0)]
    public void Only_the_first_part_of_the_timeline_counts(double part, int kept)
    {
        GraphLogs log = new();
        Random random = new(_seed);
        foreach (int time in Enumerable.Range(0, 100).OrderBy(_ => random.Next()))
            log.Add($"u{time % 7}", $"i{time % 11}", time % 3, time - 50);
        MacroGraphOptions options = GraphLogs.Options(log.Write(Path("log.csv"), times: true) with { TimeFraction = part });
        if (kept == 0)
        {
            Assert.Contains("no interaction", Assert.Throws<DataException>(() => Build(options)).Message);
            return;
        }

        MacroGraphInfo info = Build(options);
        Assert.Equal((kept, 100L - kept), (info.Interactions, info.Later));
        Assert.Equal(part == 1 ? null : kept - 50, info.Before);
        GraphLogs first = new();
        foreach ((string user, string item, string kind, double time) in log.Rows.Where(row => row.Time < kept - 50))
            first.Add(user, item, Array.IndexOf(GraphLogs.Tasks, kind), time);
        using MacroGraph graph = MacroGraph.Open(Path("graph"));
        DenseGraph.Check(graph, first, 0, 1.3);
    }

    [Fact]
    public void One_user_and_more_macro_nodes_than_nodes_leave_macro_nodes_empty()
    {
        GraphLogs log = new();
        log.Add("only", "a", 0, 0);
        log.Add("only", "b", 2, 1);
        MacroGraphInfo info = Build(GraphLogs.Options(log.Write(Path("log.csv"))) with { UserNodes = 50, ItemNodes = 60 });
        Assert.Equal((1, 50, 1), (info.Users, info.UserNodes, info.UsedUserNodes));
        Assert.InRange(info.UsedItemNodes, 1, 2);
        using MacroGraph graph = MacroGraph.Open(Path("graph"));
        DenseGraph.Check(graph, log, 0, 1.3);
        Assert.Equal(-1, DenseGraph.Node(graph, GraphSide.User, "other"));
        float[] cold = new float[graph.Width(GraphSide.User)];
        graph.ColdWeights(GraphSide.User, cold);
        Assert.Equal([1f / 61, 1f / 51], [cold[0], cold[^1]]);
    }

    [Fact]
    public void Equal_counts_have_equal_weights_and_heat_evens_them_out()
    {
        float[] weights = new float[5];
        MacroWeights.Compute([7, 7, 7, 7, 7], 1, 0.6, weights);
        Assert.All(weights, weight => Assert.Equal(0.2f, weight, 1e-7f));
        MacroWeights.Compute([0, 1, 1L << 40, 3, 9], 1, 1e6, weights);
        Assert.All(weights, weight => Assert.Equal(0.2f, weight, 1e-4f));
        MacroWeights.Compute([0, 1, 1L << 60, 3, 9], 1, 0.01, weights);
        Assert.Equal([0, 0, 1, 0, 0], weights);
    }

    [Fact]
    public void Scores_follow_box_and_cox()
    {
        PairScores scores = new([1, 0, 2], 1);
        Assert.Equal(0, scores.Units(0));
        Assert.Equal([2, 1, 3, 4, 6, 5, 7], Enumerable.Range(1, 7).Select(mask => scores.Units(mask) / PairScores.Unit));
        for (int rank = 0; rank < 100; rank++)
            Assert.Equal(Math.Log(rank + 1), PairScores.Exact(rank, 1e-7), 1e-4);
        Assert.Equal(0, PairScores.Exact(0, 0.5));
        Assert.Equal([0, 2, 1], PairScores.ByRarity([9, 1, 5]));
        Assert.Equal([0, 1, 2], PairScores.ByRarity([4, 4, 4]));
    }

    [Fact]
    public void Wrong_options_and_logs_are_refused_by_name()
    {
        InteractionLog log = GraphLogs.Random(_seed, 20, 5, 5).Write(Path("log.csv"));
        MacroGraphOptions good = GraphLogs.Options(log);
        Refused("beta is 5", good with { Beta = 5 });
        Refused("beta is NaN", good with { Beta = double.NaN });
        Refused("tau is 0", good with { Tau = 0 });
        Refused("user_nodes is 0", good with { UserNodes = 0 });
        Refused("item_nodes is 5000", good with { ItemNodes = 5000 });
        Refused("tasks has 0 names", good with { Tasks = [] });
        Refused("unique", good with { Tasks = ["view", "view"] });
        Refused("time fraction is 0", good with { Log = log with { TimeFraction = 0 } });
        Refused("no file", good with { Log = log with { Sources = [] } });
        Refused("of the task \"like\"", good with { Log = log with { Sources = [new(Path("log.csv"), InteractionKind.Task, "like")] } });
        Refused("have no times", good with { Log = log with { TimeColumn = "time", Sources = [new(Path("log.csv"), InteractionKind.Lists, "view")] } });
        Refused("no interaction", good with { Tasks = ["like"] });
        Refused("needs the column \"person\"", good with { Log = log with { UserColumn = "person" } });
        File.WriteAllText(Path("labels.csv"), "user,item,view,cart,buy\na,b,1,NaN,0\n");
        Refused("not a finite number", good with { Log = new() { Sources = [new(Path("labels.csv"), InteractionKind.Labels)] } });
        File.WriteAllText(Path("empty.csv"), "user,item,event\n,b,view\n");
        Refused("the user is missing", good with { Log = new() { Sources = [new(Path("empty.csv"), InteractionKind.Events)] } });
        Assert.Empty(Directory.EnumerateFileSystemEntries(_folder.Root, "graph*"));
    }

    [Fact]
    public void A_cancelled_build_leaves_nothing_behind()
    {
        MacroGraphOptions options = GraphLogs.Options(GraphLogs.Random(_seed, 2000, 50, 50).Write(Path("log.csv")));
        foreach (GraphStage stage in new[] { GraphStage.Merging, GraphStage.Projecting, GraphStage.Counting })
        {
            using CancellationTokenSource cancel = new();
            Assert.ThrowsAny<OperationCanceledException>(() => MacroGraphBuilder.Build(
                options,
                Path("graph"),
                progress =>
                {
                    if (progress.Stage == stage)
                        cancel.Cancel();
                },
                cancel.Token));
            Assert.Equal(["log.csv"], Directory.EnumerateFileSystemEntries(_folder.Root).Select(System.IO.Path.GetFileName));
        }
    }

    [Fact]
    public void A_file_that_is_cut_off_or_altered_is_refused()
    {
        Build(GraphLogs.Options(GraphLogs.Random(_seed, 200, 20, 20).Write(Path("log.csv"))));
        byte[] whole = File.ReadAllBytes(Path("graph"));
        Random random = new(_seed);
        for (int i = 0; i < 40; i++)
        {
            byte[] broken = [.. whole];
            int at;
            do
                at = random.Next(64, broken.Length);
            while (IsGap(whole, at));
            broken[at] ^= (byte)(1 << random.Next(8));
            File.WriteAllBytes(Path("broken"), broken);
            Assert.Contains(Path("broken"), Assert.Throws<DataException>(() => MacroGraph.Open(Path("broken"))).Message);
            File.WriteAllBytes(Path("broken"), whole[..random.Next(whole.Length)]);
            Assert.Contains(Path("broken"), Assert.Throws<DataException>(() => MacroGraph.Open(Path("broken"))).Message);
        }

        File.WriteAllBytes(Path("broken"), [.. whole, 0]);
        Assert.Contains("bytes follow", Assert.Throws<DataException>(() => MacroGraph.Open(Path("broken"))).Message);
        Assert.Contains("no such macro graph", Assert.Throws<DataException>(() => MacroGraph.Open(Path("none"))).Message);
    }

    /// <summary>Whether a byte lies between two sections, where nothing is kept.</summary>
    private static bool IsGap(byte[] file, int at)
    {
        long place = BitConverter.ToInt64(file.AsSpan(file.Length - 24));
        if (at >= place)
            return false;
        string json = Encoding.UTF8.GetString(file.AsSpan((int)place, file.Length - 24 - (int)place));
        using System.Text.Json.JsonDocument directory = System.Text.Json.JsonDocument.Parse(json);
        return !directory.RootElement.GetProperty("sections").EnumerateArray().Any(section =>
            at >= section.GetProperty("offset").GetInt64() && at < section.GetProperty("offset").GetInt64() + section.GetProperty("length").GetInt64());
    }

    private void Refused(string message, MacroGraphOptions options) => Assert.Contains(message, Assert.Throws<DataException>(() => Build(options)).Message);

    private MacroGraphInfo Build(MacroGraphOptions options) => MacroGraphBuilder.Build(options, Path("graph"));

    private string Path(string name) => _folder[name];
}
