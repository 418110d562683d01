using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using CudaMoE.Data;

namespace CudaMoE.Graphs;

/// <summary>
/// Adds new interactions to a macro graph. Known nodes keep their macro nodes; new ones get the nearest centre; counts change by what the new interactions
/// change, with S' a' - S a = S (a' - a) + (S' - S) a', and equal a new count bit by bit. One pass over the old pairs; in memory are the items' counts
/// and the new pairs.
/// </summary>
public static class MacroGraphUpdater
{
    /// <summary>Writes the graph with the new interactions; the file appears whole or not at all, and may take the place of the old one.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="log">The new interactions, of the graph's tasks. Without time column all count.</param>
    /// <param name="path">The file to write.</param>
    /// <param name="threads">Threads; 0 = as many as the machine has.</param>
    /// <param name="progress">Called now and then.</param>
    /// <param name="cancellation">Stops it; nothing is left behind.</param>
    /// <returns>What the file holds.</returns>
    /// <exception cref="DataException">A file breaks a rule.</exception>
    public static MacroGraphInfo Update(
        MacroGraph graph, InteractionLog log, string path, int threads = 0, Action<GraphProgress>? progress = null, CancellationToken cancellation = default)
    {
        new MacroGraphOptions { Log = log, Tasks = graph.Info.Tasks, Threads = threads }.Validate();
        using GraphWorkFolder work = new(path);
        Work update = new(graph, threads == 0 ? Environment.ProcessorCount : threads, progress ?? (_ => { }), cancellation);
        MacroGraphInfo info = update.Run(log, work);
        work.Publish();
        return info;
    }

    /// <summary>A pair that changes.</summary>
    private readonly record struct Change(int User, int Item, int Before, int After);

    private sealed unsafe class Work(MacroGraph graph, int threads, Action<GraphProgress> progress, CancellationToken cancellation)
    {
        private readonly NodeIndex _users = graph.NewIndex(GraphSide.User);
        private readonly NodeIndex _items = graph.NewIndex(GraphSide.Item);
        private readonly PairScores _scores = graph.Scores;
        private readonly Dictionary<long, int> _masks = [];
        private readonly ParallelOptions _parallel = new() { MaxDegreeOfParallelism = threads, CancellationToken = cancellation };
        private long _interactions;

        private int UserWidth => graph.MacroNodes(GraphSide.User);

        private int ItemWidth => graph.MacroNodes(GraphSide.Item);

        public MacroGraphInfo Run(InteractionLog log, GraphWorkFolder work)
        {
            InteractionReader reader = new(log, graph.Info.Tasks, cancellation);
            double before = log.TimeColumn is null
                ? double.PositiveInfinity
                : TimeCut.Find(reader, log.TimeFraction, work.Path, done => Report(GraphStage.Timing, done));
            reader.Read(before, Add, done => Report(GraphStage.Reading, done));
            long[] taskPairs = [.. graph.Info.TaskPairs];
            Change[] changes = Changes(taskPairs);
            int[] userNodes = Assign(GraphSide.User, _users, changes);
            int[] itemNodes = Assign(GraphSide.Item, _items, changes);
            MacroGraphInfo info = graph.Info with
            {
                TaskPairs = taskPairs,
                Users = _users.Count,
                Items = _items.Count,
                Pairs = graph.Info.Pairs + changes.Count(change => change.Before == 0),
                Interactions = graph.Info.Interactions + _interactions,
                Ignored = graph.Info.Ignored + reader.Ignored,
                Later = reader.Later,
                Before = double.IsFinite(before) ? before : graph.Info.Before,
                Updates = graph.Info.Updates + 1,
            };
            using GraphFileWriter writer = new(work.File);
            WritePairs(writer, info, changes);
            MacroGraphBuilder.WriteNodes(writer, GraphSide.User, _users, [.. Enumerable.Range(0, info.Users)], userNodes, graph.Centres(GraphSide.User));
            MacroGraphBuilder.WriteNodes(writer, GraphSide.Item, _items, [.. Enumerable.Range(0, info.Items)], itemNodes, graph.Centres(GraphSide.Item));
            WriteCounts(writer, changes, userNodes, itemNodes);
            writer.Finish(info);
            return info;
        }

