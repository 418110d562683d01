using System.Numerics.Tensors;
using CudaMoE.Data;

namespace CudaMoE.Graphs;

/// <summary>
/// Macro edges: first order a_u1 = S G_I and a_i1 = S^T G_U, second order a_u2 = S a_i1 and a_i2 = S^T a_u1, with S the merged matrix in units and G the
/// one-hot macro nodes. Two passes over the pairs, user after user; in memory are the counts of the items, those of the users only for a chunk. The counts are integers.
/// </summary>
internal sealed unsafe class MacroCounts
{
    private const int ChunkUsers = 1 << 11;
    private const double Largest = 9e18;
    private readonly Pair* _pairs;
    private readonly long[] _starts;
    private readonly MacroPlan _plan;
    private readonly ParallelOptions _parallel;

    public MacroCounts(Pair* pairs, long[] starts, MacroPlan plan, int threads, CancellationToken cancellation)
    {
        _pairs = pairs;
        _starts = starts;
        _plan = plan;
        _parallel = new() { MaxDegreeOfParallelism = threads, CancellationToken = cancellation };
    }

    /// <summary>Counts, and writes the sections of counts and weights.</summary>
    public void Write(GraphFileWriter writer, Action<double> report)
    {
        int users = _plan.UserNodes.Length;
        int items = _plan.ItemNodes.Length;
        int m = _plan.UserWidth;
        int n = _plan.ItemWidth;
        CountRows itemFirst = new(items, m);
        CountRows itemSecond = new(items, n);
        for (int user = 0; user < users; user++)
        {
            int macro = _plan.UserNodes[user];
            for (long p = _starts[user]; p < _starts[user + 1]; p++)
                itemFirst[_pairs[p].Item][macro] += _plan.Scores.Units(_pairs[p].Mask);
            if (user % ChunkUsers == 0)
                Report(report, 0.2 * _starts[user] / Math.Max(1, _starts[^1]));
        }

        CountWriter userRows = new(writer, GraphSide.User, users, n, m, _plan.Tau);
        CountWriter itemRows = new(writer, GraphSide.Item, items, m, n, _plan.Tau);
        CountRows first = new(Math.Min(users, ChunkUsers), n);
        CountRows second = new(Math.Min(users, ChunkUsers), m);
        double[] bounds = new double[items];
        long[] largest = itemFirst.Largest();
        for (int from = 0; from < users; from += ChunkUsers)
        {
            int to = Math.Min(users, from + ChunkUsers);
            CountUsers(from, to, itemFirst, largest, first, second);
            Scatter(from, to, first, itemSecond, bounds);
            userRows.Write(first, second, to - from, _parallel);
            Report(report, 0.2 + (0.7 * _starts[to] / Math.Max(1, _starts[^1])));
        }

        itemRows.Write(itemFirst, itemSecond, items, _parallel);
        Report(report, 1);
    }

    private void Report(Action<double> report, double done)
    {
        _parallel.CancellationToken.ThrowIfCancellationRequested();
        report(done);
    }

    private void CountUsers(int from, int to, CountRows itemFirst, long[] largest, CountRows first, CountRows second) =>
        Parallel.For(from, to, _parallel, user =>
        {
            Span<long> one = first[user - from];
            Span<long> two = second[user - from];
            one.Clear();
            two.Clear();
            double bound = 0;
            for (long p = _starts[user]; p < _starts[user + 1]; p++)
            {
                Pair pair = _pairs[p];
                long units = _plan.Scores.Units(pair.Mask);
                one[_plan.ItemNodes[pair.Item]] += units;
                TensorPrimitives.MultiplyAdd(itemFirst[pair.Item], units, two, two);
                bound += (double)units * largest[pair.Item];
            }

            CheckBound(bound);
        });

