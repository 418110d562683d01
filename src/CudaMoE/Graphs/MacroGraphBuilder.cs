using CudaMoE.Data;

namespace CudaMoE.Graphs;

/// <summary>
/// Builds a macro graph (MGOE's macro task merging graph) from logs: merged scores of pairs, macro nodes by clustering projected rows, macro edges and
/// their weights. The log is streamed; what is in memory grows with users and items, not with interactions, but for 1/256 of them (8 bytes each) while pairs are merged.
/// </summary>
public static class MacroGraphBuilder
{
    /// <summary>Builds a graph file; it appears whole or not at all.</summary>
    /// <param name="options">What of.</param>
    /// <param name="path">The file to write.</param>
    /// <param name="progress">Called now and then, on any thread.</param>
    /// <param name="cancellation">Stops it; nothing is left behind.</param>
    /// <returns>What the file holds.</returns>
    /// <exception cref="DataException">An option or a file breaks a rule, or there is no interaction.</exception>
    public static MacroGraphInfo Build(MacroGraphOptions options, string path, Action<GraphProgress>? progress = null, CancellationToken cancellation = default)
    {
        options.Validate();
        using GraphWorkFolder work = new(path);
        MacroGraphInfo info = Build(options, work, progress ?? (_ => { }), cancellation);
        work.Publish();
        return info;
    }

    private static unsafe MacroGraphInfo Build(MacroGraphOptions options, GraphWorkFolder work, Action<GraphProgress> progress, CancellationToken cancellation)
    {
        InteractionReader reader = new(options.Log, options.Tasks, cancellation);
        using EdgeSpill spill = new(work.Path);
        void Report(GraphStage stage, double done) => progress(new(stage, done, spill.Count));
        double before = options.Log.TimeColumn is null
            ? double.PositiveInfinity
            : TimeCut.Find(reader, options.Log.TimeFraction, work.Path, done => Report(GraphStage.Timing, done));
        reader.Read(before, spill.Add, done => Report(GraphStage.Reading, done));
        if (spill.Count == 0)
            throw new DataException("the log has no interaction of the tasks, so there is no graph to build");
        string pairsFile = Path.Combine(work.Path, "pairs");
        long[] taskPairs = new long[options.Tasks.Count];
        long[] starts = spill.Merge(pairsFile, taskPairs, done => Report(GraphStage.Merging, done), cancellation);
        using MappedFile mapped = new(pairsFile, starts[^1] * sizeof(Pair));
        Pair* pairs = (Pair*)mapped.Pointer;
        int[] values = options.TasksInOrder ? [.. Enumerable.Range(0, options.Tasks.Count)] : PairScores.ByRarity(taskPairs);
        PairScores scores = new(values, options.Beta);

        int[] order = spill.UserOrder();
        ProjectedNodes nodes = ProjectedNodes.Of(pairs, starts, order, spill, scores, options.Seed, done => Report(GraphStage.Projecting, done), cancellation);
        MacroClustering users = new(nodes.UserPoints, nodes.UserWeights, options.Seed, options.ThreadCount, cancellation);
        users.Run(options.UserNodes, options.Iterations, done => Report(GraphStage.Clustering, done / 2));
        MacroClustering items = new(nodes.ItemPoints, nodes.ItemWeights, options.Seed, options.ThreadCount, cancellation);
        items.Run(options.ItemNodes, options.Iterations, done => Report(GraphStage.Clustering, 0.5 + (done / 2)));

        MacroGraphInfo info = new()
        {
            Tasks = options.Tasks,
            Values = values,
            TaskPairs = taskPairs,
            Beta = options.Beta,
            Tau = options.Tau,
            Seed = options.Seed,
            Users = spill.Users.Count,
            Items = spill.Items.Count,
            Pairs = starts[^1],
            UserNodes = options.UserNodes,
            ItemNodes = options.ItemNodes,
            UsedUserNodes = users.Centres.Length / SignProjection.Width,
            UsedItemNodes = items.Centres.Length / SignProjection.Width,
            UserObjective = users.Objectives.LastOrDefault(),
            ItemObjective = items.Objectives.LastOrDefault(),
            Interactions = spill.Count,
            Ignored = reader.Ignored,
            Later = reader.Later,
            Before = double.IsFinite(before) ? before : null,
            Updates = 0,
        };
        using GraphFileWriter writer = new(work.File);
        SectionWriter pairSection = writer.Begin<Pair>("pairs", starts[^1]);
        for (long at = 0; at < starts[^1]; at += GraphFileWriter.BlockBytes)
            pairSection.Write(new ReadOnlySpan<Pair>(pairs + at, (int)Math.Min(GraphFileWriter.BlockBytes, starts[^1] - at)));
        writer.Write<long>("pairs.starts", starts);
        WriteNodes(writer, GraphSide.User, spill.Users, order, users.Assignment, users.Centres);
        WriteNodes(writer, GraphSide.Item, spill.Items, [.. Enumerable.Range(0, info.Items)], items.Assignment, items.Centres);
        MacroPlan plan = new(users.Assignment, items.Assignment, info.UserNodes + 1, info.ItemNodes + 1, scores, options.Tau);
        new MacroCounts(pairs, starts, plan, options.ThreadCount, cancellation).Write(writer, done => Report(GraphStage.Counting, done));
        writer.Finish(info);
        return info;
    }

    /// <summary>Writes ids, macro nodes and centres of a side.</summary>
    internal static void WriteNodes(GraphFileWriter writer, GraphSide side, NodeIndex index, int[] order, int[] assignment, ReadOnlySpan<float> centres)
    {
        long bytes = 0;
        int[] ends = new int[order.Length];
        for (int node = 0; node < order.Length; node++)
        {
            bytes += index.Text(order[node]).Length;
            ends[node] = checked((int)bytes);
        }

        SectionWriter text = writer.Begin<byte>(MacroGraph.Name(side, "text"), bytes);
        foreach (int node in order)
            text.Write(index.Text(node));
        writer.Write<int>(MacroGraph.Name(side, "ends"), ends);
        writer.Write<int>(MacroGraph.Name(side, "nodes"), assignment);
        writer.Write(MacroGraph.Name(side, "centres"), centres);
    }
}