        private void Report(GraphStage stage, double done)
        {
            cancellation.ThrowIfCancellationRequested();
            progress(new(stage, done, graph.Info.Interactions + _interactions));
        }

        private void Add(ReadOnlySpan<byte> user, ReadOnlySpan<byte> item, int task)
        {
            int u = _users.Add(user, out _);
            int i = _items.Add(item, out _);
            CollectionsMarshal.GetValueRefOrAddDefault(_masks, ((long)u << 32) | (uint)i, out _) |= 1 << task;
            _interactions++;
        }

        /// <summary>The pairs that change, sorted by user and item.</summary>
        private Change[] Changes(long[] taskPairs)
        {
            List<Change> changes = [];
            foreach ((long key, int added) in _masks.OrderBy(pair => pair.Key))
            {
                (int user, int item) = ((int)(key >> 32), (int)(uint)key);
                int old = MaskOf(user, item);
                int now = old | added;
                if (now == old)
                    continue;
                changes.Add(new(user, item, old, now));
                for (int task = 0; task < taskPairs.Length; task++)
                    taskPairs[task] += ((now & ~old) >> task) & 1;
            }

            return [.. changes];
        }

        private int MaskOf(int user, int item)
        {
            if (user >= graph.Info.Users || item >= graph.Info.Items)
                return 0;
            long low = graph.Starts[user];
            long high = graph.Starts[user + 1];
            while (low < high)
            {
                long middle = (low + high) >>> 1;
                if (graph.Pairs[middle].Item < item)
                    low = middle + 1;
                else
                    high = middle;
            }

            return low < graph.Starts[user + 1] && graph.Pairs[low].Item == item ? graph.Pairs[low].Mask : 0;
        }

        /// <summary>Macro nodes of a side: the old ones, and the nearest centre of each new node, all of whose pairs are new.</summary>
        private int[] Assign(GraphSide side, NodeIndex index, Change[] changes)
        {
            int known = graph.Nodes(side);
            int[] assignment = new int[index.Count];
            graph.Assignment(side).CopyTo(assignment);
            if (assignment.Length == known)
                return assignment;
            bool user = side == GraphSide.User;
            NodeIndex others = user ? _items : _users;
            long[] sums = new long[(assignment.Length - known) * SignProjection.Width];
            foreach (Change change in changes)
            {
                int node = (user ? change.User : change.Item) - known;
                if (node < 0)
                    continue;
                ulong signs = SignProjection.Signs(others.Hashes[user ? change.Item : change.User], graph.Info.Seed);
                SignProjection.Add(sums.AsSpan(node * SignProjection.Width, SignProjection.Width), signs, _scores.Units(change.After));
            }

            float[] centres = graph.Centres(side).ToArray();
            float[] halves = SignProjection.HalfSquares(centres);
            float[] point = new float[SignProjection.Width];
            for (int node = known; node < assignment.Length; node++)
            {
                if (SignProjection.Normalize(sums.AsSpan((node - known) * SignProjection.Width, SignProjection.Width), point))
                    assignment[node] = SignProjection.Nearest(point, centres, halves, out _);
            }

            return assignment;
        }

        private void WritePairs(GraphFileWriter writer, MacroGraphInfo info, Change[] changes)
        {
            SectionWriter section = writer.Begin<Pair>("pairs", info.Pairs);
            long[] starts = new long[info.Users + 1];
            List<Pair> row = [];
            int at = 0;
            for (int user = 0; user < info.Users; user++)
            {
                row.Clear();
                if (user < graph.Info.Users)
                    row.AddRange(new ReadOnlySpan<Pair>(graph.Pairs + graph.Starts[user], (int)(graph.Starts[user + 1] - graph.Starts[user])));
                int old = at;
                for (; at < changes.Length && changes[at].User == user; at++)
                {
                    Pair pair = new(changes[at].Item, changes[at].After);
                    if (changes[at].Before == 0)
                        row.Add(pair);
                    else
                        row[row.FindIndex(p => p.Item == pair.Item)] = pair;
                }

                if (at > old)
                    row.Sort((a, b) => a.Item.CompareTo(b.Item));
                section.Write<Pair>(CollectionsMarshal.AsSpan(row));
                starts[user + 1] = starts[user] + row.Count;
                if (user % 4096 == 0)
                    Report(GraphStage.Merging, (double)user / info.Users);
            }

            writer.Write<long>("pairs.starts", starts);
        }