    // A thread takes the items of its residue, so that no two write to one row.
    private void Scatter(int from, int to, CountRows first, CountRows itemSecond, double[] bounds)
    {
        int threads = Math.Max(1, _parallel.MaxDegreeOfParallelism);
        long[] largest = first.Largest(to - from);
        Parallel.For(0, threads, _parallel, thread =>
        {
            for (int user = from; user < to; user++)
            {
                for (long p = _starts[user]; p < _starts[user + 1]; p++)
                {
                    Pair pair = _pairs[p];
                    if (pair.Item % threads != thread)
                        continue;
                    long units = _plan.Scores.Units(pair.Mask);
                    Span<long> two = itemSecond[pair.Item];
                    TensorPrimitives.MultiplyAdd(first[user - from], units, two, two);
                    CheckBound(bounds[pair.Item] += (double)units * largest[user - from]);
                }
            }
        });
    }

    internal static void CheckBound(double bound)
    {
        if (bound > Largest)
            throw new DataException("the macro counts of second order may pass 2^63 units; a smaller beta gives smaller scores");
    }
}

/// <summary>What macro counts are counted with.</summary>
/// <param name="UserNodes">Macro node of each user.</param>
/// <param name="ItemNodes">Macro node of each item.</param>
/// <param name="UserWidth">Macro nodes of users, the cold one included.</param>
/// <param name="ItemWidth">Macro nodes of items, the cold one included.</param>
/// <param name="Scores">Scores of pairs.</param>
/// <param name="Tau">Temperature of the weights.</param>
internal sealed record MacroPlan(int[] UserNodes, int[] ItemNodes, int UserWidth, int ItemWidth, PairScores Scores, double Tau);

/// <summary>Rows of counts, one after the other.</summary>
internal sealed class CountRows(int rows, int width)
{
    private readonly long[] _counts = Allocate(rows, width);

    public int Width => width;

    public Span<long> this[int row] => _counts.AsSpan(row * width, width);

    /// <summary>The largest count of each row.</summary>
    public long[] Largest(int? count = null)
    {
        long[] largest = new long[count ?? rows];
        for (int row = 0; row < largest.Length; row++)
            largest[row] = TensorPrimitives.Max<long>(this[row]);
        return largest;
    }

    private static long[] Allocate(int rows, int width) => (long)rows * width <= Array.MaxLength
        ? new long[rows * width]
        : throw new DataException($"{rows:N0} nodes with {width:N0} macro nodes need more than {Array.MaxLength:N0} counts, the most that a graph can hold; ask for fewer macro nodes");
}

/// <summary>Writes the counts of a side and the weights made of them.</summary>
internal sealed class CountWriter(GraphFileWriter writer, GraphSide side, int nodes, int first, int second, double tau)
{
    private readonly SectionWriter _first = writer.Begin<long>(MacroGraph.Name(side, "first"), (long)nodes * first);
    private readonly SectionWriter _second = writer.Begin<long>(MacroGraph.Name(side, "second"), (long)nodes * second);
    private readonly SectionWriter _weights = writer.Begin<float>(MacroGraph.Name(side, "weights"), (long)nodes * (first + second));

    public void Write(CountRows one, CountRows two, int rows, ParallelOptions parallel)
    {
        const int chunk = 1 << 11;
        int width = first + second;
        float[] weights = new float[Math.Min(rows, chunk) * width];
        for (int from = 0; from < rows; from += chunk)
        {
            int start = from;
            int count = Math.Min(chunk, rows - from);
            Parallel.For(0, count, parallel, row =>
            {
                Span<float> target = weights.AsSpan(row * width, width);
                MacroWeights.Compute(one[start + row], PairScores.Unit, tau, target[..first]);
                MacroWeights.Compute(two[start + row], (double)PairScores.Unit * PairScores.Unit, tau, target[first..]);
            });
            for (int row = 0; row < count; row++)
            {
                _first.Write<long>(one[from + row]);
                _second.Write<long>(two[from + row]);
            }

            _weights.Write<float>(weights.AsSpan(0, count * width));
        }
    }
}