        private void WriteCounts(GraphFileWriter writer, Change[] changes, int[] userNodes, int[] itemNodes)
        {
            CountRows itemFirst = Load(GraphSide.Item, itemNodes.Length, UserWidth, first: true);
            CountRows itemSecond = Load(GraphSide.Item, itemNodes.Length, ItemWidth, first: false);
            // What the changes add to the first order, of the nodes that they touch.
            Dictionary<int, long[]> itemDeltas = [];
            Dictionary<int, long[]> userDeltas = [];
            foreach (Change change in changes)
            {
                int delta = _scores.Units(change.After) - _scores.Units(change.Before);
                Row(itemDeltas, change.Item, UserWidth)[userNodes[change.User]] += delta;
                Row(userDeltas, change.User, ItemWidth)[itemNodes[change.Item]] += delta;
            }

            foreach ((int item, long[] delta) in itemDeltas)
                TensorPrimitives.Add(itemFirst[item], delta, itemFirst[item]);
            double[] bounds = [.. itemSecond.Largest().Select(count => (double)count)];
            CountWriter users = new(writer, GraphSide.User, userNodes.Length, ItemWidth, UserWidth, graph.Info.Tau);
            CountWriter items = new(writer, GraphSide.Item, itemNodes.Length, UserWidth, ItemWidth, graph.Info.Tau);
            CountRows first = new(1, ItemWidth);
            CountRows second = new(1, UserWidth);
            int at = 0;
            for (int user = 0; user < userNodes.Length; user++)
            {
                Span<long> one = first[0];
                Span<long> two = second[0];
                one.Clear();
                two.Clear();
                userDeltas.TryGetValue(user, out long[]? userDelta);
                if (user < graph.Info.Users)
                {
                    graph.First(GraphSide.User, user).CopyTo(one);
                    graph.Second(GraphSide.User, user).CopyTo(two);
                }

                if (userDelta is not null)
                    TensorPrimitives.Add(one, userDelta, one);
                double bound = TensorPrimitives.Max<long>(two);
                if (user < graph.Info.Users)
                {
                    for (long p = graph.Starts[user]; p < graph.Starts[user + 1]; p++)
                    {
                        Pair pair = graph.Pairs[p];
                        long units = _scores.Units(pair.Mask);
                        if (itemDeltas.TryGetValue(pair.Item, out long[]? itemDelta))
                            bound += AddProduct(itemDelta, units, two);
                        if (userDelta is not null)
                            MacroCounts.CheckBound(bounds[pair.Item] += AddProduct(userDelta, units, itemSecond[pair.Item]));
                    }
                }

                for (; at < changes.Length && changes[at].User == user; at++)
                {
                    long delta = _scores.Units(changes[at].After) - _scores.Units(changes[at].Before);
                    int item = changes[at].Item;
                    bound += AddProduct(itemFirst[item], delta, two);
                    MacroCounts.CheckBound(bounds[item] += AddProduct(one, delta, itemSecond[item]));
                }

                MacroCounts.CheckBound(bound);
                users.Write(first, second, 1, _parallel);
                if (user % 4096 == 0)
                    Report(GraphStage.Counting, (double)user / userNodes.Length);
            }

            items.Write(itemFirst, itemSecond, itemNodes.Length, _parallel);
        }

        /// <summary>Adds a row times a number and returns what that adds to a count at most.</summary>
        private static double AddProduct(ReadOnlySpan<long> row, long units, Span<long> target)
        {
            TensorPrimitives.MultiplyAdd(row, units, target, target);
            return (double)TensorPrimitives.Max(row) * units;
        }

        private static long[] Row(Dictionary<int, long[]> rows, int node, int width) => CollectionsMarshal.GetValueRefOrAddDefault(rows, node, out _) ??= new long[width];

        private CountRows Load(GraphSide side, int nodes, int width, bool first)
        {
            CountRows rows = new(nodes, width);
            for (int node = 0; node < graph.Nodes(side); node++)
                (first ? graph.First(side, node) : graph.Second(side, node)).CopyTo(rows[node]);
            return rows;
        }
    }
}
